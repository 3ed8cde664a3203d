//! Flush plans as text: which metadata goes out in which order, with a barrier after each stage.

use std::sync::Arc;

use block_io::Storage;
use cow_engine::{Backing, Image, ZeroMode};

use crate::images::{self, memory, open, open_over, word};
use crate::kinds::{Data, Kind};
use crate::power::assert_closed;
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;

fn flush(image: &Image) -> String {
    image.flush_traced().unwrap().to_string()
}

#[test]
fn trap_81_first_write() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
    // Nothing is left to do.
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn trap_80_second_write() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(CLUSTER, &[1; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn a_new_l2_table() {
    // One table maps 512 MiB.
    let image = open(&memory(1 << 30, 16));
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(512 << 20, &[1; 512]).unwrap();
    // A table and a cluster are counted; then come the table's entry and the way to it.
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn overwrite_only() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(0, &[2; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn trap_82_copy_on_write() {
    let image = open_over(&memory(1 << 20, 16), Some(Arc::new(TestBacking::new(vec![7; 1 << 20]))));
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_blob(CLUSTER, &[0x55; 100]).unwrap();
    image.flush().unwrap();
    // The blob's cluster is counted down once its entry is gone.
    image.write_at(CLUSTER, &[1; CLUSTER as usize]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn copy_on_write_over_a_backing_file() {
    let image = open_over(&memory(1 << 20, 16), Some(Arc::new(TestBacking::new(vec![7; 1 << 20]))));
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    // Parts of two clusters: what is copied around them is guest data, durable before the entries.
    image.write_at(3 * CLUSTER - 512, &[2; 1024]).unwrap();
    assert_eq!(images::read(&image, 2 * CLUSTER, 512), [7; 512]);
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn given_back_by_zeroing() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 3 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    image.write_zeroes_at(0, 2 * CLUSTER, ZeroMode::Unmap).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn a_new_refcount_block() {
    // One block of 512 bytes counts 256 clusters, 128 KiB.
    let image = open(&memory(1 << 20, 9));
    image.write_at(0, &[1; 120 << 10]).unwrap();
    image.flush().unwrap();
    image.write_at(120 << 10, &[1; 8 << 10]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn growth_of_the_refcount_table() {
    // One table cluster of 64 blocks counts 16384 clusters, 8 MiB. Growth itself is synced when
    // it happens; the flush after it frees the old table.
    let image = open(&memory(16 << 20, 9));
    let mut at = 0;
    while image.storage().len().unwrap() < 8 << 20 {
        image.write_at(at, &[1; 1 << 10]).unwrap();
        at += 1 << 10;
        if image.storage().len().unwrap() < (8 << 20) - 4096 {
            image.flush().unwrap();
        }
    }
    image.write_at(at, &[1; 1 << 10]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn trap_83_counts_that_wait_put_the_dirty_bit_first() {
    let kind = Kind::standard(1 << 20, 16).lazy();
    let media = kind.memory();
    let image = kind.open(&media, None);
    // Nothing to say yet.
    insta::assert_snapshot!("lazy_nothing", flush(&image));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!("lazy_first", flush(&image));
    assert_eq!(word(&*media.image, 72), 1, "the dirty bit is on the disk");
    image.write_at(CLUSTER, &[1; 512]).unwrap();
    insta::assert_snapshot!("lazy_second", flush(&image));
    image.write_at(CLUSTER, &[2; 512]).unwrap();
    insta::assert_snapshot!("lazy_overwrite", flush(&image));
    image.discard_at(0, CLUSTER).unwrap();
    insta::assert_snapshot!("lazy_discard", flush(&image));
    // Counts first, then the bit goes.
    let counts = word(&*media.image, images::REFCOUNT_BLOCK * CLUSTER + 8);
    assert_eq!(counts, 0, "no count has reached the disk");
    image.close().unwrap();
    assert_eq!(word(&*media.image, 72), 0);
    assert_closed(&images::bytes(&*media.image));
}

#[test]
fn an_overwrite_alone_makes_no_lazy_image_dirty() {
    let kind = Kind::standard(1 << 20, 16).lazy();
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 512]).unwrap();
    image.close().unwrap();
    let image = kind.open(&media, None);
    image.write_at(0, &[2; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
    assert_eq!(word(&*media.image, 72), 0);
}

#[test]
fn a_data_file_is_durable_before_its_entries() {
    let backing: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![7; 1 << 20]));
    let kind = Kind::standard(1 << 20, 16).with_data(Data::Outside);
    let image = kind.open(&kind.memory(), Some(Arc::clone(&backing)));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!("outside_first", flush(&image));
    image.discard_at(0, CLUSTER).unwrap();
    // Nothing is counted down; the hole comes last.
    insta::assert_snapshot!("outside_discard", flush(&image));
    let image = kind.lazy().open(&kind.lazy().memory(), Some(backing));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!("outside_lazy", flush(&image));
}

#[test]
fn a_compressed_write() {
    let image = open(&memory(1 << 20, 16));
    let mut compressor = image.compressor().unwrap();
    image.write_compressed_at(&mut compressor, 0, &[7; CLUSTER as usize]).unwrap();
    insta::assert_snapshot!("compressed_first", flush(&image));
    // Another one in the same host cluster: its count rises before the entry is there.
    image.write_compressed_at(&mut compressor, CLUSTER, &[8; CLUSTER as usize]).unwrap();
    insta::assert_snapshot!("compressed_packed", flush(&image));
    // The entry of the first one goes, then one of the two counts.
    image.discard_at(0, CLUSTER).unwrap();
    insta::assert_snapshot!("compressed_given_up", flush(&image));
}

#[test]
fn a_discard() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 3 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    image.discard_at(CLUSTER, CLUSTER).unwrap();
    // The entry first; the hole and the count come after the last barrier.
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn the_first_write_of_an_extended_entry() {
    let kind = Kind::extended(1 << 20, 16);
    let backing: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![7; 1 << 20]));
    let image = kind.open(&kind.memory(), Some(backing));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn a_shared_l2_table_is_copied() {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.close().unwrap();
    // What an internal snapshot does: the L1 entry and the L2 entry are no longer the only ones.
    let entry = images::l2_entry_at(&*storage, 0);
    images::poke(&*storage, entry, |entry| entry & !(1 << 63));
    let l1 = images::L1_TABLE * CLUSTER;
    images::poke(&*storage, l1, |entry| entry & !(1 << 63));
    let cluster = entry / CLUSTER;
    for used in [cluster, cluster + 1] {
        let word = images::REFCOUNT_BLOCK * CLUSTER + used / 4 * 8;
        images::poke(&*storage, word, |counts| counts + (1 << (48 - used % 4 * 16)));
    }
    let image = open(&storage);
    image.write_at(100, &[2; 100]).unwrap();
    // Three new counts, then the entries of the copy and the way to it; the old table and the old
    // cluster lose a reference last.
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn closing_clears_the_dirty_bit_when_all_else_is_durable() {
    let kind = Kind::standard(1 << 20, 16).lazy();
    let image = kind.open(&kind.memory(), None);
    image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    image.discard_at(0, CLUSTER).unwrap();
    let plans = image.close_traced().unwrap();
    let text: Vec<String> = plans.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"));
    // Nothing is postponed in this one, and there is no bit to clear.
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 512]).unwrap();
    let plans = image.close_traced().unwrap();
    assert_eq!(plans.len(), 1, "{plans:?}");
}

/// The calls of a growth of the refcount table, in the middle of a write.
#[test]
fn growth_reaches_the_disk_before_anything_that_needs_it() {
    let media = crate::kinds::Media {
        image: Arc::new(crate::faults::nearly_full()),
        data: None::<Arc<block_io::MemoryStorage>>,
    };
    let image = open(&media.image);
    // Up to the last cluster that the table counts.
    let mut at = 12 << 20;
    while media.image.len().unwrap() < 8 << 20 {
        image.write_at(at, &[1; 512]).unwrap();
        at += 512;
    }
    image.close().unwrap();
    let power = crate::power::Power::on(&media, crate::power::none_lost);
    let image = Kind::standard(16 << 20, 9).open(power.media(), None);
    image.write_at(at, &[2; 512]).unwrap();
    image.close().unwrap();
    insta::assert_snapshot!(power.log().text());
}

/// Tables that do not fit into the cache are flushed like any others before they are forgotten.
#[test]
fn tables_leave_memory_in_the_order_of_a_flush() {
    // Each table of 64 entries maps 32 KiB: every write has a new one. 64 slices are kept, and a
    // quarter of them may be dirty.
    let kind = Kind::standard(64 << 20, 9);
    let power = crate::power::Power::on(&kind.memory(), crate::power::none_lost);
    let image = kind.open(power.media(), None);
    for number in 0..17 {
        let usage = image.cache_usage();
        assert!(usage.l2_slices_dirty <= 16, "{usage:?}");
        image.write_at(number * 0x8000, &[1; 512]).unwrap();
    }
    assert_eq!(image.cache_usage().l2_slices_dirty, 1, "nobody has asked for this flush");
    insta::assert_snapshot!(power.log().text());
}

#[test]
fn subclusters_of_one_cluster_are_one_entry() {
    let kind = Kind::extended(1 << 20, 16);
    let image = kind.open(&kind.memory(), None);
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(4096, &[1; 512]).unwrap();
    image.write_zeroes_at(8192, 2048, ZeroMode::Unmap).unwrap();
    insta::assert_snapshot!("subclusters_kept", flush(&image));
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap).unwrap();
    insta::assert_snapshot!("subclusters_given_back", flush(&image));
}

/// Each call of the storage in the order of the plan: data, then the first barrier, and so on.
#[test]
fn the_calls_come_in_the_order_of_the_plan() {
    let kind = Kind::standard(1 << 20, 16).with_data(Data::Outside).lazy();
    let power = crate::power::Power::on(&kind.memory(), crate::power::none_lost);
    let image = kind.open(power.media(), None);
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.discard_at(0, CLUSTER).unwrap();
    image.close().unwrap();
    insta::assert_snapshot!(power.log().text());
}
