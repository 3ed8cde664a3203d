//! Resizing as users of the engine see it: contents, plans, order on disk, crashes, faults, and
//! what the real tools say.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "../engine/images.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine, which use all of it")]
mod images;
#[path = "../engine/kinds.rs"]
mod kinds;
#[path = "../engine/power.rs"]
mod power;
#[path = "../engine/test_backing.rs"]
mod test_backing;

mod crash;
mod faults;
mod histories;
mod plans;
mod traps;

use testkit::census;
