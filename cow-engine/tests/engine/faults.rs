//! Failing host calls: each call of a history fails in turn. Never a wrong byte, never a panic; a
//! failed write gives its clusters back; a failed flush poisons, and what was flushed before is on
//! the disk.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, Error, Image, OpenOptions, ZeroMode};
use testkit::{Call, CallSet, Fault, FaultStorage, ModelDisk, Pattern, fail_each_call};

use crate::census;
use crate::images::{self, memory};
use crate::kinds::{Data, Kind, Media};
use crate::power::complaint;
use crate::test_backing::TestBacking;

const SIZE: u64 = 140 << 10;

#[derive(Clone, Copy)]
enum Step {
    Write(u64, u64),
    Zero(u64, u64, ZeroMode),
    Discard(u64, u64),
    /// A compressed write of the cluster that holds this byte.
    Blob(u64),
    Flush,
}

/// Every kind of change, small clusters: new L2 tables and refcount blocks on the way.
const HISTORY: &[Step] = &[
    Step::Write(100, 700),
    Step::Write(0x8000 - 300, 900),
    Step::Flush,
    Step::Write(200, 4000),
    Step::Blob(0x2000),
    Step::Zero(0x300, 0x900, ZeroMode::Keep),
    Step::Write(0x2000, 100),
    Step::Flush,
    Step::Write(0x400, 300),
    Step::Zero(0x8000 - 512, 1024, ZeroMode::Unmap),
    Step::Write(40 << 10, 30 << 10),
    Step::Zero(50 << 10, 10 << 10, ZeroMode::Unmap),
    Step::Blob(0x1_8000),
    Step::Flush,
    Step::Discard(0x1_0000, 0x9000),
    Step::Flush,
    Step::Write(70 << 10, 65 << 10),
    Step::Write(300, 3000),
    Step::Flush,
];

/// What an image may show: every byte is one of those that these disks have there.
struct Possible {
    now: Vec<ModelDisk>,
    /// Everything the guest may have seen since the last flush that succeeded.
    since_flush: Vec<ModelDisk>,
}

#[track_caller]
fn assert_possible(possible: &[ModelDisk], found: &[u8]) {
    for (number, sector) in found.chunks(512).enumerate() {
        let start = number * 512;
        let expected = |disk: &ModelDisk| disk.bytes()[start..start + sector.len()] == *sector;
        if possible.iter().any(expected) {
            continue;
        }
        // A sector written in part may mix old and new bytes.
        for (index, byte) in sector.iter().enumerate() {
            let known = possible.iter().any(|disk| disk.bytes()[start + index] == *byte);
            assert!(known, "offset {:#x}: {byte:#x} was never there", start + index);
        }
    }
}

impl Possible {
    fn new(start: ModelDisk) -> Self {
        Self { now: vec![start.clone()], since_flush: vec![start] }
    }

    /// A change that succeeded, or that failed and may have happened in part.
    fn apply(&mut self, result: &Result<(), Error>, change: impl Fn(&mut ModelDisk)) {
        use Error::{Allocated, Plan, Poisoned};
        if matches!(result, Err(Poisoned(_) | Plan { .. } | Allocated { .. })) {
            // Refused before it began.
            return;
        }
        let mut changed = self.now.clone();
        changed.iter_mut().for_each(change);
        if result.is_ok() {
            self.now = changed;
        } else {
            self.now.extend(changed);
        }
        self.since_flush.extend(self.now.iter().cloned());
    }
}

fn step(image: &Image, possible: &mut Possible, step: Step, number: usize) -> Result<(), Error> {
    match step {
        Step::Write(offset, len) => {
            let bytes = Pattern::new(number as u64).bytes(offset, len as usize);
            let result = image.write_at(offset, &bytes);
            possible.apply(&result, |disk| disk.write(offset, &bytes));
            result
        }
        Step::Zero(offset, len, mode) => {
            let result = image.write_zeroes_at(offset, len, mode);
            possible.apply(&result, |disk| disk.zero(offset, len as usize));
            result
        }
        Step::Discard(offset, len) => {
            let result = image.discard_at(offset, len);
            let cluster = image.geometry().cluster_bytes();
            let (start, end) =
                (offset.next_multiple_of(cluster), (offset + len) / cluster * cluster);
            possible.apply(&result, |disk| disk.zero(start, end.saturating_sub(start) as usize));
            result
        }
        Step::Blob(offset) => {
            let offset = image.geometry().cluster_start(offset);
            let bytes = vec![number as u8; image.geometry().cluster_bytes() as usize];
            let mut compressor = image.compressor()?;
            let result = image.write_compressed_at(&mut compressor, offset, &bytes);
            possible.apply(&result, |disk| disk.write(offset, &bytes));
            result
        }
        Step::Flush => {
            let result = image.flush();
            if result.is_ok() {
                possible.since_flush.clone_from(&possible.now);
            }
            result
        }
    }
}

fn read_all(image: &Image) -> Vec<u8> {
    images::read(image, 0, image.virtual_size() as usize)
}

