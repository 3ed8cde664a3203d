//! Damaged and hostile images: a typed error that names structure and place; no panic, no wrong
//! byte, no memory out of proportion, and never a write over metadata.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Area, Backing, BelowError, Class, Error, Image, OpenOptions, ZeroMode};
use qcow2_format::{HostOffset, Version};
use testkit::Rng;

use crate::images::{
    L1_TABLE, REFCOUNT_BLOCK, assert_only_marked, bytes, l2_entry_at, memory, open, poke, read,
};
use crate::test_backing::BrokenBacking;

const CLUSTER: u64 = 65536;

/// Something that is tried with an image.
type Attempt = fn(&Image) -> Result<(), Error>;
const COPIED: u64 = 1 << 63;

/// An image with data in its first two clusters, at 0x50000 and 0x60000.
fn written() -> Arc<MemoryStorage> {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
    image.close().unwrap();
    storage
}

fn try_open(storage: &Arc<MemoryStorage>, read_only: bool) -> Result<Image, Error> {
    let storage: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(storage);
    Image::open(storage, OpenOptions::new().read_only(read_only))
}

/// What opening for writing says; the file stays as it was.
#[track_caller]
fn complaint(storage: &Arc<MemoryStorage>) -> String {
    let before = bytes(&**storage);
    let error = try_open(storage, false).expect_err("to be refused");
    assert_eq!(error.class(), Class::Corrupt, "{error}");
    assert!(bytes(&**storage) == before, "CE-6: the file has changed");
    error.to_string()
}

/// Points the first L1 entry of a new image somewhere.
fn l1_pointing_to(target: u64) -> Arc<MemoryStorage> {
    let storage = written();
    poke(&*storage, L1_TABLE * CLUSTER, |_| target | COPIED);
    storage
}

#[test]
fn an_l2_table_on_other_metadata() {
    let mut texts = Vec::new();
    for target in [0x1_0000, 0x2_0000, 0x3_0000] {
        texts.push(complaint(&l1_pointing_to(target)));
    }
    insta::assert_snapshot!(texts.join("\n"), @r"
    an L2 table at host offset 0x10000 overlaps with the refcount table
    an L2 table at host offset 0x20000 overlaps with a refcount block
    an L2 table at host offset 0x30000 overlaps with the L1 table
    ");
}

#[test]
fn two_l1_entries_with_one_l2_table() {
    let storage = memory(64 << 20, 12);
    let image = open(&storage);
    image.write_at(0, &[1; 512]).unwrap();
    image.close().unwrap();
    let l1 = crate::images::word(&*storage, 40);
    let first = crate::images::word(&*storage, l1);
    poke(&*storage, l1 + 8, |_| first);
    let text = complaint(&storage);
    assert!(text.contains("an L2 table at host offset"), "{text}");
    assert!(text.ends_with("overlaps with an L2 table"), "{text}");
}

#[test]
fn an_unaligned_l2_table() {
    let storage = l1_pointing_to(0x4_0200);
    insta::assert_snapshot!(complaint(&storage), @"L1 table: entry 0 is 0x40200, allowed is a multiple of the cluster size");
    let image = try_open(&storage, true).unwrap();
    let error = image.read_at(0, &mut [0; 512]).unwrap_err();
    assert!(matches!(error, Error::Misplaced { index: 0, .. }), "{error}");
}

#[test]
fn an_l2_table_past_the_end_of_the_file() {
    let storage = l1_pointing_to(0x4000_0000);
    insta::assert_snapshot!(complaint(&storage), @"L1 table: entry 0 is 0x40000000, allowed is an offset inside the file");
    // A reader opens the image, but what the table mapped is lost, not zeros.
    let image = try_open(&storage, true).unwrap();
    let error = image.read_at(0, &mut [0; 4]).unwrap_err();
    insta::assert_snapshot!(error, @"L1 table: entry 0 is 0x40000000, allowed is an offset inside the file");
}

#[test]
fn data_past_the_end_of_the_file() {
    let storage = written();
    poke(&*storage, l2_entry_at(&*storage, CLUSTER), |_| 0x4000_0000 | COPIED);
    for read_only in [true, false] {
        let image = try_open(&storage, read_only).unwrap();
        assert_eq!(read(&image, CLUSTER - 4, 4), [1; 4]);
        let error = image.read_at(CLUSTER - 4, &mut [0; 8]).unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"L2 table entry for guest offset 0x10000: data cluster at host offset 0x40000000 lies behind the end of the file at 0x70000");
        }
    }
    // A cluster that has only lost its end still reads: files end where zeros begin.
    storage.set_len(0x5_8000).unwrap();
    let image = try_open(&storage, true).unwrap();
    assert_eq!(read(&image, 0x7fff, 4), [1, 0, 0, 0]);
    assert_eq!(read(&image, 0xfff0, 4), [0; 4]);
}

