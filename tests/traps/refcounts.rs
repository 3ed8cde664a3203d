//! Refcounts and allocation: places that must never be handed out, and counts that lie.

use qimg::format::{
    ClusterBits, Geometry, HostOffset, L2Layout, RefcountBlock, RefcountOrder, RefcountTableEntry,
};
use qimg::refcount::{Error, Ledger, Need, Reserve};

use super::disk::Disk;

#[test]
fn no_cluster_beyond_2_to_the_56_is_handed_out() {
    let bits = ClusterBits::new(21).unwrap();
    let geometry = Geometry::new(bits, RefcountOrder::new(3).unwrap(), L2Layout::Standard).unwrap();
    let cluster_bytes = geometry.cluster_bytes();
    let (per_block, limit) = (geometry.refcounts_per_block(), 1 << (56 - 21));
    let block = RefcountTableEntry::new(HostOffset::new(4 * cluster_bytes));
    let table = vec![block; (limit / per_block) as usize];
    let last_index = table.len() as u64 - 1;
    let table_offset = HostOffset::new(cluster_bytes);
    let mut ledger = Ledger::new(geometry, table_offset, table, (limit - 3) * cluster_bytes);
    let mut ask = |wanted, how| loop {
        match ledger.reserve(wanted, how) {
            Err(Need::Load { table_index, .. }) => {
                // Everything is in use but the last three clusters. A block without counts has
                // no free one, and takes no memory.
                let bytes = if table_index == last_index { cluster_bytes } else { 0 };
                let order = geometry.refcount_order();
                let mut block = RefcountBlock::zeroed(order, bytes as usize);
                for slot in 0..block.count().saturating_sub(3) {
                    block.set(slot, 1).unwrap();
                }
                ledger.insert(table_index, block);
            }
            answer => return answer,
        }
    };
    let beyond = |answer| matches!(answer, Err(Need::Fail(Error::BeyondLimit { .. })));
    assert!(beyond(ask(5, Reserve::Exactly)), "two of the five have no address");
    let first = ask(2, Reserve::Exactly).unwrap();
    assert_eq!((first.first.get(), first.count), (limit - 3, 2));
    let second = ask(5, Reserve::UpTo).unwrap();
    assert_eq!((second.first.get(), second.count), (limit - 1, 1));
    assert!(beyond(ask(1, Reserve::UpTo)), "nothing is left that has an address");
}

#[test]
fn a_count_of_0_under_a_cluster_in_use_is_repaired_by_new_counts_elsewhere() {
    let made = Disk::new("64M");
    made.theirs(&["write -P 1 0 192k"]);
    let content = made.content();
    // The count of the first data cluster.
    made.poke(0x2_000a, &[0, 0]);
    let mut tables = Vec::new();
    for hand in [Disk::img, Disk::qimg] {
        let disk = made.copy();
        hand(&disk, "check").exits(2);
        hand(&disk, "check -r all").success();
        tables.push(disk.word(48));
        disk.assert_content(&content);
        disk.assert_sound();
    }
    assert!(tables.iter().all(|&table| table != 0x1_0000), "the table has moved: {tables:#x?}");
}

#[test]
fn counts_behind_the_end_of_the_file_are_nobodys_leaks() {
    let disk = Disk::new("64M");
    disk.theirs(&["write -P 1 0 192k"]);
    // Cluster 12 of 8.
    disk.poke(0x2_0018, &[0, 9]);
    disk.assert_sound();
    // And no reason to use that cluster when the file has grown there.
    disk.ours(&["write -P 2 1M 1M"]);
    assert_eq!(disk.word(0x2_0018) >> 48, 9, "the count is what it was");
    disk.img("check").exits(3);
    disk.qimg("check").exits(3);
}

#[test]
fn counts_narrower_than_a_byte_start_with_its_lowest_bits() {
    // Two data clusters, an L2 table and the four clusters of a new image: seven.
    let cases: [(u32, &[u8]); 4] =
        [(1, &[0x7f]), (2, &[0x55, 0x15]), (4, &[0x11, 0x11, 0x11, 0x01]), (8, &[1; 7])];
    for (bits, counts) in cases {
        for (make, hand) in [
            (Disk::img as fn(&Disk, &str) -> _, Disk::theirs as fn(&Disk, &[&str])),
            (Disk::qimg, Disk::ours),
        ] {
            let disk = Disk::new("1M");
            make(&disk, &format!("create -q -f qcow2 -o size=1M,refcount_bits={bits}")).success();
            hand(&disk, &["write -P 1 0 128k"]);
            let block = disk.bytes()[0x2_0000..0x2_0010].to_vec();
            let mut expected = counts.to_vec();
            expected.resize(16, 0);
            assert_eq!(block, expected, "{bits} bits");
            disk.assert_sound();
        }
    }
}

#[test]
fn blobs_share_a_host_cluster_only_as_far_as_its_count_can_tell() {
    for (bits, most) in [(1, 1), (2, 3), (4, 15), (16, 20)] {
        let disk = Disk::new(&format!("-o refcount_bits={bits},cluster_size=64k 2M"));
        let commands: Vec<String> = (0..20)
            .map(|number| format!("write -c -P {} {}k 64k", number + 1, number * 64))
            .collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        disk.ours(&commands);
        let mut blobs = std::collections::BTreeMap::new();
        for guest in (0..20_u64 << 16).step_by(1 << 16) {
            let entry = disk.l2_entry(guest);
            assert_eq!(entry >> 62, 1, "{guest:#x} is compressed");
            *blobs.entry((entry & ((1 << 54) - 1)) >> 16).or_insert(0) += 1;
        }
        assert_eq!(blobs.values().max(), Some(&most), "{bits} bits: {blobs:?}");
        let expected: Vec<u8> = (0..32_u8)
            .flat_map(|number| vec![if number < 20 { number + 1 } else { 0 }; 1 << 16])
            .collect();
        disk.assert_content(&expected);
        disk.assert_sound();
        // Overwriting all of them gives everything back.
        disk.ours(&["write -P 99 0 1280k", "discard 0 2M"]);
        disk.assert_sound();
    }
}
