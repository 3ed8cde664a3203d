//! Small sound images, and how they are damaged.

use std::path::PathBuf;

use testkit::{Folder, Pattern, Qemu};

/// Cluster size of all images here.
pub(crate) const CLUSTER: u64 = 4096;
/// Bytes of the virtual disk.
pub(crate) const DISK: u64 = 4 << 20;
/// The flag of entries that are referenced once.
pub(crate) const COPIED: u64 = 1 << 63;

/// A sound image: its bytes, where its structures lie, and what it shows.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) l1: u64,
    pub(crate) l2: u64,
    pub(crate) refcount_table: u64,
    pub(crate) refcount_block: u64,
}

/// Bytes to put somewhere.
pub(crate) type Poke = (u64, Vec<u8>);

pub(crate) fn u32_at(offset: u64, value: u32) -> Poke {
    (offset, value.to_be_bytes().to_vec())
}

pub(crate) fn u64_at(offset: u64, value: u64) -> Poke {
    (offset, value.to_be_bytes().to_vec())
}

impl Image {
    /// Data, zeros and compressed clusters, written by the real tools.
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path("image.qcow2");
        let name = path.to_str().unwrap();
        let size = DISK.to_string();
        Qemu::img(["create", "-f", "qcow2", "-o", "cluster_size=4k", name, &size]).success();
        let mut content = vec![0; DISK as usize];
        let mut args = vec!["-f".to_owned(), "qcow2".to_owned()];
        for (number, (offset, len)) in [(0, 65_536), (2 << 20, 30_000)].into_iter().enumerate() {
            let bytes = Pattern::new(7).bytes(offset as u64, len);
            let source = folder.write(format!("content-{number}"), &bytes);
            args.extend(["-c".to_owned(), format!("write -s {} {offset} {len}", source.display())]);
            content[offset..offset + len].copy_from_slice(&bytes);
        }
        for (offset, byte) in [(131_072, 3), (139_264, 4)] {
            args.extend(["-c".to_owned(), format!("write -c -P {byte} {offset} 4096")]);
            content[offset..offset + 4096].fill(byte);
        }
        args.extend(["-c".to_owned(), "write -z 256k 64k".to_owned(), name.to_owned()]);
        Qemu::io(args).success();
        Self::found(folder.read("image.qcow2"), content)
    }

    fn found(bytes: Vec<u8>, content: Vec<u8>) -> Self {
        let word = |at: u64| {
            let at = at as usize;
            u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        let (l1, refcount_table) = (word(40), word(48));
        let (l2, refcount_block) = (word(l1) & !COPIED, word(refcount_table));
        for offset in [l1, l2, refcount_table, refcount_block] {
            assert!(offset != 0 && offset.is_multiple_of(CLUSTER), "{offset:#x} is a table");
        }
        Self { bytes, content, l1, l2, refcount_table, refcount_block }
    }

    /// The bytes of a damaged copy.
    pub(crate) fn poked(&self, pokes: &[Poke]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (offset, new) in pokes {
            let at = *offset as usize;
            bytes[at..at + new.len()].copy_from_slice(new);
        }
        bytes
    }
}

/// An image of 1 MiB that names a backing file, whatever that is.
pub(crate) fn overlay(folder: &Folder, name: &str, backing: &str, format: &str) -> PathBuf {
    let path = folder.path(name);
    let target = path.to_str().unwrap();
    Qemu::img(["create", "-f", "qcow2", "-u", "-b", backing, "-F", format, target, "1M"]).success();
    path
}