#[test]
fn a_refcount_block_twice_or_on_a_table() {
    let storage = written();
    poke(&*storage, 0x1_0008, |_| 0x2_0000);
    insta::assert_snapshot!(complaint(&storage), @"a refcount block at host offset 0x20000 overlaps with a refcount block");
    poke(&*storage, 0x1_0008, |_| 0x1_0000);
    insta::assert_snapshot!(complaint(&storage), @"a refcount block at host offset 0x10000 overlaps with the refcount table");
    poke(&*storage, 0x1_0008, |_| 0x7_0200);
    insta::assert_snapshot!(complaint(&storage), @"refcount table: entry 1 is 0x70200, allowed is a multiple of the cluster size");
    poke(&*storage, 0x1_0008, |_| 0xffff_ffff_ffff_0000);
    insta::assert_snapshot!(complaint(&storage), @"refcount table: entry 1 is 0xffffffffffff0000, allowed is an offset inside the file");
}

#[test]
fn tables_of_the_header_on_each_other() {
    let storage = written();
    poke(&*storage, 40, |_| 0x1_0000);
    insta::assert_snapshot!(complaint(&storage), @"the refcount table at host offset 0x10000 overlaps with the L1 table");
    poke(&*storage, 40, |_| 0);
    insta::assert_snapshot!(complaint(&storage), @"the L1 table at host offset 0x0 overlaps with the header");
}

#[test]
fn a_file_cut_off_anywhere() {
    let whole = bytes(&*written());
    for len in (0..600).step_by(5).chain((0x200..whole.len()).step_by(0x2fff)) {
        let storage = Arc::new(MemoryStorage::from(&whole[..len]));
        for read_only in [true, false] {
            let Ok(image) = try_open(&storage, read_only) else { continue };
            // Old bytes, zeros where a cluster has lost its end, or a word about what is lost.
            let mut found = vec![0; 8192];
            match image.read_at(CLUSTER - 4096, &mut found) {
                Ok(()) => assert!(found.iter().all(|&byte| byte <= 1)),
                Err(error) => assert_eq!(error.class(), Class::Corrupt, "{error}"),
            }
            if !read_only {
                let _ = image.write_at(0, &[2; 100]);
                let _ = image.write_at(0x8_0000, &[2; 100]);
                let _ = image.flush();
            }
        }
    }
}

#[test]
fn trap_86_data_never_goes_over_metadata() {
    for (target, owner) in [
        (0x1_0000, Area::RefcountTable),
        (0x2_0000, Area::RefcountBlock),
        (0x3_0000, Area::L1Table),
        (0x4_0000, Area::L2Table),
    ] {
        for flags in [COPIED, COPIED | 1] {
            let storage = written();
            poke(&*storage, l2_entry_at(&*storage, 0), |_| target | flags);
            let before = bytes(&*storage);
            let image = open(&storage);
            let error = image.write_at(0, &[9; 512]).unwrap_err();
            let Error::Overlap { claimant: Area::Data, host, owner: found } = error else {
                panic!("{error}");
            };
            assert_eq!((host, found), (HostOffset::new(target), owner));
            image.close().unwrap();
            assert_only_marked(&*storage, &before, "CE-4");
            // Found once, the damage keeps everybody from writing.
            let again = try_open(&storage, false).unwrap_err();
            assert!(matches!(again, Error::MarkedCorrupt), "{again}");
        }
    }
}

#[test]
fn metadata_is_never_given_up_because_an_entry_says_so() {
    let attempts: [Attempt; 4] = [
        |image| image.write_at(0, &[9; 512]),
        |image| image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap),
        |image| image.write_zeroes_at(0, CLUSTER, ZeroMode::Keep),
        |image| image.discard_at(0, CLUSTER),
    ];
    for target in [0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000] {
        for flags in [0, COPIED, 1 << 62] {
            for attempt in attempts {
                let storage = written();
                poke(&*storage, l2_entry_at(&*storage, 0), |_| target | flags);
                let before = bytes(&*storage);
                let image = open(&storage);
                let attempt = attempt(&image);
                let refused = matches!(attempt, Err(Error::Overlap { claimant: Area::Data, .. }));
                assert!(refused, "{target:#x} {flags:#x}: {attempt:?}");
                image.close().unwrap();
                assert_only_marked(&*storage, &before, "CE-4");
            }
        }
    }
}

