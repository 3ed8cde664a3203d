//! Power cuts over random histories of every kind of image. A history has several lives: each is
//! played on media whose every change is recorded, then the power goes at every instant, with each
//! pending change applied, dropped, torn or hollow, and one of the states that are left is where the
//! next life begins.
//!
//! `cargo xtask crash --seconds N` goes on for as long as asked; a failure prints the seed of its
//! history, `cargo xtask crash --seed N` plays that one again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod crash {
    mod below;
    #[path = "../soak/caught.rs"]
    mod caught;
    mod judge;
    mod life;
    mod play;
    mod player;
    mod recipe;
    mod reference;
    mod run;
    mod snapshot;
    mod start;
    mod totals;
    mod traps;
    mod writers;
}
