//! Failing host calls while a disk is resized: it has one size or the other, with the right bytes;
//! what failed can be asked for again, unless the header is in doubt.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, Error, Image, OpenOptions, Preallocation, ResizeOptions};
use testkit::{Arrives, CallSet, Fault, FaultStorage, ModelDisk, Pattern, fail_each_call};

use crate::census;
use crate::images::{self, memory, read_all};
use crate::kinds::{Data, Kind};
use crate::test_backing::{BrokenBacking, TestBacking};

/// A disk with data at its end, in the middle of a cluster, over a longer layer.
struct Start {
    storage: MemoryStorage,
    below: Vec<u8>,
    model: ModelDisk,
}

fn start(below: usize) -> Start {
    const SIZE: u64 = (100 << 10) + 512;
    let storage = memory(SIZE, 10);
    let below = Pattern::new(99).bytes(0, below);
    let mut model = ModelDisk::from_bytes(below.clone()).overlay(SIZE as usize);
    let image = images::open_over(&storage, backing(&below));
    for (offset, len) in [(0, 30 << 10), (70 << 10, 5000), (99 << 10, 1500)] {
        let bytes = Pattern::new(offset + 1).bytes(offset, len);
        image.write_at(offset, &bytes).unwrap();
        model.write(offset, &bytes);
    }
    image.close().unwrap();
    Start { storage: (*storage).clone(), below, model }
}

fn backing(below: &[u8]) -> Option<Arc<dyn Backing>> {
    (!below.is_empty()).then(|| Arc::new(TestBacking::new(below.to_vec())) as Arc<dyn Backing>)
}

fn open(storage: Arc<dyn Storage>, start: &Start) -> Result<Image, Error> {
    Image::open(storage, OpenOptions::new().backing(backing(&start.below)))
}

#[track_caller]
fn assert_either(image: &Image, before: &ModelDisk, after: &ModelDisk) {
    let found = read_all(image);
    let right = found == before.bytes() || found == after.bytes();
    assert!(right, "a disk of {} bytes shows wrong ones", found.len());
}

fn scenario(
    storage: &Arc<FaultStorage<MemoryStorage>>,
    start: &Start,
    size: u64,
    how: Preallocation,
) {
    let options = ResizeOptions::new().shrink(true).preallocation(how);
    let mut after = start.model.clone();
    after.resize(size as usize);
    let Ok(mut image) = open(Arc::<FaultStorage<_>>::clone(storage), start) else { return };
    let result = image.resize(size, options);
    if let Err(error) = &result {
        assert!(storage.fired() > 0 && matches!(error, Error::Storage { .. }), "{error}");
    }
    storage.heal();
    assert_either(&image, &start.model, &after);
    // Once more: it works, or nothing does any more.
    let again = if image.virtual_size() == size {
        result.and_then(|()| image.flush())
    } else {
        image.resize(size, options)
    };
    let given_up = image.flush().is_err();
    assert!(again.is_ok() || given_up || image.virtual_size() == size, "{again:?}");
    if !given_up {
        image.write_at(0, &[1; 512]).unwrap();
        image.write_at(0, &start.model.bytes()[..512]).unwrap();
        assert_eq!(read_all(&image), after.bytes());
    }
    let closed = image.close();
    assert!(closed.is_err() == given_up);
    let left = images::bytes(storage.inner());
    let leaks = census::assert_no_loss(&left);
    assert!(leaks == 0 || given_up, "{leaks} clusters leak");
    let mut image = open(Arc::new(MemoryStorage::from(&left[..])), start).unwrap();
    assert_either(&image, &start.model, &after);
    let options = if image.virtual_size() == size { ResizeOptions::new() } else { options };
    image.resize(size, options).unwrap();
    assert_eq!(read_all(&image), after.bytes());
}

fn fail_each(fault: impl Fn(u64) -> Fault + Copy) {
    for below in [0, 130 << 10] {
        let start = start(below);
        for (size, how) in [
            (300 << 10, Preallocation::Off),
            ((150 << 10) + 512, Preallocation::Metadata),
            (150 << 10, Preallocation::Falloc),
            (120 << 10, Preallocation::Full),
            ((20 << 10) + 512, Preallocation::Off),
            ((70 << 10) + 512, Preallocation::Off),
        ] {
            let play = |storage: &Arc<FaultStorage<MemoryStorage>>| {
                scenario(storage, &start, size, how);
            };
            let runs = fail_each_call(|| start.storage.clone(), fault, play);
            assert!(runs > 2, "{runs} calls could fail");
        }
    }
}