#[test]
fn writes_through_entries_that_point_behind_the_file_are_refused() {
    for target in [1_u64 << 40, 0x7_0000] {
        for flags in [COPIED, COPIED | 1] {
            let storage = written();
            poke(&*storage, l2_entry_at(&*storage, 0), |_| target | flags);
            let before = bytes(&*storage);
            let image = open(&storage);
            let error = image.write_at(0, &[9; 512]).unwrap_err();
            assert!(matches!(error, Error::LostCluster { .. }), "{error}");
            image.close().unwrap();
            assert!(bytes(&*storage) == before, "something was written");
        }
    }
}

#[test]
fn counts_that_call_a_table_free() {
    // The cluster of the L2 table, then that of the refcount block, is free by the counts.
    for cluster in [4, REFCOUNT_BLOCK, L1_TABLE] {
        let storage = written();
        storage.write_at(REFCOUNT_BLOCK * CLUSTER + cluster * 2, &[0, 0]).unwrap();
        let before = bytes(&*storage);
        let image = open(&storage);
        let error = image.write_at(0x8_0000, &[9; 512]).unwrap_err();
        assert!(matches!(error, Error::Overlap { claimant: Area::Data, .. }), "{error}");
        // Counts that are wrong about one cluster may be wrong about all: nothing is written.
        assert!(matches!(image.write_at(0, &[9]), Err(Error::Poisoned(_))));
        assert!(matches!(image.flush(), Err(Error::Poisoned(_))));
        assert_eq!(read(&image, 0, 512), [1; 512], "reads go on");
        drop(image);
        assert_only_marked(&*storage, &before, "CE-4");
    }
}

#[test]
fn the_header_is_never_handed_out() {
    let storage = written();
    // Neither by a count of 0 nor by a missing first block.
    storage.write_at(REFCOUNT_BLOCK * CLUSTER, &[0, 0]).unwrap();
    let image = open(&storage);
    image.write_at(0x8_0000, &[9; 512]).unwrap();
    image.close().unwrap();
    assert_eq!(crate::images::word(&*storage, 0) >> 32, 0x5146_49fb);

    let storage = written();
    poke(&*storage, 0x1_0000, |_| 0);
    let before = bytes(&*storage);
    let error = open(&storage).write_at(0x8_0000, &[9; 512]).unwrap_err();
    assert!(matches!(error, Error::Refcount(refcount::Error::HeaderFree)), "{error}");
    assert_only_marked(&*storage, &before, "CE-4");
}

#[test]
fn an_absent_block_over_tables_is_not_made() {
    // 512-byte clusters: the second block of counts is gone, and an L2 table lies at the place
    // where the new block would go.
    let storage = memory(1 << 20, 9);
    let image = open(&storage);
    image.write_at(0, &[1; 124 << 10]).unwrap();
    for guest in (124 << 10..512 << 10).step_by(32 << 10) {
        image.write_at(guest, &[1; 512]).unwrap();
    }
    image.close().unwrap();
    let table = crate::images::word(&*storage, 48);
    poke(&*storage, table + 8, |_| 0);
    // Make the first cluster of the second range an L2 table.
    let l1 = crate::images::word(&*storage, 40);
    poke(&*storage, l1 + 8 * 8, |_| (256 * 512) | COPIED);
    let before = bytes(&*storage);
    let image = open(&storage);
    let error = image.write_at(900 << 10, &[9; 512]).unwrap_err();
    assert!(matches!(error, Error::Overlap { claimant: Area::RefcountBlock, .. }), "{error}");
    assert!(matches!(image.flush(), Err(Error::Poisoned(_))));
    drop(image);
    assert_only_marked(&*storage, &before, "the block was written over the table");
}

