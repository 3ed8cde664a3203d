//! What an overlay says about its backing file, changed; and an overlay that gives everything up.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "../engine/images.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine, which use all of it")]
mod images;
#[path = "../engine/kinds.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine, which use all of it")]
mod kinds;
#[path = "../engine/power.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine, which use all of it")]
mod power;
#[path = "../engine/test_backing.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine, which use all of it")]
mod test_backing;

mod change;
mod change_crash;
mod empty;
mod empty_crash;