#[test]
fn each_call_fails_once() {
    fail_each(|nth| Fault::nth(nth, CallSet::ALL));
}

#[test]
fn the_disk_runs_full() {
    fail_each(|nth| Fault::nth(nth, CallSet::CHANGES).no_space().lasting());
}

#[test]
fn no_call_is_what_it_says() {
    // Done, and reported as failed; or done but for the last sector.
    fail_each(|nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS).arriving(Arrives::Everything));
    fail_each(|nth| Fault::nth(nth, CallSet::CHANGES).arriving(Arrives::AllButSector));
}

#[test]
fn every_sync_from_one_on_fails() {
    let syncs = CallSet::of(&[testkit::Call::Sync]);
    fail_each(|nth| Fault::nth(nth, syncs).lasting());
}

/// Both files of an image fail while its disk changes its size. Returns whether a call has failed.
fn resize_in_two_files(kind: Kind, size: u64, file: usize, fault: Fault) -> bool {
    let media = kind.memory();
    let image = kind.open(&media, None);
    let bytes = Pattern::new(3).bytes(0, 60 << 10);
    image.write_at(40 << 10, &bytes).unwrap();
    image.close().unwrap();
    let mut before = ModelDisk::new(kind.size as usize);
    before.write(40 << 10, &bytes);
    let mut after = before.clone();
    after.resize(size as usize);
    let media = media.wrapped(|file| FaultStorage::new((**file).clone()));
    let mut image = kind.open(&media, None);
    let failing = if file == 0 { &media.image } else { media.data.as_ref().unwrap() };
    failing.arm(fault);
    let result = image.resize(size, ResizeOptions::new().shrink(true));
    let failed = failing.fired() > 0;
    assert!(result.is_ok() || failed, "{result:?}");
    failing.heal();
    assert_either(&image, &before, &after);
    let given_up = image.flush().is_err();
    assert!(image.close().is_err() == given_up);
    let leaks = census::assert_no_loss(media.image.inner());
    assert!(leaks == 0 || given_up, "{leaks} clusters leak");
    let image = media.open_read_only(None).unwrap();
    assert_either(&image, &before, &after);
    if let (Data::Raw, Ok(()), Some(data)) = (kind.data, result, &media.data) {
        assert!(images::bytes(data.inner()) == after.bytes(), "the raw file shows something else");
    }
    failed
}

#[test]
fn calls_to_a_data_file_fail_too() {
    let ways: [fn(u64) -> Fault; 3] = [
        |nth| Fault::nth(nth, CallSet::ALL),
        |nth| Fault::nth(nth, CallSet::CHANGES).no_space().lasting(),
        |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS).arriving(Arrives::Everything),
    ];
    let standard = Kind::standard((100 << 10) + 512, 12);
    for kind in [standard.with_data(Data::Outside), standard.with_data(Data::Raw).lazy()] {
        for (size, file) in [(300 << 10, 0), (300 << 10, 1), (50 << 10, 0), (50 << 10, 1)] {
            for way in ways {
                let runs = (1..).take_while(|nth| resize_in_two_files(kind, size, file, way(*nth)));
                assert!(runs.count() > 0, "{kind:?}: nothing could fail");
            }
        }
    }
}

#[test]
fn each_change_is_half_done() {
    // Fields of the header lie within a sector, which is written whole or not at all.
    let changes = CallSet::of(&[testkit::Call::WriteZeroes, testkit::Call::Allocate]);
    fail_each_call(
        || start(0).storage,
        |nth| Fault::nth(nth, changes).partial(),
        |storage| scenario(storage, &start(0), 150 << 10, Preallocation::Falloc),
    );
}

#[test]
fn a_layer_that_cannot_be_read_stops_the_plan() {
    let storage = memory((64 << 10) + 512, 16);
    let before = images::bytes(&*storage);
    let mut image = images::open_over(&storage, Some(Arc::new(BrokenBacking)));
    let failed = image.resize(1 << 20, ResizeOptions::new());
    assert!(matches!(failed, Err(Error::Below { .. })), "{failed:?}");
    assert_eq!(image.virtual_size(), (64 << 10) + 512);
    image.close().unwrap();
    assert!(images::bytes(&*storage) == before, "the file has changed");
}
