//! Locks and atomics of the whole crate, from one place: those of the standard library, or, when the
//! models are built, those of a checker that decides which thread goes on at each of them.
//!
//! `cargo xtask models` builds the unit tests with `--cfg shuttle`, where any interleaving of threads
//! may be tried, but memory is sequentially consistent; and with `--cfg loom`, where weak memory is
//! tried too, for the few lines that depend on it. A user of the crate never builds either.

#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, shuttle))]
mod shuttle;
#[cfg(not(all(test, any(loom, shuttle))))]
mod std;

#[cfg(all(test, loom))]
pub(crate) use self::loom::*;
#[cfg(all(test, shuttle))]
pub(crate) use self::shuttle::*;
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use self::std::*;

/// Divides what threads would otherwise fight for; with checkers, few parts mean few steps.
pub(crate) const fn parts(wanted: usize) -> usize {
    if cfg!(all(test, any(loom, shuttle))) { 2 } else { wanted }
}
