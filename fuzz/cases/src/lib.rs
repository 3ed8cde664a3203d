#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "a broken promise is a panic, which is what a fuzzer looks for")]

mod chain;
mod check;
mod compressed;
mod entries;
mod header;
mod image;
mod input;
mod operations;
mod patched;
mod refcounts;
mod tables;

pub use chain::chain;
pub use check::check;
pub use compressed::compressed;
pub use entries::entries;
pub use header::header;
pub use image::image;
pub use operations::operations;
pub use refcounts::refcounts;
pub use tables::tables;

/// What a target does with its input.
pub type Case = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Case); 9] = [
    ("header", header),
    ("entries", entries),
    ("tables", tables),
    ("refcounts", refcounts),
    ("compressed", compressed),
    ("image", image),
    ("check", check),
    ("chain", chain),
    ("operations", operations),
];
