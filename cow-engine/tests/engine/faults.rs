//! Failing host calls, one by one: what is refused afterwards, and what can be asked for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, BelowError, Error, Image, OpenOptions, ResizeOptions, ZeroMode};
use testkit::{Arrives, Call, CallSet, Fault, FaultStorage, fail_each_call};

use crate::census;
use crate::images::{self, memory};
use crate::kinds::{Data, Kind};
use crate::test_backing::{BrokenBacking, TestBacking};

#[test]
fn a_failed_flush_poisons_and_reads_go_on() {
    let storage = Arc::new(FaultStorage::new((*memory(1 << 20, 16)).clone()));
    let image = images::open(&storage);
    image.write_at(0, &[1; 512]).unwrap();
    storage.arm(Fault::nth(1, CallSet::of(&[Call::Sync])));
    assert!(matches!(image.flush(), Err(Error::Storage { .. })));
    let changes = storage.counts().within(CallSet::CHANGES);
    let first = image.write_at(0, &[2; 512]).unwrap_err();
    insta::assert_snapshot!(first, @"image given up after an earlier failure: sync: cannot make the file durable: Input/output error (os error 5)");
    assert!(image.write_zeroes_at(0, 512, ZeroMode::Keep).is_err());
    assert!(image.begin_write(0, 512).is_err());
    assert!(image.flush().is_err());
    assert_eq!(images::read(&image, 0, 512), [1; 512]);
    assert!(image.close().is_err());
    assert_eq!(storage.counts().within(CallSet::CHANGES), changes, "CE-5: nothing was written");
}

/// A call that fails in the middle of a flush, and what nobody may do afterwards.
#[test]
fn nothing_at_all_reaches_the_disk_after_a_failure() {
    const CLUSTER: u64 = 4096;
    let kinds = [
        Kind::standard(1 << 20, 12),
        Kind::standard(1 << 20, 12).lazy(),
        Kind::extended(1 << 20, 14),
        Kind::standard(1 << 20, 12).with_data(Data::Outside),
        Kind::extended(1 << 20, 14).with_data(Data::Raw).lazy(),
    ];
    let mut ended = 0;
    for (kind, nth) in kinds.into_iter().flat_map(|kind| (1..8).map(move |nth| (kind, nth))) {
        let media = kind.memory().wrapped(|file| FaultStorage::new((**file).clone()));
        let files = || std::iter::once(&media.image).chain(&media.data);
        let mut image = kind.open(&media, None);
        image.write_at(0, &[1; 8 * CLUSTER as usize]).unwrap();
        image.flush().unwrap();
        image.write_at(20 * CLUSTER, &[2; 4 * CLUSTER as usize]).unwrap();
        image.discard_at(0, 4 * CLUSTER).unwrap();
        let pending = image.begin_write(40 * CLUSTER, CLUSTER).unwrap();
        files().for_each(|file| file.arm(Fault::nth(nth, CallSet::CHANGES_AND_SYNCS)));
        let flushed = image.flush();
        let errno = 5;
        files().for_each(|file| file.heal());
        if flushed.is_ok() {
            // The fault was that of a hole, or came too late.
            continue;
        }
        ended += 1;
        files().for_each(|file| file.reset());
        let shown = images::read_all(&image);
        assert!(image.execute(pending.plan(), &[3; CLUSTER as usize]).is_err());
        assert_eq!(pending.publish().unwrap_err().raw_os_error(), Some(errno));
        for refused in [
            image.write_at(20 * CLUSTER, &[3; 512]),
            image.write_at(100 * CLUSTER, &[3; 512]),
            image.write_zeroes_at(20 * CLUSTER, CLUSTER, ZeroMode::Keep),
            image.write_zeroes_at(0, 1 << 20, ZeroMode::Unmap),
            image.discard_at(0, 1 << 20),
            image.write_blob(120 * CLUSTER, &[3; 100]),
            image.begin_write(0, 512).map(drop),
            image.flush(),
            image.flush_traced().map(drop),
            image.resize(2 << 20, ResizeOptions::new()),
            image.resize(1 << 19, ResizeOptions::new().shrink(true)),
        ] {
            let Err(Error::Poisoned(first)) = refused else { panic!("{kind:?}: {refused:?}") };
            assert_eq!(first.raw_os_error(), Some(errno), "{kind:?}: {first}");
        }
        assert!(images::read_all(&image) == shown, "reads go on as before");
        if nth % 2 == 0 {
            assert_eq!(image.close().unwrap_err().raw_os_error(), Some(errno));
        } else {
            drop(image);
        }
        for file in files() {
            let counts = file.counts();
            assert_eq!(counts.within(CallSet::CHANGES_AND_SYNCS), 0, "CE-5: {kind:?}: {counts}");
        }
    }
    assert!(ended >= 15, "{ended} flushes have failed");
}

