//! Deciding writes without waiting: what a loop with many writes on one thread needs.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{CreateOptions, Image, OpenOptions, WriteRun};

const CLUSTER: u64 = 64 << 10;

fn image() -> Image {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    cow_engine::create(&*storage, &CreateOptions::new(1 << 20)).unwrap();
    Image::open(storage, OpenOptions::new()).unwrap()
}

#[test]
fn first_writes_of_one_cluster_are_told_to_come_again() {
    let image = image();
    let first = image.try_begin_write(0, 512).unwrap().expect("nobody else is there");
    assert!(image.try_begin_write(4096, 512).unwrap().is_none(), "the same cluster");
    assert!(image.try_begin_write(0, 2 * CLUSTER).unwrap().is_none(), "and one more");
    let other = image.try_begin_write(CLUSTER, 512).unwrap().expect("another cluster");
    image.execute(first.plan(), &[1; 512]).unwrap();
    first.publish().unwrap();
    // Now it is there, and writes in place pass each other.
    let second = image.try_begin_write(4096, 512).unwrap().expect("the first is published");
    let third = image.try_begin_write(4096, 512).unwrap().expect("neither changes an entry");
    assert!(matches!(second.plan().runs(), [WriteRun::InPlace(_)]));
    drop((second, third));
    assert!(image.try_begin_write(CLUSTER + 512, 512).unwrap().is_none());
    drop(other);
    assert!(image.try_begin_write(CLUSTER + 512, 512).unwrap().is_some());
    image.close().unwrap();
}

#[test]
fn what_is_wrong_is_an_error_and_not_a_reason_to_come_again() {
    let image = image();
    let _held = image.try_begin_write(0, 512).unwrap();
    assert!(image.try_begin_write(1 << 20, 512).is_err());
}

#[test]
fn zeros_around_data_are_needed_where_the_host_cluster_was_used_before() {
    let image = image();
    let needed = |offset| {
        let pending = image.try_begin_write(offset, 512).unwrap().unwrap();
        let [WriteRun::Allocate(run)] = pending.plan().runs() else { panic!("not a first write") };
        let ranges: Vec<_> = [run.cow_start(), run.cow_end()].into_iter().flatten().collect();
        assert_eq!(ranges.len(), 2);
        ranges.iter().map(|range| image.cow_is_needed(run, range).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(needed(512), [false, false], "never written: reads as zeros");
    image.write_at(0, &[7; CLUSTER as usize]).unwrap();
    image.discard_at(0, CLUSTER).unwrap();
    image.flush().unwrap();
    image.flush().unwrap();
    let text = image.try_begin_write(512, 512).unwrap().unwrap().plan().to_string();
    assert!(!text.contains("fresh"), "the cluster was not given back: {text}");
    assert_eq!(needed(512), [true, true]);
}
