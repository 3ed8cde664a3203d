//! Hints to the file system about a new file. One that does not know a hint refuses it, and the
//! file is as good without.

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::FileStorage;

impl FileStorage {
    /// Asks for overwriting in place on file systems that copy instead (btrfs). Means something
    /// only while the file is empty. Returns whether the file system agreed.
    pub fn disable_cow(&self) -> bool {
        let flags = ioctl_getflags(&self.file);
        flags.is_ok_and(|flags| ioctl_setflags(&self.file, flags | IFlags::NOCOW).is_ok())
    }

    /// Asks for space to be allocated in pieces of so many bytes, which keeps large files in one
    /// piece (XFS). Means something only while the file is empty. Returns whether the file system
    /// agreed; some agree and do nothing.
    pub fn set_extent_size_hint(&self, bytes: u32) -> bool {
        let attributes = host::attributes(&self.file);
        attributes.is_ok_and(|mut attributes| {
            attributes.flags |= host::FLAG_EXTENT_SIZE;
            attributes.extent_bytes = bytes;
            host::set_attributes(&self.file, attributes).is_ok()
        })
    }
}

/// Extended attributes of an inode (`FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`).
#[expect(unsafe_code, reason = "rustix has no call for these attributes")]
mod host {
    use std::fs::File;

    use rustix::io::Errno;
    use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

    /// `struct fsxattr` of the kernel: five words and eight bytes of padding.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub(super) struct Attributes {
        pub(super) flags: u32,
        pub(super) extent_bytes: u32,
        extents: u32,
        project: u32,
        cow_extent_bytes: u32,
        padding: [u8; 8],
    }
    const _: () = assert!(size_of::<Attributes>() == 28, "the size is part of the call's number");

    /// `FS_XFLAG_EXTSIZE`: the size given is to be used.
    pub(super) const FLAG_EXTENT_SIZE: u32 = 0x800;

    const GET: Opcode = opcode::read::<Attributes>(b'X', 31);
    const SET: Opcode = opcode::write::<Attributes>(b'X', 32);

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    const _: () = assert!(GET == 0x801c_581f && SET == 0x401c_5820);

    pub(super) fn attributes(file: &File) -> Result<Attributes, Errno> {
        // SAFETY: the number says that the kernel writes one `fsxattr`, whose layout
        // `Attributes` has; any bits are valid for its fields.
        unsafe { ioctl(file, Getter::<GET, Attributes>::new()) }
    }

    pub(super) fn set_attributes(file: &File, attributes: Attributes) -> Result<(), Errno> {
        // SAFETY: the number says that the kernel reads one `fsxattr`, whose layout `Attributes`
        // has.
        unsafe { ioctl(file, Setter::<SET, Attributes>::new(attributes)) }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Create, OpenOptions};

    /// No file system that knows the hints need be at hand: the answers of the kernel, whatever
    /// they are, leave the file alone.
    #[test]
    fn hints_do_not_harm() {
        let folder = tempfile::tempdir().unwrap();
        let file = OpenOptions::new().write(true).create(Create::New);
        let file = file.open(folder.path().join("file")).unwrap();
        crate::Storage::write_at(&file, 0, b"bytes").unwrap();
        file.disable_cow();
        file.set_extent_size_hint(1 << 20);
        let mut bytes = [0; 5];
        assert_eq!(crate::Storage::read_at(&file, 0, &mut bytes).unwrap(), 5);
        assert_eq!(&bytes, b"bytes");
    }
}