/// Whether a call has failed.
fn fired(media: &Media<FaultStorage<MemoryStorage>>) -> bool {
    std::iter::once(&media.image).chain(&media.data).any(|file| file.fired() > 0)
}

/// Plays the history on files that may fail, and judges what is left. Returns whether a call has
/// failed.
fn scenario(kind: Kind, media: &Media<FaultStorage<MemoryStorage>>, before: &[u8]) -> bool {
    let base = if kind.data == Data::Raw { vec![] } else { Pattern::new(77).bytes(0, 60_000) };
    let backing: Option<Arc<dyn Backing>> =
        (kind.data != Data::Raw).then(|| Arc::new(TestBacking::new(base.clone())) as Arc<_>);
    let mut possible = Possible::new(ModelDisk::from_bytes(base).overlay(SIZE as usize));
    let files = || std::iter::once(&media.image).chain(&media.data);
    let fired = || fired(media);
    let image = match kind.try_open(media, backing.clone()) {
        Ok(image) => image,
        Err(error) => {
            assert!(matches!(error, Error::Storage { .. }), "{error}");
            assert!(images::bytes(media.image.inner()) == before, "CE-6: the file has changed");
            return true;
        }
    };
    let mut poisoned = false;
    for (number, &this) in HISTORY.iter().enumerate() {
        let result = step(&image, &mut possible, this, number + 1);
        if let Err(error) = &result {
            let expected = match error {
                Error::Poisoned(_) => poisoned,
                Error::Storage { .. } => !poisoned,
                // A blob that failed half way may have left its cluster in place.
                Error::Allocated { .. } => true,
                Error::Plan { .. } => media.data.is_some() && matches!(this, Step::Blob(_)),
                _ => false,
            };
            assert!(expected, "{error}");
        }
        if fired() {
            files().for_each(|file| file.heal());
            poisoned |= matches!(image.flush(), Err(Error::Poisoned(_)));
            assert_possible(&possible.now, &read_all(&image));
            if !poisoned {
                possible.since_flush.clone_from(&possible.now);
            }
        }
        assert!(!poisoned || result.is_err(), "CE-5: poisoned images accept nothing");
    }
    let closed = image.close();
    assert!(closed.is_ok() || fired());
    assert!(closed.is_err() || !poisoned);
    let clean = closed.is_ok();
    let failed = fired();
    files().for_each(|file| file.heal());
    judge_left(
        kind,
        media,
        backing,
        if clean { &possible.now } else { &possible.since_flush },
        clean,
    );
    failed
}

/// Nothing is lost that was flushed, and nothing at all when all went well in the end.
fn judge_left(
    kind: Kind,
    media: &Media<FaultStorage<MemoryStorage>>,
    backing: Option<Arc<dyn Backing>>,
    expected: &[ModelDisk],
    clean: bool,
) {
    let left = images::bytes(media.image.inner());
    let census = census::take(&left);
    assert_eq!(complaint(&census), None);
    assert!(!census.dirty || kind.lazy_refcounts && !clean, "marked dirty");
    let leaks = census.leaks;
    assert!(!clean || leaks == 0, "{leaks} clusters leak though all went well in the end");
    let found = read_all(&media.open_read_only(backing).unwrap());
    assert_possible(expected, &found);
    if let (Data::Raw, Some(data)) = (kind.data, &media.data) {
        let raw = images::bytes(data.inner());
        assert_possible(expected, &raw);
        // What failed may be there in part; only the guest is told of zeros by the entry.
        assert!(fired(media) || raw == found, "the raw file shows something else");
    }
}

/// Fails one call after the other, of the image file and then of the data file.
pub(crate) fn fail_each_of(kind: Kind, fault: impl Fn(u64) -> Fault) {
    let kind = Kind { size: SIZE, ..kind };
    let start = kind.memory();
    let before = images::bytes(&*start.image);
    for file in 0..1 + usize::from(start.data.is_some()) {
        for nth in 1.. {
            let media = start.wrapped(|file| FaultStorage::new((**file).clone()));
            let failing = if file == 0 { &media.image } else { media.data.as_ref().unwrap() };
            failing.arm(fault(nth));
            eprintln!("failing call {nth} of file {file}: {kind:?}");
            if !scenario(kind, &media, &before) {
                assert!(nth > 3, "{nth} calls could fail");
                break;
            }
        }
    }
}

fn fail_each(fault: impl Fn(u64) -> Fault) {
    fail_each_of(Kind::standard(SIZE, 9), fault);
}

#[test]
fn each_call_fails_once() {
    fail_each(|nth| Fault::nth(nth, CallSet::ALL));
}

#[test]
fn each_change_is_half_done() {
    fail_each(|nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS).partial());
}

#[test]
fn the_disk_runs_full() {
    fail_each(|nth| Fault::nth(nth, CallSet::CHANGES).no_space().lasting());
}

#[test]
fn every_sync_from_one_on_fails() {
    fail_each(|nth| Fault::nth(nth, CallSet::of(&[Call::Sync])).lasting());
}

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
    // Whole calls only: half of the header update would be a torn sector.
    let fault = |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS);
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
    assert!(fail_each_call(|| start.clone(), fault, scenario) > 8);
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
