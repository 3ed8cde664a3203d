//! An image with a known layout, and bytes put over it.

use testkit::{Folder, Qemu};

/// Bytes put over an image.
pub(crate) type Poke<'a> = (usize, &'a [u8]);

pub(crate) const L1: usize = 0x30000;
pub(crate) const L2: usize = 0x40000;
pub(crate) const REFCOUNT_TABLE: usize = 0x10000;
pub(crate) const BLOCK: usize = 0x20000;

pub(crate) fn long(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// 64 MiB with the layout of a new image: data at 0x50000, 0x60000, 0x80000, 0x90000, a reserved
/// zero cluster at 0x70000, two compressed clusters in 0xa0000, whose entries are 32 and 33.
pub(crate) fn make(folder: &Folder, options: &str) -> Vec<u8> {
    let path = folder.path("made.qcow2");
    let image = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", "-o", options, image, "64M"]).success();
    let mut args = vec!["-f", "qcow2"];
    let commands = ["write -P 1 0 256k", "write -z 128k 64k", "write -P 2 1M 64k"];
    let compressed = ["write -c -P 3 2M 64k", "write -c -P 4 2112k 64k"];
    for command in commands.into_iter().chain(compressed) {
        if !(options.contains("data_file") && command.contains("-c")) {
            args.extend(["-c", command]);
        }
    }
    args.push(image);
    Qemu::io(args).success();
    std::fs::read(path).unwrap()
}

pub(crate) fn poked(bytes: &[u8], pokes: &[Poke<'_>]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, new) in pokes {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    bytes
}
