//! Traps of the format that concern reading and writing one image, by the numbers of the list this
//! project keeps. Those that have a better place are there: plans, refusals, damage, races.

use std::path::Path;
use std::sync::Arc;

use block_io::{Locking, MemoryStorage, OpenOptions as FileOptions, Storage};
use cow_engine::{Backing, ClusterType, Image, OpenOptions, ZeroMode};
use qcow2_format::Version;
use testkit::{Folder, Pattern, Qemu};

use crate::census;
use crate::images::{
    self, bytes, check_clean, check_content, l2_entry_at, memory, open, open_over, poke, read,
    read_all, word,
};
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;

fn img(line: &str, folder: &Folder) {
    let words = line.split(' ').map(|word| match word.strip_prefix('@') {
        Some(name) => folder.path(name).to_str().unwrap().to_owned(),
        None => word.to_owned(),
    });
    Qemu::img(words.collect::<Vec<_>>()).success();
}

fn qemu_io(path: &Path, commands: &[&str]) {
    let mut words = vec!["-f", "qcow2", path.to_str().unwrap()];
    for command in commands {
        words.extend(["-c", command]);
    }
    Qemu::io(words).success();
}

/// An image made by the real tool, in memory.
fn load(path: &Path) -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::from(&std::fs::read(path).unwrap()[..]))
}

fn open_file(path: &Path, backing: Option<Arc<dyn Backing>>) -> Image {
    let file = FileOptions::new().write(true).locking(Locking::Off).open(path).unwrap();
    Image::open(Arc::new(file), OpenOptions::new().backing(backing)).unwrap()
}

fn over(len: usize) -> Option<Arc<dyn Backing>> {
    Some(Arc::new(TestBacking::new(Pattern::new(1).bytes(0, len))))
}

#[test]
fn trap_1_a_file_shorter_than_its_last_cluster() {
    let folder = Folder::new();
    img("create -q -f qcow2 @new.qcow2 64M", &folder);
    let storage = load(&folder.path("new.qcow2"));
    assert_eq!(storage.len().unwrap(), 196_616);
    assert_eq!(read(&open(&storage), 0, 512), [0; 512]);
    let image = open(&storage);
    image.write_at(CLUSTER, &[1; 512]).unwrap();
    image.close().unwrap();
    check_clean(&*storage);
    // Ours ends the same way.
    assert_eq!(memory(64 << 20, 16).len().unwrap(), 196_616);
}

#[test]
fn trap_2_a_virtual_size_between_sectors_is_cut() {
    let storage = memory(1 << 20, 16);
    poke(&*storage, 24, |_| 1000);
    assert_eq!(open(&storage).virtual_size(), 512);
}

#[test]
fn trap_15_an_l1_table_larger_than_needed() {
    let folder = Folder::new();
    img("create -q -f qcow2 @vm.qcow2 1M", &folder);
    let path = folder.path("vm.qcow2");
    qemu_io(&path, &["write -b -P 7 0 64k"]);
    let image = open_file(&path, None);
    assert!(image.header().l1_entry_count() > 1);
    image.write_at(0, &[1; 512]).unwrap();
    assert!(image.read_at(1 << 20, &mut [0; 1]).is_err(), "the state is not part of the disk");
    image.close().unwrap();
    Qemu::check(&path);
    let output = Qemu::io(["-f", "qcow2", path.to_str().unwrap(), "-c", "read -b -P 7 0 64k"]);
    assert!(!output.success().stdout.contains("verification failed"));
}

#[test]
fn trap_17_reserved_bits_do_not_stop_reads_and_go_with_the_next_entry() {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.close().unwrap();
    poke(&*storage, l2_entry_at(&*storage, 0), |entry| entry | 2);
    poke(&*storage, images::L1_TABLE * CLUSTER, |entry| entry | 4);
    let image = open(&storage);
    assert_eq!(read(&image, 0, 8), [1; 8]);
    image.write_at(0, &[2; 8]).unwrap();
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Keep).unwrap();
    image.write_at(0, &[3; 8]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*storage, l2_entry_at(&*storage, 0)), 0x8000_0000_0005_0000);
}

