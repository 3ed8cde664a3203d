//! `Pool`: rings for threads that wait for what they asked for. Each has one for itself meanwhile.

use core::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::ring::Ring;
use crate::Result;

/// Rings that are made when they are needed and used again.
#[derive(Debug)]
pub(super) struct Pool {
    depth: u32,
    rings_max: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug)]
struct State {
    idle: Vec<Ring>,
    /// Rings there are, in use or not.
    made: usize,
}

/// A ring in use.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    ring: Option<Ring>,
}

impl Pool {
    /// A pool that has its first ring, so that a host without any is found out.
    pub(super) fn new(depth: u32, rings_max: usize) -> Result<Self> {
        let first = Ring::new(depth)?;
        let state = Mutex::new(State { idle: vec![first], made: 1 });
        Ok(Self { depth, rings_max: rings_max.max(1), state, returned: Condvar::new() })
    }

    /// A ring nobody else uses. Waits for one when there are enough, or the host has no more.
    pub(super) fn lease(&self) -> Lease<'_> {
        let mut state = self.lock();
        let mut host_has_more = true;
        loop {
            if let Some(ring) = state.idle.pop() {
                return Lease { pool: self, ring: Some(ring) };
            }
            if state.made < self.rings_max && host_has_more {
                state.made += 1;
                drop(state);
                match Ring::new(self.depth) {
                    Ok(ring) => return Lease { pool: self, ring: Some(ring) },
                    // Memory for rings is limited; there is at least one.
                    Err(_) => host_has_more = false,
                }
                state = self.lock();
                state.made -= 1;
                continue;
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Lease<'_> {
    type Target = Ring;

    #[expect(clippy::expect_used, reason = "the ring is only taken by drop")]
    fn deref(&self) -> &Ring {
        self.ring.as_ref().expect("a lease has its ring")
    }
}

impl DerefMut for Lease<'_> {
    #[expect(clippy::expect_used, reason = "the ring is only taken by drop")]
    fn deref_mut(&mut self) -> &mut Ring {
        self.ring.as_mut().expect("a lease has its ring")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(ring) = self.ring.take() {
            self.pool.lock().idle.push(ring);
            self.pool.returned.notify_one();
        }
    }
}