#[test]
fn a_count_of_0_under_a_cluster_in_use() {
    let storage = written();
    let image = open(&storage);
    image.write_at(5 * CLUSTER, &[1; CLUSTER as usize]).unwrap();
    image.close().unwrap();
    // The cluster at 0x70000 has count 0; dropping its last reference must not wrap around.
    storage.write_at(REFCOUNT_BLOCK * CLUSTER + 7 * 2, &[0, 0]).unwrap();
    let image = open(&storage);
    image.write_zeroes_at(5 * CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
    let error = image.flush().unwrap_err();
    insta::assert_snapshot!(error, @"refcount of host cluster 7 is 0 although the cluster is in use");
    assert_eq!(read(&image, 0, 8), [1; 8]);
}

#[test]
fn trap_18_zero_flag_in_version_2() {
    let storage = Arc::new(MemoryStorage::new());
    cow_engine::create(&*storage, &crate::images::options(1 << 20, 16, Version::V2)).unwrap();
    let image = open(&storage);
    image.write_at(0, &[1; 512]).unwrap();
    image.close().unwrap();
    poke(&*storage, l2_entry_at(&*storage, 0), |entry| entry | 1);
    let image = open(&storage);
    let error = image.read_at(0, &mut [0; 4]).unwrap_err();
    insta::assert_snapshot!(error, @"L2 table entry 0x8000000000050001 for guest offset 0x0: zero flag in a version 2 image");
    // Version 2 has no place for a mark, but this image takes no more writes.
    assert!(matches!(image.write_at(CLUSTER, &[1; 4]), Err(Error::Poisoned(_))));
    image.close().unwrap();
    let writes: [Attempt; 2] =
        [|image| image.write_at(0, &[1; 4]), |image| image.write_zeroes_at(0, 512, ZeroMode::Keep)];
    for write in writes {
        let image = open(&storage);
        // Its neighbours are not touched by that.
        image.write_at(CLUSTER, &[1; 4]).unwrap();
        assert!(matches!(write(&image), Err(Error::Entry(_))));
        image.close().unwrap();
    }
}

#[test]
fn a_data_cluster_that_is_not_aligned() {
    let storage = written();
    poke(&*storage, l2_entry_at(&*storage, 0), |_| 0x5_0200 | COPIED);
    let before = bytes(&*storage);
    let image = open(&storage);
    assert!(matches!(image.write_at(0, &[1; 4]), Err(Error::Entry(_))));
    assert!(matches!(image.read_at(0, &mut [0; 4]), Err(Error::Entry(_))));
    assert_eq!(read(&image, CLUSTER, 4), [1; 4]);
    image.close().unwrap();
    assert_only_marked(&*storage, &before, "nobody knows where to write");
    let image = try_open(&storage, true).unwrap();
    assert!(matches!(image.read_at(0, &mut [0; 4]), Err(Error::Entry(_))));
}

#[test]
fn trap_87_readers_that_find_damage_write_nothing() {
    for entry in [0x5_0200 | COPIED, 0x4000_0000 | COPIED, 1 << 62 | 0x1_0000] {
        let storage = written();
        poke(&*storage, l2_entry_at(&*storage, 0), |_| entry);
        let before = bytes(&*storage);
        let image = try_open(&storage, true).unwrap();
        assert_eq!(image.read_at(0, &mut [0; 4]).unwrap_err().class(), Class::Corrupt);
        assert_eq!(read(&image, CLUSTER, 4), [1; 4], "reads go on");
        image.close().unwrap();
        assert!(bytes(&*storage) == before, "{entry:#x}: a reader has written");
    }
}

#[test]
fn compressed_clusters_that_are_none() {
    let storage = written();
    let entry = l2_entry_at(&*storage, 0);
    // Text is no deflate stream; the end of the file is too little of one.
    for (target, what) in [(0x5_0000, "0x50000"), (0x4000_0000, "0x40000000")] {
        poke(&*storage, entry, |_| 1 << 62 | target);
        let image = open(&storage);
        let error = image.read_at(0, &mut [0; 4]).unwrap_err();
        assert!(matches!(error, Error::Decompress { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        // The rest of the cluster cannot be copied, so a part of it cannot be written.
        assert!(image.write_at(0, &[1; 4]).is_err());
        image.flush().unwrap();
    }
}

#[test]
fn tables_that_claim_to_be_huge_cost_no_memory_for_what_is_not_there() {
    // The largest tables the format allows, in a file of a few hundred kilobytes. The L1 table
    // begins in its last cluster, the refcount table where nothing is.
    let storage = written();
    storage.write_zeroes_at(0x6_0000, CLUSTER).unwrap();
    poke(&*storage, 32, |word| word & !0xffff_ffff | 4_194_304);
    poke(&*storage, 40, |_| 0x6_0000);
    poke(&*storage, 48, |_| 0x4000_0000);
    poke(&*storage, 56, |word| word & 0xffff_ffff | 128 << 32);
    let image = try_open(&storage, true).unwrap();
    assert_eq!(read(&image, 0, 8), [0; 8]);
    let before = bytes(&*storage);
    let written = try_open(&storage, false).and_then(|image| image.write_at(0, &[1]));
    assert_eq!(written.unwrap_err().class(), Class::Corrupt);
    assert!(bytes(&*storage) == before);
}

#[test]
fn a_layer_below_that_fails() {
    let storage = memory(1 << 20, 16);
    let image = crate::images::open_over(&storage, Some(Arc::new(BrokenBacking)));
    let error = image.read_at(0x3000, &mut [0; 4]).unwrap_err();
    insta::assert_snapshot!(error, @"backing file at 0x3000: the layer is gone");
    assert!(matches!(image.write_at(0, &[1; 4]), Err(Error::Below { .. })));
    // A whole cluster needs nothing from below.
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.close().unwrap();
    crate::census::assert_clean(&bytes(&*storage));
}

/// A layer of sevens with bad bytes in it: a request that touches one of them fails.
#[derive(Debug)]
struct ScratchedBacking(core::ops::Range<u64>);

impl Backing for ScratchedBacking {
    fn virtual_size(&self) -> u64 {
        u64::MAX
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        if offset < self.0.end && self.0.start < offset + buf.len() as u64 {
            return BrokenBacking.read_at(offset, buf);
        }
        buf.fill(7);
        Ok(())
    }

    fn reads_as_zeros(&self, _offset: u64, _len: u64) -> Result<bool, BelowError> {
        Ok(false)
    }
}

/// Guests write over bad sectors to be rid of them: nobody needs their old bytes.
#[test]
fn bad_bytes_below_are_written_over() {
    let storage = memory(1 << 20, 16);
    let image =
        crate::images::open_over(&storage, Some(Arc::new(ScratchedBacking(0x4200..0x4400))));
    image.read_at(0x4000, &mut [0; 4096]).unwrap_err();
    assert!(matches!(image.write_at(0x5000, &[1; 4096]), Err(Error::Below { .. })));
    image.write_at(0x4000, &[1; 4096]).unwrap();
    let expected = [&[7; 0x4000][..], &[1; 4096], &[7; 0xb000]].concat();
    assert!(crate::images::read(&image, 0, 1 << 16) == expected);
}

#[test]
fn random_damage_never_panics() {
    let mut rng = Rng::announced(0xdead);
    let good = {
        let storage = memory(256 << 10, 9);
        let image = open(&storage);
        image.write_at(0, &[1; 40_000]).unwrap();
        image.write_blob(50 << 10, &[3; 300]).unwrap();
        image.write_zeroes_at(60 << 10, 4096, ZeroMode::Keep).unwrap();
        image.close().unwrap();
        bytes(&*storage)
    };
    for _ in 0..800 {
        let storage = Arc::new(MemoryStorage::from(&good[..]));
        for _ in 0..=rng.below(4) {
            // Words of the header and of the tables, most of them.
            let at = if rng.one_in(4) { rng.below(14) * 8 } else { rng.below(0x2400 / 8) * 8 };
            match rng.below(4) {
                0 => poke(&*storage, at, |word| word ^ 1 << rng.below(64)),
                1 => poke(&*storage, at, |_| (rng.below(200) * 512) | COPIED),
                2 => poke(&*storage, at, |_| rng.next_u64()),
                _ => poke(&*storage, at, |_| 0),
            }
        }
        for read_only in [true, false] {
            let Ok(image) = try_open(&storage, read_only) else { continue };
            let size = image.virtual_size();
            if size == 0 {
                continue;
            }
            for _ in 0..6 {
                let offset = rng.below(size.min(300 << 10));
                let len = (1 + rng.below(9000)).min(size - offset);
                let mut buf = vec![5; len as usize];
                let _ = image.read_at(offset, &mut buf);
                let _ = image.explain(offset);
                if !read_only {
                    let _ = image.write_at(offset, &buf);
                    let _ = image.write_zeroes_at(offset, len, ZeroMode::Unmap);
                    let _ = image.flush();
                }
            }
        }
    }
}