#[test]
fn trap_19_zero_plain_hides_the_layer_below() {
    let image = open_over(&memory(1 << 20, 16), over(1 << 20));
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap).unwrap();
    assert_eq!(read(&image, 0, CLUSTER as usize), vec![0; CLUSTER as usize]);
    assert_eq!(image.explain(0).unwrap().cluster, Ok(ClusterType::ZeroPlain));
    Pattern::new(1).assert_at(CLUSTER, &read(&image, CLUSTER, 100));
}

#[test]
fn trap_20_zero_allocated_is_written_in_its_place_and_filled_with_zeros() {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Keep).unwrap();
    image.flush().unwrap();
    assert_eq!(word(&*storage, l2_entry_at(&*storage, 0)), 0x8000_0000_0005_0001);
    image.write_at(0, &[2; 4096]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*storage, l2_entry_at(&*storage, 0)), 0x8000_0000_0005_0000);
    let mut expected = vec![0; 1 << 20];
    expected[..4096].fill(2);
    check_content(&*storage, &expected);
    check_clean(&*storage);
}

/// A raw disk of text, compressed by the real tool.
fn compressed(folder: &Folder, options: &str, data: &[u8]) -> Arc<MemoryStorage> {
    folder.write("plain.raw", data);
    img(&format!("convert -c -f raw -O qcow2 {options} @plain.raw @c.qcow2"), folder);
    load(&folder.path("c.qcow2"))
}

fn text(len: usize) -> Vec<u8> {
    (0..len / 8).flat_map(|number| format!("{:8}", number * 7919 % 100_003).into_bytes()).collect()
}

#[test]
fn trap_29_and_36_the_stream_ends_where_it_ends() {
    let folder = Folder::new();
    let data = text(4 << 16);
    let storage = compressed(&folder, "-o cluster_size=64k", &data);
    // Garbage behind the last stream, and a sector count that is three too large.
    let end = storage.len().unwrap();
    storage.write_at(end, &[0xff; 300]).unwrap();
    let entry = l2_entry_at(&*storage, 3 << 16);
    poke(&*storage, entry, |entry| entry + (3 << 54));
    assert!(read_all(&open(&storage)) == data);
    // One sector too few.
    poke(&*storage, entry, |entry| entry - (4 << 54));
    let error = open(&storage).read_at(3 << 16, &mut [0; 8]).unwrap_err();
    assert!(matches!(error, cow_engine::Error::Decompress { .. }), "{error}");
}

#[test]
fn trap_30_31_39_clusters_of_every_size_and_type() {
    let folder = Folder::new();
    let data = text((4 << 20) + 5 * 512);
    for kind in ["zlib", "zstd"] {
        for size in ["512", "4k", "64k", "2M"] {
            let options = format!("-o cluster_size={size},compression_type={kind}");
            let storage = compressed(&folder, &options, &data);
            let image = images::open_read_only(&storage, None);
            assert!(read_all(&image) == data, "{options}");
            // Trap 31: any byte offset.
            let odd = (0..data.len() as u64).step_by(1 << 16).any(|guest| {
                let entry = word(&*storage, l2_entry_at(&*storage, guest));
                entry >> 62 == 1 && !entry.is_multiple_of(512)
            });
            assert!(odd || size == "2M" || size == "512", "{options}");
        }
    }
}

#[test]
fn trap_32_and_33_overwriting_compressed_clusters_leaks_nothing() {
    let folder = Folder::new();
    let data = text(64 << 12);
    let storage = compressed(&folder, "-o cluster_size=4k", &data);
    let image = open(&storage);
    let host = image.explain(0).unwrap().refcount;
    assert!(host.unwrap() > 1, "blobs share a host cluster");
    let mut expected = data.clone();
    for cluster in 0..64_u64 {
        let at = cluster * 4096 + 700;
        image.write_at(at, &[cluster as u8; 100]).unwrap();
        expected[at as usize..][..100].fill(cluster as u8);
        if cluster % 10 == 0 {
            image.flush().unwrap();
        }
    }
    image.close().unwrap();
    check_clean(&*storage);
    check_content(&*storage, &expected);
}

