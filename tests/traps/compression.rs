//! Compressed clusters: streams that a strict reader and a lenient one take apart differently.

use qimg::chain::Chain;

use super::disk::{Disk, reads, they_read};

const CLUSTER: usize = 65_536;

/// Lines of numbers: compresses well, differs everywhere.
fn text(len: usize) -> Vec<u8> {
    (0..len / 8).flat_map(|number| format!("{:8}", number * 7919 % 100_003).into_bytes()).collect()
}

#[test]
fn the_split_between_offset_and_length_moves_with_every_cluster_size() {
    for bits in 9..=21 {
        let size = if bits > 18 { 6 << 20 } else { 1 << 20 };
        let data = text(size);
        let disk = Disk::over("1M", &data);
        let options = format!("convert -c -f raw -O qcow2 -o cluster_size={} @base.raw", 1 << bits);
        disk.img(&options).success();
        let compressed = (0..size as u64).step_by(1 << bits);
        let compressed = compressed.filter(|&guest| disk.l2_entry(guest) >> 62 == 1).count();
        assert!(compressed >= size >> bits >> 1, "{compressed} compressed clusters of 2^{bits}");
        disk.assert_content(&data);
        // Overwriting one counts down where it lay.
        disk.ours(&["write -P 5 700 1000"]);
        let mut expected = data;
        expected[700..1700].fill(5);
        disk.assert_content(&expected);
        disk.assert_sound();
    }
}

/// Writes streams bit by bit.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// Lowest bit first.
    fn number(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= u8::from(value >> bit & 1 == 1) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A code of the fixed tables: highest bit first.
    fn code(&mut self, value: u32, count: u32) {
        self.number(value.reverse_bits() >> (32 - count), count);
    }
}

/// A raw deflate stream of `len` bytes of 0x55, in one block with the fixed codes.
fn deflate(len: usize, is_final: bool) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.number(u32::from(is_final), 1);
    bits.number(1, 2);
    bits.code(0x30 + 0x55, 8);
    let mut rest = len - 1;
    while rest >= 258 {
        // Length 258, distance 1.
        bits.code(0b1100_0101, 8);
        bits.code(0, 5);
        rest -= 258;
    }
    for _ in 0..rest {
        bits.code(0x30 + 0x55, 8);
    }
    bits.code(0, 7);
    bits.bytes
}

/// Stores a stream as guest cluster 0 and asserts that both readers take it for a cluster of
/// 0x55, or that both refuse it.
#[track_caller]
fn assert_stream(kind: &str, stream: &[u8], is_good: bool) {
    let disk = disk_with(kind, stream);
    let chain = disk.open_read_only();
    assert_eq!(they_read(&disk.path, 0, CLUSTER), is_good, "the real tool");
    let found = reads(&chain, 0, CLUSTER);
    assert_eq!(found.is_some(), is_good, "the library");
    assert!(found.is_none_or(|found| found == [0x55; CLUSTER]), "other bytes");
}

/// An image whose guest cluster 0 is this stream; the sector that holds its end goes on with 0xff.
fn disk_with(kind: &str, stream: &[u8]) -> Disk {
    let disk = Disk::new(&format!("-o compression_type={kind} 1M"));
    let chain: Chain = disk.open();
    let mut stream = stream.to_vec();
    // Host clusters start with a sector, and so does the first blob.
    stream.resize(stream.len().next_multiple_of(512), 0xff);
    chain.write_blob(0, &stream).unwrap();
    chain.close().unwrap();
    disk
}

#[test]
fn garbage_behind_a_deflate_stream_means_nothing() {
    assert_stream("zlib", &deflate(CLUSTER, true), true);
}

#[test]
fn a_deflate_stream_may_have_more_to_say_but_not_less() {
    assert_stream("zlib", &deflate(CLUSTER + 1000, true), true);
    assert_stream("zlib", &deflate(CLUSTER - 1, true), false);
}

#[test]
fn a_zlib_header_before_the_stream_is_damage() {
    let stream = [&[0x78, 0x9c][..], &deflate(CLUSTER, true)].concat();
    assert_stream("zlib", &stream, false);
}

