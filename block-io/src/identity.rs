//! `FileId`: which object of this host a handle means, whatever path led to it.

/// Identity of a host object; equal for two handles on the same object, as long as one of them
/// is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FileId {
    /// A file of a file system.
    File {
        /// Number of the device that holds the file system.
        device: u64,
        /// Inode number in that file system.
        inode: u64,
    },
    /// A device node: two nodes for one device are the same object.
    Device {
        /// Device number (`st_rdev`).
        number: u64,
    },
    /// An object in the memory of this process.
    Memory {
        /// Number, unique in this process.
        number: u64,
    },
}
