//! Discard: which entries it leaves, what it gives back and when, beside the real tool.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::sync::Arc;

use block_io::{Create, OpenOptions as FileOptions, Storage};
use cow_engine::{Backing, BackingReference, BelowError, CreateOptions, Image, OpenOptions};
use qcow2_format::Version;
use testkit::{Folder, Qemu};

const CLUSTER: u64 = 65536;

/// A layer below that is full of one byte.
#[derive(Debug)]
struct Full(u64);

impl Backing for Full {
    fn virtual_size(&self) -> u64 {
        self.0
    }

    fn read_at(&self, _: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        buf.fill(0xbb);
        Ok(())
    }

    fn reads_as_zeros(&self, _: u64, _: u64) -> Result<bool, BelowError> {
        Ok(false)
    }
}

fn create(path: &Path, size: u64, version: Version, backing: bool) {
    let mut options = CreateOptions::new(size);
    options.version = version;
    options.backing =
        backing.then(|| BackingReference { name: "base.raw".into(), format: Some("raw".into()) });
    let storage = FileOptions::new().write(true).create(Create::Truncate).open(path).unwrap();
    cow_engine::create(&storage, &options).unwrap();
}

fn open(path: &Path, backing: bool) -> Image {
    let storage: Arc<dyn Storage> = Arc::new(FileOptions::new().write(true).open(path).unwrap());
    let backing = backing.then(|| Arc::new(Full(1 << 30)) as Arc<dyn Backing>);
    Image::open(storage, OpenOptions::new().backing(backing)).unwrap()
}

fn entry(image: &Image, offset: u64) -> u64 {
    image.explain(offset).unwrap().l2_entry.map_or(0, qcow2_format::L2Entry::bits)
}

/// The entries that the real tool leaves for the same commands on the same kind of image.
fn reference_entries(folder: &Folder, compat: &str, backing: bool) -> Vec<u64> {
    let (base, path) = (folder.path("base.raw"), folder.path("reference.qcow2"));
    Qemu::img(["create", "-q", "-f", "raw", &base.display().to_string(), "1M"]).success();
    let options = format!("compat={compat}");
    let top = path.display().to_string();
    let mut arguments = vec!["create", "-q", "-f", "qcow2", "-o", &options];
    if backing {
        arguments.extend(["-b", "base.raw", "-F", "raw"]);
    }
    arguments.extend([top.as_str(), "1M"]);
    Qemu::img(arguments).success();
    Qemu::io(["-f", "qcow2", "-c", "write -c -P 3 128k 64k", &top]).success();
    let mut io = vec!["-f", "qcow2", "-c", "write -P 1 0 64k"];
    if compat == "v3" {
        io.extend(["-c", "write -P 1 192k 64k", "-c", "write -z 192k 64k"]);
        io.extend(["-c", "write -z 256k 64k"]);
    }
    io.extend(["-c", "discard 0 320k", "-c", "discard 512k 64k", &top]);
    Qemu::io(io).success();
    let image = open(&path, backing);
    (0..16).map(|number| entry(&image, number * CLUSTER)).collect()
}

fn our_entries(folder: &Folder, version: Version, backing: bool) -> Vec<u64> {
    let path = folder.path("ours.qcow2");
    create(&path, 1 << 20, version, backing);
    let image = open(&path, backing);
    let mut compressor = image.compressor().unwrap();
    let cluster = vec![3; CLUSTER as usize];
    image.write_compressed_at(&mut compressor, 2 * CLUSTER, &cluster).unwrap();
    image.write_at(0, &cluster).unwrap();
    if version == Version::V3 {
        image.write_at(3 * CLUSTER, &cluster).unwrap();
        image.write_zeroes_at(3 * CLUSTER, CLUSTER, cow_engine::ZeroMode::Keep).unwrap();
        image.write_zeroes_at(4 * CLUSTER, CLUSTER, cow_engine::ZeroMode::Keep).unwrap();
    }
    image.discard_at(0, 5 * CLUSTER).unwrap();
    image.discard_at(8 * CLUSTER, CLUSTER).unwrap();
    let entries = (0..16).map(|number| entry(&image, number * CLUSTER)).collect();
    image.close().unwrap();
    if backing {
        // The real tool opens the backing file, which the caller made beside it.
        Qemu::check(&path);
    }
    entries
}

/// Offsets differ between two allocators; what kind of entry is left does not.
fn kinds(entries: &[u64]) -> Vec<&'static str> {
    let kind = |&entry: &u64| match entry {
        0 => "unallocated",
        1 => "zero-plain",
        entry if entry >> 62 & 1 == 1 => "compressed",
        entry if entry & 1 == 1 => "zero-allocated",
        _ => "normal",
    };
    entries.iter().map(kind).collect()
}

