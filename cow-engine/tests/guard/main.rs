//! The guard: whatever the tables of an image say, no write ever lands on a structure that is not
//! its own. Every structure is pointed at by every kind of pointer, and every kind of change is
//! tried.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod counts;
mod entries;
mod growth;
mod reference;
mod shrinking;
mod tables;
mod victim;
