//! Failing the first call, then the second, and so on, until a run passes.

use std::sync::Arc;

use block_io::Storage;

use super::{Fault, FaultStorage};

/// More calls than any test scenario makes; a loop that gets here does not end.
const CALLS_MAX: u64 = 100_000;

/// Runs `scenario` on a fresh storage from `make` again and again, with `fault(1)` armed, then
/// `fault(2)`, and so on, until it makes so few calls that no fault fires. Returns how many runs
/// had a fault. The number of the failed call goes to standard error, where a failed test shows
/// it.
///
/// The scenario gets the storage with the fault armed, and must check for itself what holds
/// after a failure: [`FaultStorage::fired`] says whether there was one, and
/// [`FaultStorage::heal`] lets it look at what is left.
///
/// # Panics
/// The loop does not end.
pub fn fail_each_call<S: Storage>(
    make: impl Fn() -> S,
    fault: impl Fn(u64) -> Fault,
    scenario: impl Fn(&Arc<FaultStorage<S>>),
) -> u64 {
    for nth in 1..=CALLS_MAX {
        let storage = Arc::new(FaultStorage::new(make()));
        let armed = fault(nth);
        eprintln!("failing call {nth}: {armed:?}");
        storage.arm(armed);
        scenario(&storage);
        if storage.fired() == 0 {
            return nth - 1;
        }
    }
    panic!("the scenario still meets its fault after {CALLS_MAX} calls");
}