#[test]
fn discard_leaves_the_entries_that_the_real_tool_leaves() {
    for (compat, version) in [("v3", Version::V3), ("v2", Version::V2)] {
        for backing in [false, true] {
            let folder = Folder::new();
            let theirs = reference_entries(&folder, compat, backing);
            let ours = our_entries(&folder, version, backing);
            assert_eq!(kinds(&ours), kinds(&theirs), "{compat}, backing {backing}");
        }
    }
}

#[test]
fn discard_over_backing_does_not_resurrect_base_data() {
    for version in [Version::V3, Version::V2] {
        let folder = Folder::new();
        let path = folder.path("top.qcow2");
        create(&path, 1 << 20, version, true);
        let image = open(&path, true);
        image.write_at(0, &vec![0x11; 2 * CLUSTER as usize]).unwrap();
        image.discard_at(0, CLUSTER).unwrap();
        image.flush().unwrap();
        let mut buf = vec![0; CLUSTER as usize];
        image.read_at(0, &mut buf).unwrap();
        let allowed = if version == Version::V3 { 0 } else { 0x11 };
        assert!(buf.iter().all(|&byte| byte == allowed), "{version:?}: never 0xbb");
    }
}

#[test]
fn parts_of_clusters_are_kept_and_the_end_of_the_disk_counts_as_an_end() {
    let folder = Folder::new();
    let path = folder.path("top.qcow2");
    create(&path, 100 * 1024, Version::V3, false);
    let image = open(&path, false);
    image.write_at(0, &vec![7; 100 * 1024]).unwrap();
    image.discard_at(4096, CLUSTER).unwrap();
    let mut buf = vec![0; 100 * 1024];
    image.read_at(0, &mut buf).unwrap();
    assert!(buf.iter().all(|&byte| byte == 7), "no whole cluster was named");
    image.discard_at(CLUSTER, 100 * 1024 - CLUSTER).unwrap();
    assert_eq!(entry(&image, CLUSTER), 1, "the short last cluster is whole");
    image.read_at(0, &mut buf).unwrap();
    assert!(buf[..CLUSTER as usize].iter().all(|&byte| byte == 7));
    assert!(buf[CLUSTER as usize..].iter().all(|&byte| byte == 0));
}

#[test]
fn host_space_is_given_back_with_the_flush_and_reused_after_it() {
    let folder = Folder::new();
    let path = folder.path("top.qcow2");
    create(&path, 64 << 20, Version::V3, false);
    let image = open(&path, false);
    image.write_at(0, &vec![7; 32 << 20]).unwrap();
    image.flush().unwrap();
    let full = image.storage().allocated_bytes().unwrap();
    image.discard_at(0, 32 << 20).unwrap();
    assert_eq!(image.storage().allocated_bytes().unwrap(), full, "not before it is safe");
    image.flush().unwrap();
    let rest = image.storage().allocated_bytes().unwrap();
    assert!(rest < full - (31 << 20), "holes were punched: {full} -> {rest}");
    let len = image.storage().len().unwrap();
    image.write_at(32 << 20, &vec![8; 32 << 20]).unwrap();
    image.flush().unwrap();
    assert!(image.storage().len().unwrap() < len + (1 << 20), "the space was used again");
    let mut buf = vec![0; 32 << 20];
    image.read_at(0, &mut buf).unwrap();
    assert!(buf.iter().all(|&byte| byte == 0));
    image.read_at(32 << 20, &mut buf).unwrap();
    assert!(buf.iter().all(|&byte| byte == 8));
    image.close().unwrap();
    Qemu::check(&path);
}

#[test]
fn shared_clusters_of_compressed_data_keep_their_space_until_the_last_one_goes() {
    let folder = Folder::new();
    let path = folder.path("top.qcow2");
    create(&path, 1 << 20, Version::V3, false);
    let image = open(&path, false);
    let mut compressor = image.compressor().unwrap();
    for number in 0..4 {
        let data = vec![number as u8 + 1; CLUSTER as usize];
        image.write_compressed_at(&mut compressor, number * CLUSTER, &data).unwrap();
    }
    image.discard_at(0, 2 * CLUSTER).unwrap();
    image.flush().unwrap();
    let mut buf = vec![0; CLUSTER as usize];
    for number in 2..4 {
        image.read_at(number * CLUSTER, &mut buf).unwrap();
        assert!(buf.iter().all(|&byte| byte == number as u8 + 1), "cluster {number}");
    }
    image.discard_at(2 * CLUSTER, 2 * CLUSTER).unwrap();
    image.flush().unwrap();
    // Packing goes on somewhere else than in the hole.
    let data = vec![9; CLUSTER as usize];
    image.write_compressed_at(&mut compressor, 8 * CLUSTER, &data).unwrap();
    image.read_at(8 * CLUSTER, &mut buf).unwrap();
    assert!(buf == data);
    image.close().unwrap();
    Qemu::check(&path);
}
