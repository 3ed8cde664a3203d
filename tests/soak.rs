//! Random histories of one image over all create options: the library, our programs and the real
//! ones take turns. After every turn the bytes are those of a model, the real check finds nothing,
//! ours counts the same, and both maps say the same of every byte.
//!
//! `cargo xtask soak --seconds N` goes on for as long as asked; a failure prints the seed of its
//! history, `cargo xtask soak --seed N` repeats that one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod soak {
    mod allocation;
    mod caught;
    mod extents;
    mod hand;
    mod history;
    mod judge;
    mod library;
    mod program;
    mod recipe;
    mod run;
    mod shrink;
    mod statistics;
    mod step;
    mod turn;
    mod twins;
    mod world;
}
