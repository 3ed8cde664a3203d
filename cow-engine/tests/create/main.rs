//! New images: the same bytes as the real tool makes, or the same picture of the disk; and nothing
//! that looks like an image before the last write.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic with a helpful text is the answer of a test"
)]

mod choice;
mod layout;
mod opened;
mod power_cut;
mod reference;
mod refused;
mod space;
