//! Persistent dirty bitmaps: header extension, directory, table entries. Never the bits themselves.

mod directory;
mod extension;
mod table;

pub use directory::{
    BitmapDirectoryEntry, BitmapFlags, RawBitmapDirectoryEntry, decode_bitmap_directory,
};
pub use extension::{BitmapsExtension, RawBitmapsExtension};
pub use table::{BitmapCluster, BitmapTableEntry};

#[cfg(test)]
mod tests;
