//! Faults fire where they should and nowhere else.

use block_io::{MemoryStorage, conformance};

use std::sync::Arc;

use super::*;

fn storage() -> FaultStorage<MemoryStorage> {
    FaultStorage::new(MemoryStorage::new())
}

#[test]
fn without_a_fault_it_conforms() {
    conformance::all(storage);
}

#[test]
fn the_nth_call_fails_once() {
    let storage = storage();
    storage.arm(Fault::nth(2, CallSet::CHANGES));
    storage.write_at(0, b"one").unwrap();
    storage.sync().unwrap();
    let error = storage.write_zeroes_at(1, 7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write zeros to 7 bytes at offset 1: Input/output error (os error 5)"
    );
    storage.write_at(0, b"two").unwrap();
    assert_eq!(storage.fired(), 1);
    assert_eq!(storage.inner().to_vec(), b"two");
}

#[test]
fn as_much_arrives_as_was_ordered() {
    for (arrives, expected) in [
        (Arrives::Nothing, &b"...."[..]),
        (Arrives::Half, b"ab.."),
        (Arrives::AllButSector, b"...."),
        (Arrives::Everything, b"abcd"),
    ] {
        let storage = storage();
        storage.write_at(0, b"....").unwrap();
        storage.arm(Fault::nth(1, CallSet::of(&[Call::Write])).arriving(arrives));
        storage.write_at(0, b"abcd").unwrap_err();
        assert_eq!(storage.inner().to_vec(), expected, "{arrives:?}");
        assert_eq!(storage.first_fired(), Some(Call::Write));
    }
    let storage = storage();
    storage.arm(Fault::nth(1, CallSet::of(&[Call::Write])).arriving(Arrives::AllButSector));
    storage.write_at(7, &[1; 1025]).unwrap_err();
    assert_eq!(storage.inner().to_vec().len(), 7 + 1024);
}

#[test]
fn a_lasting_fault_ends_by_healing() {
    let storage = storage();
    storage.arm(Fault::nth(1, CallSet::ALL).no_space().lasting());
    assert_eq!(storage.len().unwrap_err().raw_os_error(), Some(28));
    assert!(storage.sync().is_err() && storage.lock(Lock::none()).is_err());
    assert_eq!(storage.fired(), 3);
    storage.heal();
    assert_eq!(storage.len().unwrap(), 0);
}

#[test]
fn a_partial_write_leaves_its_first_half() {
    let storage = storage();
    storage.arm(Fault::nth(1, CallSet::CHANGES).partial().lasting());
    storage.write_at(0, b"abcdef").unwrap_err();
    assert_eq!(storage.inner().to_vec(), b"abc");
    let parts = [b"uv", b"wx"].map(|part| IoSlice::new(part));
    storage.write_vectored_at(1, &parts).unwrap_err();
    assert_eq!(storage.inner().to_vec(), b"auv");
    storage.write_zeroes_at(0, 4).unwrap_err();
    assert_eq!(storage.inner().to_vec(), b"\0\0v");
}

#[test]
fn calls_and_bytes_are_counted() {
    let storage = storage();
    storage.write_at(0, b"abc").unwrap();
    storage.write_vectored_at(3, &[IoSlice::new(b"de")]).unwrap();
    storage.read_at(0, &mut [0; 9]).unwrap();
    storage.sync().unwrap();
    let counts = storage.counts();
    assert_eq!(counts.to_string(), "Read 1, Write 2, Sync 1, 9 bytes read, 5 written");
    assert_eq!(counts.within(CallSet::CHANGES_AND_SYNCS), 3);
    storage.reset();
    assert_eq!(storage.counts(), Counts::default());
}

#[test]
fn each_call_fails_in_turn_until_a_run_passes() {
    let scenario = |storage: &Arc<FaultStorage<MemoryStorage>>| {
        let outcome = (0..5).try_for_each(|index| storage.write_at(index, b"x"));
        assert_eq!(outcome.is_err(), storage.fired() > 0);
    };
    let fault = |nth| Fault::nth(nth, CallSet::ALL);
    assert_eq!(fail_each_call(MemoryStorage::new, fault, scenario), 5);
}
