#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod args;
pub mod base;
pub mod creation;
pub mod exit;
pub mod failure;
pub mod io;
pub mod open;
pub mod program;
pub mod report;
pub mod verb;