#[test]
fn a_stream_without_its_final_block_gives_the_right_bytes_or_an_error() {
    // The real tool refuses it for what follows; whoever has the whole cluster may take it.
    let disk = disk_with("zlib", &deflate(CLUSTER, false));
    assert!(!they_read(&disk.path, 0, CLUSTER));
    let found = reads(&disk.open_read_only(), 0, CLUSTER);
    assert!(found.is_none_or(|found| found == [0x55; CLUSTER]), "other bytes");
}

#[test]
fn our_streams_end_with_their_final_block() {
    // The real tool refuses streams that do not, when garbage follows.
    let disk = Disk::over("1M", &text(1 << 20));
    disk.qimg("convert -c -f raw -O qcow2 @base.raw").success();
    let file = disk.bytes();
    for guest in (0..1 << 20).step_by(CLUSTER) {
        let entry = disk.l2_entry(guest);
        assert_eq!(entry >> 62, 1, "cluster {guest:#x} is compressed");
        let (host, sectors) = (entry & ((1 << 54) - 1), (entry >> 54 & 0xff) as usize + 1);
        let readable = sectors * 512 - host as usize % 512;
        let blob = file[host as usize..].iter().take(readable).copied().collect::<Vec<u8>>();
        let alone = disk_with("zlib", &blob);
        assert!(they_read(&alone.path, 0, CLUSTER), "cluster {guest:#x}");
        assert!(alone.content()[..CLUSTER] == text(1 << 20)[guest as usize..][..CLUSTER]);
    }
}

/// A zstd frame of `len` bytes of 0x55: one block, its content size, and on demand the checksum
/// of a whole cluster.
fn frame(len: usize, checksum: bool) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x60 | u8::from(checksum) << 2];
    frame.extend(((len - 256) as u16).to_le_bytes());
    // The last block, run-length encoded.
    let block = 1 | 1 << 1 | (len as u32) << 3;
    frame.extend(&block.to_le_bytes()[..3]);
    frame.push(0x55);
    if checksum {
        // The low half of XXH64 of 64 KiB of 0x55.
        frame.extend(0x7cb5_dac2_u32.to_le_bytes());
    }
    frame
}

#[test]
fn garbage_behind_a_zstd_frame_means_nothing() {
    assert_stream("zstd", &frame(CLUSTER, false), true);
    assert_stream("zstd", &frame(CLUSTER, true), true);
}

#[test]
fn several_zstd_frames_may_make_one_cluster() {
    let halves = [frame(CLUSTER / 2, false), frame(CLUSTER / 2, false)].concat();
    assert_stream("zstd", &halves, true);
}

#[test]
fn a_zstd_frame_without_its_checksum_is_incomplete() {
    let whole = frame(CLUSTER, true);
    assert_stream("zstd", &whole[..whole.len() - 4], false);
}

#[test]
fn a_zstd_frame_of_another_length_than_a_cluster_is_damage() {
    assert_stream("zstd", &frame(CLUSTER - 1, false), false);
    assert_stream("zstd", &[frame(CLUSTER - 1, false), frame(300, false)].concat(), false);
}

#[test]
fn a_compressed_write_neither_overwrites_nor_covers_a_part() {
    let commands = ["write -c -P 1 0 64k", "write -c -P 2 0 64k", "write -c 320k 32k"];
    let answers = [Disk::try_theirs, Disk::try_ours].map(|hand| {
        let disk = Disk::new("1M");
        let said: Vec<bool> = commands
            .iter()
            .map(|command| hand(&disk, &[], &[command]).stdout.contains("wrote 65536/65536"))
            .collect();
        let mut expected = vec![0; 1 << 20];
        expected[..CLUSTER].fill(1);
        disk.assert_content(&expected);
        disk.assert_sound();
        said
    });
    assert_eq!(answers, [[true, false, false], [true, false, false]]);
}

#[test]
fn the_packing_cursor_does_not_outlive_the_cluster_it_points_into() {
    // In one session: the second write gives the blob's cluster up, the third may get it.
    let disk = Disk::new("1M");
    disk.ours(&[
        "write -c -P 1 0 64k",
        "write -P 2 0 64k",
        "flush",
        "write -P 3 64k 64k",
        "write -c -P 4 128k 64k",
        "read -P 3 64k 64k",
    ]);
    let mut expected = vec![0; 1 << 20];
    for (number, byte) in [2, 3, 4].into_iter().enumerate() {
        expected[number * CLUSTER..][..CLUSTER].fill(byte);
    }
    disk.assert_content(&expected);
    disk.assert_sound();
}
