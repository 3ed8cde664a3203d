//! Models: small images on which a checker tries thousands of interleavings of a few threads, switching
//! at every lock, every atomic and every host call. Built and run by `cargo xtask models`.
//!
//! Whole images are judged by what their sectors show, at every read, in the end, after each flush
//! without anything that came later, and by the census of counts. Parts are judged by what they promise.
//!
//! A failure prints its schedule; `QIMG_MODEL_SCHEDULE` with that text, and the name of the model, plays
//! it again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod crafted;
mod explore;
mod parts;
mod stepping;
mod whole;
mod world;

#[path = "../engine/chronicle.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine")]
mod chronicle;
#[path = "../engine/images.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine")]
mod images;
#[path = "../engine/kinds.rs"]
mod kinds;
#[path = "../engine/test_backing.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine")]
mod test_backing;