#[test]
fn a_pending_write_cannot_be_published_after_the_end() {
    let storage = Arc::new(FaultStorage::new((*memory(1 << 20, 16)).clone()));
    let image = images::open(&storage);
    let pending = image.begin_write(0, 512).unwrap();
    image.execute(pending.plan(), &[1; 512]).unwrap();
    storage.arm(Fault::nth(1, CallSet::of(&[Call::Sync])));
    image.flush().unwrap_err();
    assert!(matches!(pending.publish(), Err(Error::Poisoned(_))));
    assert_eq!(images::read(&image, 0, 512), [0; 512]);
}

#[test]
fn no_room_for_an_l2_table_is_no_end() {
    let storage = Arc::new(FaultStorage::new((*memory(1 << 20, 16)).clone()));
    let image = images::open(&storage);
    storage.arm(Fault::nth(1, CallSet::of(&[Call::WriteZeroes])).no_space());
    let error = image.write_at(0, &[1; 512]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(28), "{error}");
    // Somebody made room: the same write succeeds, and the cluster is not lost.
    image.write_at(0, &[1; 512]).unwrap();
    image.close().unwrap();
    census::assert_clean(&images::bytes(storage.inner()));
}

/// Where a write would put its clusters.
fn places(image: &Image, offset: u64, len: u64) -> Vec<u64> {
    let pending = image.begin_write(offset, len).unwrap();
    pending.plan().runs().iter().map(|run| run.host().get()).collect()
}

#[test]
fn clusters_of_a_write_that_found_no_room_are_the_next_ones() {
    let below = || Some(Arc::new(TestBacking::new(vec![7; 1 << 20])) as Arc<dyn Backing>);
    let standard = Kind::standard(1 << 20, 16);
    for kind in [standard, standard.lazy(), Kind::extended(1 << 20, 16), standard.width(0)] {
        let media = kind.memory().wrapped(|file| FaultStorage::new((**file).clone()));
        let image = kind.open(&media, below());
        // The table is made by the first one, and stays.
        image.write_at(15 << 16, &[1; 512]).unwrap();
        let expected = places(&image, 0x1_8000, 0x2_0000);
        let used = media.image.len().unwrap();
        for arrives in [Arrives::Nothing, Arrives::Half, Arrives::Everything] {
            let fault = Fault::nth(1, CallSet::of(&[Call::Write])).no_space().arriving(arrives);
            media.image.arm(fault);
            let error = image.write_at(0x1_8000, &[2; 0x2_0000]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(28), "{error}");
            assert_eq!(images::read(&image, 0x1_0000, 0x3_0000), [7; 0x3_0000]);
            assert_eq!(places(&image, 0x1_8000, 0x2_0000), expected, "{kind:?}");
            // A cluster that something arrived in is not taken for one of zeros.
            let pending = image.begin_write(0x1_8000, 512).unwrap();
            assert!(
                !pending.plan().to_string().contains("fresh"),
                "{arrives:?}: {}",
                pending.plan()
            );
        }
        image.write_at(0x1_8000, &[2; 0x2_0000]).unwrap();
        let end = used.next_multiple_of(0x1_0000) + 3 * 0x1_0000;
        assert!(media.image.len().unwrap() <= end, "the file grows for nothing");
        image.close().unwrap();
        census::assert_clean(media.image.inner());
    }
}

#[test]
fn blobs_that_found_no_room_leave_none_behind() {
    let storage = Arc::new(FaultStorage::new((*memory(1 << 20, 16)).clone()));
    let image = images::open(&storage);
    image.write_blob(0, &[1; 1000]).unwrap();
    for number in 0..50 {
        // Next to the first one, and in a cluster of its own.
        let len = if number % 2 == 0 { 1000 } else { 65_000 };
        storage.arm(Fault::nth(1, CallSet::of(&[Call::Write])).no_space().partial());
        image.write_blob(0x1_0000, &vec![2; len]).unwrap_err();
    }
    image.write_blob(0x1_0000, &[3; 1000]).unwrap();
    image.close().unwrap();
    census::assert_clean(storage.inner());
    let clusters = storage.inner().len().unwrap().div_ceil(0x1_0000);
    assert!(clusters <= 7, "{clusters} clusters for two blobs");
}

/// A layer of which the `nth` request fails, and no other.
#[derive(Debug)]
struct FailingBacking {
    layer: TestBacking,
    left: AtomicU64,
}

impl FailingBacking {
    fn ask(&self) -> Result<(), BelowError> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            1 => BrokenBacking.read_at(0, &mut []),
            _ => Ok(()),
        }
    }
}

impl Backing for FailingBacking {
    fn virtual_size(&self) -> u64 {
        self.layer.virtual_size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        self.ask()?;
        self.layer.read_at(offset, buf)
    }

