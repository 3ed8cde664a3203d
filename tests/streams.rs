//! Copies through pipes: random chains written from front to back, judged by the real tools.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "streams/image_in.rs"]
mod image_in;
#[path = "streams/out.rs"]
mod out;
#[path = "streams/raw_in.rs"]
mod raw_in;
#[path = "streams/world.rs"]
mod world;
