//! What must not overtake what, played move by move.

use std::sync::Arc;
use std::thread;

use qimg::chain::{Chain, Format, OpenOptions as ChainOptions};
use qimg::convert::{ConvertError, ConvertOptions, convert};
use qimg::engine::{CreateOptions, Image, OpenOptions, create};
use qimg::io::{GivenFiles, MemoryStorage, Storage};
use testkit::{Call, CallSet, Fault, FaultStorage, HoldStorage};

const CLUSTER: u64 = 65_536;

/// A new image of 16 MiB whose calls can be held.
fn held_image() -> (Arc<HoldStorage<MemoryStorage>>, Arc<Image>) {
    let storage = Arc::new(HoldStorage::new(MemoryStorage::new()));
    create(&*storage, &CreateOptions::new(16 << 20)).unwrap();
    let shared = Arc::clone(&storage) as Arc<dyn Storage>;
    (storage, Arc::new(Image::open(shared, OpenOptions::new()).unwrap()))
}

#[test]
fn a_late_punch_never_hits_the_next_owner_of_the_space() {
    let (storage, image) = held_image();
    image.write_at(0, &[1; 8 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    image.discard_at(0, 8 * CLUSTER).unwrap();
    storage.hold(CallSet::of(&[Call::PunchHole]));
    let flusher = {
        let image = Arc::clone(&image);
        thread::spawn(move || image.flush().unwrap())
    };
    storage.wait_for(1);
    // The hole is on its way. Whoever takes space now must not be under it.
    let writer = {
        let image = Arc::clone(&image);
        thread::spawn(move || image.write_at(2 << 20, &[2; 12 * CLUSTER as usize]).unwrap())
    };
    // Whether it waits for the hole or takes other space, it has time to be wrong.
    for _ in 0..100_000 {
        if writer.is_finished() {
            break;
        }
        thread::yield_now();
    }
    storage.release();
    flusher.join().unwrap();
    writer.join().unwrap();
    image.flush().unwrap();
    let mut bytes = vec![0; 12 * CLUSTER as usize];
    image.read_at(2 << 20, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 2), "the hole was punched into new data");
}

#[test]
fn a_read_that_fails_after_all_buffers_are_full_ends_the_copy() {
    // Many more pieces than buffers, whatever a piece is.
    const SIZE: usize = 32 << 20;
    let disk = MemoryStorage::from(&vec![1; SIZE][..]);
    let source = Arc::new(HoldStorage::new(FaultStorage::new(disk)));
    let files = GivenFiles::new()
        .with("source", Arc::clone(&source) as Arc<dyn Storage>)
        .with("target", Arc::new(MemoryStorage::from(&vec![0; SIZE][..])));
    let options = ChainOptions::new().format(Format::Raw).files(Arc::new(files));
    let target = Chain::open("target".as_ref(), &options).unwrap();
    let chain = Chain::open("source".as_ref(), &options.read_only(true)).unwrap();
    let readers = ConvertOptions::default().readers;
    source.hold_range(CallSet::of(&[Call::Read]), 0..1);
    source.inner().reset();
    let copy = thread::spawn(move || {
        convert(&[chain], &target, &ConvertOptions::default(), &|_| {}).map(|_| ())
    });
    source.wait_for(1);
    // All others wait for the first piece, with every buffer there is.
    while source.inner().counts().of(Call::Read) < 2 * readers as u64 - 1 {
        thread::yield_now();
    }
    source.inner().arm(Fault::nth(1, CallSet::of(&[Call::Read])).lasting());
    source.release();
    let failed = copy.join().unwrap();
    assert!(matches!(failed, Err(ConvertError::Read { offset: 0, .. })), "{failed:?}");
}
