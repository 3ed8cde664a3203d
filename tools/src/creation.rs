//! What `-o` may say when an image is created, and how the answer is told.

pub mod amendable;
pub mod help;
pub mod options;
pub mod settings;
