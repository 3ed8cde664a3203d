//! Random histories: our programs, our library and the real tools take turns on one chain
//! `base <- o1 <- o2 <- ...`. After every step the bytes are those of a model, the real tool finds
//! the written layer sound, and the layers below are untouched.
//!
//! `QIMG_HISTORY_STEPS` makes it longer, `QIMG_SEED` repeats it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod history {
    mod change;
    mod hand;
    mod run;
    mod world;
}