#[test]
fn trap_34_a_zlib_header_is_damage() {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    // `zlib.compress(bytes(65536))` begins like this.
    image.write_blob(0, &[0x78, 0x9c, 0xed, 0xc1, 0x01, 0x0d, 0, 0, 0, 0xc2, 0xa0]).unwrap();
    let error = image.read_at(0, &mut [0; 8]).unwrap_err();
    assert!(matches!(error, cow_engine::Error::Decompress { .. }), "{error}");
}

#[test]
fn trap_39_a_zstd_frame_must_be_complete() {
    let folder = Folder::new();
    let data = text(1 << 16);
    let storage = compressed(&folder, "-o compression_type=zstd", &data);
    let entry = word(&*storage, l2_entry_at(&*storage, 0));
    let host = entry & ((1 << 54) - 1);
    let good = bytes(&*storage);
    // Damage the frame's last block header, then its magic.
    for at in [host, host + 8] {
        let storage = Arc::new(MemoryStorage::from(&good[..]));
        poke(&*storage, at, |word| !word);
        let error = open(&storage).read_at(0, &mut [0; 8]).unwrap_err();
        assert!(matches!(error, cow_engine::Error::Decompress { .. }), "{error}");
    }
    // A file cut off inside the frame.
    let storage = Arc::new(MemoryStorage::from(&good[..host as usize + 100]));
    let error = images::open_read_only(&storage, None).read_at(0, &mut [0; 8]).unwrap_err();
    assert!(matches!(error, cow_engine::Error::Decompress { .. }), "{error}");
}

#[test]
fn a_zstd_frame_cannot_ask_for_a_large_window() {
    let storage = Arc::new(MemoryStorage::new());
    let mut options = images::options(1 << 20, 16, Version::V3);
    options.compression_type = qcow2_format::CompressionType::Zstd;
    cow_engine::create(&*storage, &options).unwrap();
    let image = open(&storage);
    // Magic; no content size, no single segment; a window of 2^(10 + 17) bytes; an RLE block of
    // 64 KiB, the last one.
    let block = 1 | 1 << 1 | 65536_u32 << 3;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3];
    frame.extend(&block.to_le_bytes()[..3]);
    frame.push(0x55);
    image.write_blob(0, &frame).unwrap();
    assert!(image.read_at(0, &mut [0; 8]).is_err(), "128 MiB for a cluster of 64 KiB");
    // The same with a window of 8 MiB.
    frame[5] = 13 << 3;
    image.write_blob(CLUSTER, &frame).unwrap();
    assert_eq!(read(&image, CLUSTER, 65536), [0x55; 65536]);
}

#[test]
fn trap_38_the_last_cluster_is_compressed_whole() {
    let folder = Folder::new();
    let data = text(100 << 10);
    let storage = compressed(&folder, "-o cluster_size=64k", &data);
    let image = open(&storage);
    assert!(read_all(&image) == data);
    image.write_at((100 << 10) - 10, &[1; 10]).unwrap();
    image.close().unwrap();
    check_clean(&*storage);
}

#[test]
fn trap_43_holes_in_the_refcount_table() {
    // Between the first range and the grown area lie ranges without a block.
    let storage = Arc::new(crate::faults::nearly_full());
    let image = open(&storage);
    image.write_at(12 << 20, &[1; 64 << 10]).unwrap();
    image.close().unwrap();
    check_clean(&*storage);
    let image = open(&storage);
    image.write_at(13 << 20, &[1; 256 << 10]).unwrap();
    image.close().unwrap();
    census::assert_clean(&bytes(&*storage));
}