    fn reads_as_zeros(&self, offset: u64, len: u64) -> Result<bool, BelowError> {
        self.ask()?;
        self.layer.reads_as_zeros(offset, len)
    }
}

#[test]
fn a_layer_that_cannot_be_read_stops_a_copy_and_nothing_else() {
    const SIZE: usize = 1 << 20;
    for kind in [Kind::standard(SIZE as u64, 16), Kind::extended(SIZE as u64, 16)] {
        let mut failed = 0;
        for nth in 1..30 {
            let media = kind.memory();
            let left = AtomicU64::new(nth);
            let layer = FailingBacking { layer: TestBacking::new(vec![7; SIZE]), left };
            let image = kind.open(&media, Some(Arc::new(layer)));
            let mut expected = vec![7; SIZE];
            for (number, at) in [100, 0x2_8000, 0x5_fff0, 100_000].into_iter().enumerate() {
                let bytes = [number as u8 + 1; 20_000];
                match image.write_at(at, &bytes) {
                    Ok(()) => expected[at as usize..][..20_000].copy_from_slice(&bytes),
                    Err(error) => {
                        assert!(matches!(error, Error::Below { .. }), "{error}");
                        failed += 1;
                    }
                }
                let zeroed = image.write_zeroes_at(at + 30_000, 3000, ZeroMode::Unmap);
                if zeroed.is_ok() {
                    expected[at as usize + 30_000..][..3000].fill(0);
                } else {
                    failed += 1;
                    // Old bytes or zeros: in whole subclusters first.
                    image.write_zeroes_at(at + 30_000, 3000, ZeroMode::Unmap).unwrap();
                    expected[at as usize + 30_000..][..3000].fill(0);
                }
            }
            image.close().unwrap();
            census::assert_clean(&*media.image);
            let layer = Arc::new(TestBacking::new(vec![7; SIZE]));
            let found = images::read_all(&kind.open(&media, Some(layer)));
            assert!(found == expected, "request {nth} of the layer: {kind:?}");
        }
        assert!(failed > 5, "{failed} requests have failed");
    }
}

#[test]
fn counts_that_cannot_be_read_are_given_back_later() {
    // Blocks that count 64 clusters each, of which the fewest are kept.
    let kind = Kind::standard(1 << 20, 9).width(6);
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 512 << 10]).unwrap();
    image.close().unwrap();
    let media = media.wrapped(|file| FaultStorage::new((**file).clone()));
    let options = OpenOptions::new().refcount_cache_bytes(0);
    let image = Arc::<FaultStorage<MemoryStorage>>::clone(&media.image);
    let image = Image::open(image, options).unwrap();
    let pending = image.begin_write(600 << 10, 8 << 10).unwrap();
    // New blocks come, and those of this write go once they are written.
    image.write_at(700 << 10, &[2; 300 << 10]).unwrap();
    image.flush().unwrap();
    media.image.arm(Fault::nth(1, CallSet::of(&[Call::Read])).lasting());
    drop(pending);
    assert!(media.image.fired() > 0, "nothing had to be read");
    media.image.heal();
    image.close().unwrap();
    census::assert_clean(media.image.inner());
}

#[test]
fn plans_carried_out_by_others_are_synced_too() {
    let storage = Arc::new(FaultStorage::new((*memory(1 << 20, 16)).clone()));
    let image = images::open(&storage);
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    storage.reset();
    let pending = image.begin_write(0, 512).unwrap();
    let host = pending.plan().runs()[0].host();
    // The engine does not see this write.
    storage.inner().write_at(host.get(), &[2; 512]).unwrap();
    pending.publish().unwrap();
    image.flush().unwrap();
    assert_eq!(storage.counts().of(Call::Sync), 1, "the data is not durable");
}

#[test]
fn a_clean_close_syncs_the_counts_that_fell() {
    let storage = Arc::new(FaultStorage::new((*memory(1 << 20, 16)).clone()));
    let image = images::open(&storage);
    image.write_at(0, &[1; 65536]).unwrap();
    image.flush().unwrap();
    image.write_zeroes_at(0, 65536, ZeroMode::Unmap).unwrap();
    storage.reset();
    image.close().unwrap();
    // Entries, then counts.
    assert_eq!(storage.counts().of(Call::Sync), 2);
}

/// An image of 512-byte clusters whose next few clusters need a larger refcount table.
pub(crate) fn nearly_full() -> MemoryStorage {
    let storage = memory(16 << 20, 9);
    let image = images::open(&storage);
    let mut at = 0;
    while storage.len().unwrap() < (8 << 20) - 6 * 512 {
        let room = (8 << 20) - storage.len().unwrap();
        let len = if room > 200 << 10 { 64 << 10 } else { 512 };
        image.write_at(at, &vec![1; len]).unwrap();
        at += len as u64;
    }
    image.close().unwrap();
    census::assert_clean(&images::bytes(&*storage));
    (*storage).clone()
}

