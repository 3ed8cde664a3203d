//! Random histories of chain operations: our library, our program and the real `qemu-img` take turns at
//! snapshots, commits, streams, rebases and writes. After every turn each layer shows what a model says,
//! the real check finds nothing, and files that nobody was to change are byte for byte what they were.
//!
//! `QIMG_SURGERY_STEPS` makes it longer, `QIMG_SEED` repeats it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod surgery {
    mod act;
    mod cases;
    mod crash;
    mod files;
    mod memory;
    mod model;
    mod names;
    mod run;
    mod world;
}