#[test]
fn trap_46_metadata_anywhere() {
    let folder = Folder::new();
    img("create -q -f qcow2 -o preallocation=falloc @p.qcow2 4M", &folder);
    let path = folder.path("p.qcow2");
    let image = open_file(&path, None);
    let data = Pattern::new(2).bytes(0, 3 << 20);
    image.write_at(1000, &data).unwrap();
    image.write_zeroes_at(2 << 20, 1 << 20, ZeroMode::Unmap).unwrap();
    image.close().unwrap();
    Qemu::check(&path);
    let image = open_file(&path, None);
    assert_eq!(read(&image, 1000, 1 << 20), data[..1 << 20]);
}

#[test]
fn trap_47_host_offset_0_is_no_cluster() {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_at(0, &[1; 512]).unwrap();
    image.close().unwrap();
    poke(&*storage, l2_entry_at(&*storage, 0), |_| 1 << 63);
    let image = open_over(&storage, over(1 << 20));
    Pattern::new(1).assert_at(0, &read(&image, 0, 512));
    image.write_at(0, &[2; 512]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*storage, 0) >> 32, 0x5146_49fb, "the header is where it was");
}

#[test]
fn trap_70_zeroing_on_version_2() {
    let create = || {
        let storage = Arc::new(MemoryStorage::new());
        cow_engine::create(&*storage, &images::options(1 << 20, 16, Version::V2)).unwrap();
        storage
    };
    for mode in [ZeroMode::Keep, ZeroMode::Unmap] {
        // Over a layer only data says zeros.
        let image = open_over(&create(), over(1 << 20));
        image.write_zeroes_at(0, CLUSTER, mode).unwrap();
        assert_eq!(read(&image, 0, 512), [0; 512]);
        assert!(matches!(image.explain(0).unwrap().cluster, Ok(ClusterType::Normal { .. })));
        // Without one, no mapping does.
        let storage = create();
        let image = open(&storage);
        image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
        image.write_zeroes_at(0, CLUSTER, mode).unwrap();
        assert_eq!(image.explain(0).unwrap().cluster, Ok(ClusterType::Unallocated));
        image.close().unwrap();
        check_clean(&*storage);
    }
}

#[test]
fn trap_72_a_partial_zero_write_is_not_ignored() {
    // Where the rest reads as zeros, the cluster becomes a zero cluster.
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_zeroes_at(4096, 4096, ZeroMode::Keep).unwrap();
    assert_eq!(image.explain(0).unwrap().cluster, Ok(ClusterType::ZeroPlain));
    // A reserved cluster that reads as zeros is kept, or given up as a whole.
    image.write_at(CLUSTER, &[1; CLUSTER as usize]).unwrap();
    image.write_zeroes_at(CLUSTER, CLUSTER, ZeroMode::Keep).unwrap();
    let kind = || image.explain(CLUSTER).unwrap().cluster;
    image.write_zeroes_at(CLUSTER + 7, 13, ZeroMode::Keep).unwrap();
    assert!(matches!(kind(), Ok(ClusterType::ZeroAllocated { .. })));
    image.write_zeroes_at(CLUSTER + 7, 13, ZeroMode::Unmap).unwrap();
    assert_eq!(kind(), Ok(ClusterType::ZeroPlain));
    // Where it does not, zeros are data.
    let image = open_over(&memory(1 << 20, 16), over(1 << 20));
    image.write_zeroes_at(4096, 4096, ZeroMode::Unmap).unwrap();
    assert!(matches!(image.explain(0).unwrap().cluster, Ok(ClusterType::Normal { .. })));
    let mut expected = Pattern::new(1).bytes(0, CLUSTER as usize);
    expected[4096..8192].fill(0);
    assert!(read(&image, 0, CLUSTER as usize) == expected);
    // A layer that does not know its zeros is asked for bytes.
    let ignorant = Some(Arc::new(TestBacking::ignorant(vec![0; 1 << 20])) as Arc<dyn Backing>);
    let image = open_over(&memory(1 << 20, 16), ignorant);
    image.write_zeroes_at(4096, 4096, ZeroMode::Unmap).unwrap();
    assert_eq!(read(&image, 0, CLUSTER as usize), vec![0; CLUSTER as usize]);
}