#[test]
fn growth_of_the_refcount_table_fails_at_any_call() {
    let start = nearly_full();
    let ways: [fn(u64) -> Fault; 4] = [
        |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS),
        |nth| Fault::nth(nth, CallSet::CHANGES).no_space().lasting(),
        // Whole sectors: half of the header update would be a torn one.
        |nth| Fault::nth(nth, CallSet::CHANGES).no_space().arriving(Arrives::AllButSector),
        |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS).arriving(Arrives::Everything),
    ];
    let scenario = |storage: &Arc<FaultStorage<MemoryStorage>>| {
        let image = images::open(storage);
        let at = 12 << 20;
        let mut flushed = false;
        let done = (0..12).try_for_each(|number| {
            image.write_at(at + number * 512, &[9; 512])?;
            if number == 8 {
                image.flush()?;
                flushed = true;
            }
            Ok::<_, Error>(())
        });
        let closed = done.and_then(|()| image.close());
        storage.heal();
        let left = images::bytes(storage.inner());
        census::assert_no_loss(&left);
        let left = Arc::new(MemoryStorage::from(&left[..]));
        let image = images::open_read_only(&left, None);
        let found = images::read(&image, at, 12 * 512);
        assert!(found.iter().all(|byte| [0, 9].contains(byte)));
        assert!(!flushed || found[..9 * 512] == [9; 9 * 512]);
        assert!(closed.is_err() || found == [9; 12 * 512]);
    };
    for way in ways {
        assert!(fail_each_call(|| start.clone(), way, scenario) > 8);
    }
}

/// An image whose second cluster has a damaged entry, which a read of it finds.
fn damaged() -> MemoryStorage {
    let memory = memory(1 << 20, 16);
    let image = images::open(&memory);
    image.write_at(0, &[1; 2 * 65536]).unwrap();
    image.close().unwrap();
    let entry = images::l2_entry_at(&*memory, 65536);
    images::poke(&*memory, entry, |entry| entry | 512);
    (*memory).clone()
}

#[test]
fn damage_that_is_found_after_a_failure_is_told_and_not_written_down() {
    // The first write is that of the dirty bit, the second an entry without its count.
    let writes = CallSet::of(&[Call::Write]);
    for fault in [
        Fault::nth(2, writes).partial(),
        Fault::nth(1, CallSet::of(&[Call::Sync])),
        Fault::nth(2, CallSet::of(&[Call::Sync])),
    ] {
        let storage = Arc::new(FaultStorage::new(damaged()));
        let options = OpenOptions::new().lazy_refcounts(true);
        let image =
            Image::open(Arc::<FaultStorage<MemoryStorage>>::clone(&storage), options).unwrap();
        image.write_at(3 * 65536, &[2; 512]).unwrap();
        storage.arm(fault);
        image.flush().unwrap_err();
        assert_eq!(storage.fired(), 1);
        let left = images::bytes(storage.inner());
        storage.reset();
        let found = image.read_at(65536, &mut [0; 512]).unwrap_err();
        assert!(matches!(found, Error::Entry(_)), "{found}");
        let first = image.write_at(0, &[3; 512]).unwrap_err();
        assert!(first.raw_os_error() == Some(5), "the failure came first: {first}");
        image.close().unwrap_err();
        let counts = storage.counts();
        assert_eq!(counts.within(CallSet::CHANGES_AND_SYNCS), 0, "CE-5: {counts}");
        // The dirty bit stays: whoever opens it next repairs it, and finds the damage.
        assert_eq!(images::word(storage.inner(), 72), 1);
        assert!(images::bytes(storage.inner()) == left);
    }
}

#[test]
fn a_mark_of_damage_that_fails_ends_all_writing() {
    for fault in [CallSet::of(&[Call::Write]), CallSet::of(&[Call::Sync])] {
        let storage = Arc::new(FaultStorage::new(damaged()));
        let image = images::open(&storage);
        image.write_at(0, &[2; 512]).unwrap();
        storage.arm(Fault::nth(1, fault));
        let found = image.read_at(65536, &mut [0; 512]).unwrap_err();
        assert!(matches!(found, Error::Entry(_)), "{found}");
        assert_eq!(storage.fired(), 1);
        storage.reset();
        // The sync may have failed over the write before: a flush must not vouch for it.
        let refused = image.flush().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(5), "{refused}");
        image.close().unwrap_err();
        let counts = storage.counts();
        assert_eq!(counts.within(CallSet::CHANGES_AND_SYNCS), 0, "CE-5: {counts}");
    }
}