#[test]
fn trap_74_the_end_of_the_disk_counts_as_the_end_of_a_cluster() {
    let storage = memory(100 << 10, 16);
    let image = open_over(&storage, over(1 << 20));
    image.write_at(CLUSTER, &[1; 36 << 10]).unwrap();
    image.write_zeroes_at(CLUSTER, 36 << 10, ZeroMode::Unmap).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*storage, l2_entry_at(&*storage, CLUSTER)), 1);
}

#[test]
fn trap_76_nothing_old_lies_behind_the_end_of_the_disk() {
    // A cluster full of old bytes is reused for the last, partial cluster of the disk.
    let storage = memory(100 << 10, 16);
    let image = open(&storage);
    image.write_at(0, &[0x11; CLUSTER as usize]).unwrap();
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap).unwrap();
    image.flush().unwrap();
    image.write_at(CLUSTER, &[0x22; 36 << 10]).unwrap();
    image.close().unwrap();
    let host = word(&*storage, l2_entry_at(&*storage, CLUSTER)) & 0x00ff_ffff_ffff_fe00;
    assert_eq!(host, 0x5_0000, "the cluster was reused");
    assert_eq!(bytes(&*storage)[0x5_0000 + (36 << 10)..0x6_0000], [0; 28 << 10]);
}

#[test]
fn trap_77_a_layer_below_that_is_shorter_and_ends_anywhere() {
    let folder = Folder::new();
    let below = Pattern::new(1).bytes(0, 100_000);
    folder.write("base.raw", &below);
    img("create -q -f qcow2 -F raw -b @base.raw @top.qcow2 256k", &folder);
    let path = folder.path("top.qcow2");
    let layer: Arc<dyn Backing> = Arc::new(TestBacking::ignorant(below.clone()));
    let image = open_file(&path, Some(layer));
    let mut expected = below;
    expected.resize(256 << 10, 0);
    assert!(read(&image, 99_000, 5000) == expected[99_000..104_000]);
    // Copies across the end, and behind it.
    for at in [99_990, 150_000, 4000] {
        image.write_at(at, &[9; 20]).unwrap();
        expected[at as usize..][..20].fill(9);
    }
    image.write_zeroes_at(98_304, 10, ZeroMode::Keep).unwrap();
    expected[98_304..98_314].fill(0);
    assert!(read_all(&image) == expected);
    image.close().unwrap();
    Qemu::check(&path);
    let raw = folder.write("expected.raw", &expected);
    Qemu::assert_same(("raw", &raw), ("qcow2", &path));
}

#[test]
fn the_engine_and_the_real_tool_take_turns() {
    let folder = Folder::new();
    img("create -q -f qcow2 -o cluster_size=4k @t.qcow2 1M", &folder);
    let path = folder.path("t.qcow2");
    let mut expected = vec![0; 1 << 20];
    for turn in 0..6_u8 {
        let image = open_file(&path, None);
        let at = usize::from(turn) * 9000;
        image.write_at(at as u64, &[turn + 1; 20_000]).unwrap();
        expected[at..at + 20_000].fill(turn + 1);
        image.write_zeroes_at(5000, 9000, ZeroMode::Unmap).unwrap();
        expected[5000..14_000].fill(0);
        assert!(read_all(&image) == expected);
        image.close().unwrap();
        let at = 600_000 + usize::from(turn) * 3000;
        let write = format!("write -P {} {at} 5000", turn + 100);
        qemu_io(&path, &[&write, "write -z -u 20000 8192", "write -z 40960 4096"]);
        expected[at..at + 5000].fill(turn + 100);
        expected[20_000..28_192].fill(0);
        expected[40_960..45_056].fill(0);
        Qemu::check(&path);
    }
    assert!(read_all(&open_file(&path, None)) == expected);
}
