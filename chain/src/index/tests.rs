//! CH-6: the index beside the walk, on layers of all kinds, by several threads and with hardly any
//! memory.

use std::path::PathBuf;
use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{BackingReference, CreateOptions, Image, OpenOptions, Preallocation, ZeroMode};
use qcow2_format::{ClusterBits, CompressionType, Version};
use testkit::{Pattern, Rng};

use super::page::Page;
use super::place::{Owner, Place, What};
use super::shelf::Shelf;
use crate::layer::{Disk, Layer};
use crate::lower::LowerLayers;
use crate::raw::RawDisk;
use crate::status::Status;
use crate::walk;

/// Three pages of the finest kind.
const SIZE: u64 = 12 << 20;

fn layer(disk: Disk) -> Arc<Layer> {
    Arc::new(Layer::new(PathBuf::from("layer"), disk))
}

/// A raw base with holes, of any length.
fn raw(rng: &mut Rng) -> Arc<Layer> {
    let storage = MemoryStorage::new();
    storage.set_len(rng.within(1..SIZE)).unwrap();
    for _ in 0..rng.below(12) {
        let at = rng.below(storage.len().unwrap());
        let len = rng.within(1..300_000).min(storage.len().unwrap() - at);
        storage.write_at(at, &Pattern::new(rng.next_u64()).bytes(at, len as usize)).unwrap();
    }
    layer(Disk::Raw(RawDisk::new(Arc::new(storage)).unwrap()))
}

fn random_options(rng: &mut Rng) -> CreateOptions {
    let size = if rng.one_in(3) { rng.within(1..SIZE / 512) * 512 } else { SIZE };
    let mut options = CreateOptions::new(size);
    let bits = *rng.pick(&[9, 12, 14, 16, 16, 16, 18, 21]);
    options.cluster_bits = ClusterBits::new(bits).unwrap();
    if rng.one_in(6) {
        options.version = Version::V2;
    } else {
        options.extended_l2 = bits >= 14 && rng.one_in(3);
        options.compression_type = *rng.pick(&[CompressionType::Deflate, CompressionType::Zstd]);
    }
    // With the name of a backing file there is a difference between zeros and nothing.
    if !rng.one_in(5) {
        options.backing = Some(BackingReference { name: "below".into(), format: None });
    } else if rng.one_in(3) && bits >= 12 {
        options.preallocation = Preallocation::Metadata;
    }
    options
}

/// An image written to in all ways, and then only read.
fn qcow2(rng: &mut Rng) -> (Arc<Layer>, Arc<MemoryStorage>) {
    let storage = Arc::new(MemoryStorage::new());
    let options = random_options(rng);
    cow_engine::create(&*storage, &options).unwrap();
    let image = Image::open(Arc::clone(&storage) as Arc<dyn Storage>, OpenOptions::new()).unwrap();
    let prepared = options.preallocation == Preallocation::Metadata;
    for _ in 0..rng.below(14) {
        change(&image, rng, prepared);
    }
    image.close().unwrap();
    (open(&storage), storage)
}

fn open(storage: &Arc<MemoryStorage>) -> Arc<Layer> {
    let storage = Arc::clone(storage) as Arc<dyn Storage>;
    let options = OpenOptions::new().read_only(true).l2_cache_bytes(0);
    layer(Disk::Qcow2(Box::new(Image::open(storage, options).unwrap())))
}

fn change(image: &Image, rng: &mut Rng, prepared: bool) {
    let cluster = image.geometry().cluster_bytes();
    let size = image.virtual_size();
    let offset = rng.below(size / 512) * 512;
    let len = rng.within(1..(cluster * 5).min(400_000)).min(size - offset);
    match rng.below(6) {
        0 => image.write_zeroes_at(offset, len, ZeroMode::Keep).unwrap(),
        1 => image.write_zeroes_at(offset, len, ZeroMode::Unmap).unwrap(),
        2 => image.discard_at(offset, len).unwrap(),
        3 if !prepared && size > cluster => {
            let offset = rng.below(size / cluster) * cluster;
            let bytes = vec![rng.next_u64() as u8; cluster as usize];
            let mut compressor = image.compressor().unwrap();
            // What keeps data there stays.
            let _ = image.write_compressed_at(&mut compressor, offset, &bytes);
        }
        _ => {
            let bytes = Pattern::new(rng.next_u64()).bytes(offset, len as usize);
            image.write_at(offset, &bytes).unwrap();
        }
    }
}

fn random_layers(rng: &mut Rng) -> Vec<Arc<Layer>> {
    let mut layers: Vec<_> = (0..rng.within(2..8)).map(|_| qcow2(rng).0).collect();
    if rng.one_in(2) {
        layers.push(raw(rng));
    }
    layers
}

/// The status of all bytes, joined.
fn whole(status: impl Fn(u64, u64) -> Status) -> Vec<(u64, Status)> {
    let (mut at, mut runs) = (0, Vec::<(u64, Status)>::new());
    while at < SIZE {
        let next = status(at, SIZE - at);
        assert!(next.len > 0 && next.len <= SIZE - at, "{next:?} at {at}");
        match runs.last_mut() {
            Some((_, last)) if last.continues(&next) => last.len += next.len,
            _ => runs.push((at, next)),
        }
        at += next.len;
    }
    runs
}

/// One read and one question at the same place.
#[track_caller]
fn assert_same_at(lower: &LowerLayers, at: u64, len: u64) {
    let (mut found, mut expected) = (vec![0xaa; len as usize], vec![0x55; len as usize]);
    lower.read_at(at, &mut found).unwrap();
    walk::read_at(lower.layers(), at, &mut expected).unwrap();
    assert!(found == expected, "{len} bytes at {at}");
    let found = lower.status_at(at, len, Some(at + 7)).unwrap();
    let expected = walk::status_at(lower.layers(), at, len, Some(at + 7)).unwrap();
    assert!(found.len > 0 && found.len <= len, "{found:?} for {len} at {at}");
    let both = found.len.min(expected.len);
    assert_eq!(found.at_most(both), expected.at_most(both), "{len} at {at}");
}

fn compare(lower: &LowerLayers, seed: u64, rounds: usize) {
    let mut rng = Rng::new(seed);
    for _ in 0..rounds {
        let at = rng.below(SIZE);
        let len = rng.within(1..*rng.clone().pick(&[2, 5000, 200_000, 5 << 20])).min(SIZE - at);
        assert_same_at(lower, at, len);
    }
}

#[test]
fn whatever_the_layers_the_index_says_what_the_walk_says() {
    let mut rng = Rng::announced(0xc4a1_0007);
    for number in 0..24 {
        let layers = random_layers(&mut rng);
        let walked = whole(|at, len| walk::status_at(&layers, at, len, None).unwrap());
        for bytes in [300, 3000, 40_000, 1 << 20] {
            let lower = LowerLayers::new(layers.clone(), bytes);
            let found = whole(|at, len| lower.status_at(at, len, None).unwrap());
            assert_eq!(found, walked, "chain {number}, {bytes} bytes");
            compare(&lower, rng.next_u64(), 25);
            assert!(lower.index_bytes() <= bytes, "{} of {bytes}", lower.index_bytes());
        }
    }
}

#[test]
fn threads_that_fight_for_little_memory_read_the_same() {
    let mut rng = Rng::announced(0xc4a1_0008);
    for bytes in [300, 2000, 20_000] {
        let lower = LowerLayers::new(random_layers(&mut rng), bytes);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (lower, seed) = (&lower, rng.next_u64());
                scope.spawn(move || compare(lower, seed, 60));
            }
        });
        assert!(lower.index_bytes() <= bytes);
    }
}

/// Whatever is broken, the index gives every byte that the walk gives, and its error for the others.
#[test]
fn damage_is_met_only_where_it_is() {
    let mut rng = Rng::announced(0xc4a1_0009);
    for _ in 0..8 {
        let mut options = CreateOptions::new(SIZE);
        options.backing = Some(BackingReference { name: "below".into(), format: None });
        let storage = Arc::new(MemoryStorage::new());
        cow_engine::create(&*storage, &options).unwrap();
        let writer = Arc::clone(&storage) as Arc<dyn Storage>;
        let image = Image::open(writer, OpenOptions::new()).unwrap();
        image.write_at(0, &Pattern::new(1).bytes(0, 9 << 20)).unwrap();
        image.close().unwrap();
        let l1 = image_l1(&storage);
        let broken = rng.below(9 << 4);
        storage.write_at(l1 + broken * 8, &[0x80, 0, 0, 0, 0, 0, 2, 0]).unwrap();
        let layers = vec![qcow2(&mut rng).0, open(&storage), raw(&mut rng)];
        let lower = LowerLayers::new(layers, 1 << 20);
        for cluster in 0..SIZE >> 16 {
            let (mut found, mut expected) = ([0; 65536], [1; 65536]);
            let ours = lower.read_at(cluster << 16, &mut found);
            let walked = walk::read_at(lower.layers(), cluster << 16, &mut expected);
            let texts = [ours, walked].map(|read| read.map_err(|error| error.to_string()));
            assert_eq!(texts[0], texts[1]);
            assert!(texts[0].is_err() || found == expected, "cluster {cluster}");
            let ours = lower.status_at(cluster << 16, 65536, None);
            let walked = walk::status_at(lower.layers(), cluster << 16, 65536, None);
            let texts = [ours, walked].map(|status| status.map_err(|error| error.to_string()));
            assert_eq!(texts[0], texts[1]);
        }
    }
}

/// Where the first L2 table of an image lies.
fn image_l1(storage: &MemoryStorage) -> u64 {
    let header = cow_engine::read_header(storage).unwrap();
    let mut entry = [0; 8];
    storage.read_at(header.l1_table_offset().get(), &mut entry).unwrap();
    u64::from_be_bytes(entry) & 0x00ff_ffff_ffff_fe00
}

fn empty(size: u64) -> Arc<Layer> {
    let storage = Arc::new(MemoryStorage::new());
    let mut options = CreateOptions::new(size);
    options.backing = Some(BackingReference { name: "below".into(), format: None });
    cow_engine::create(&*storage, &options).unwrap();
    open(&storage)
}

#[test]
fn large_disks_with_nothing_in_them_take_no_memory() {
    for (below, depth) in [(1 << 40, 2), (1 << 20, 1)] {
        let lower = LowerLayers::new(vec![empty(1 << 40), empty(below)], 1 << 20);
        let (mut at, mut questions) = (1 << 20, 0);
        while at < 1 << 40 {
            let status = lower.status_at(at, (1 << 40) - at, None).unwrap();
            assert_eq!((status.depth, status.present, status.zero), (depth, false, true));
            (at, questions) = (at + status.len, questions + 1);
        }
        assert!(questions < 100, "{questions} questions");
        assert_eq!(lower.index_bytes(), 0);
    }
}

/// Subclusters that are not there, in host clusters that are: neighbours in the disk, not in the file.
#[test]
fn reserved_places_are_joined_only_where_the_file_goes_on() {
    let storage = Arc::new(MemoryStorage::new());
    let mut options = CreateOptions::new(SIZE);
    options.extended_l2 = true;
    options.backing = Some(BackingReference { name: "below".into(), format: None });
    cow_engine::create(&*storage, &options).unwrap();
    let image = Image::open(Arc::clone(&storage) as Arc<dyn Storage>, OpenOptions::new()).unwrap();
    for cluster in [2, 1, 3, 4, 0] {
        image.write_at((cluster << 16) + 32768, &[1; 2048]).unwrap();
    }
    image.close().unwrap();
    let lower = LowerLayers::new(vec![empty(SIZE), open(&storage)], 1 << 20);
    let walked = whole(|at, len| walk::status_at(lower.layers(), at, len, None).unwrap());
    assert_eq!(whole(|at, len| lower.status_at(at, len, None).unwrap()), walked);
    assert!(walked.iter().any(|(_, run)| !run.present && run.host_offset.is_some()));
}

#[test]
fn one_layer_alone_has_no_index() {
    let mut rng = Rng::new(1);
    let (one, other) = (qcow2(&mut rng).0, qcow2(&mut rng).0);
    assert!(super::Index::new(&[Arc::clone(&one)], 1 << 20).is_none());
    assert!(super::Index::new(&[Arc::clone(&one), Arc::clone(&other)], 0).is_none());
    assert!(super::Index::new(&[one, other], 1).is_some());
}

fn page(number: u64, runs: u64) -> Page {
    let start = number * 1000;
    let place = |run| Place { start: start + run, len: 1, owner: Owner::raw((run % 2) as u16) };
    Page::new(start, &(0..runs).map(place).collect::<Vec<_>>())
}

#[test]
fn the_budget_is_kept_and_what_is_used_stays() {
    let shelf = Shelf::new(10_000);
    for number in 0..200 {
        shelf.put(number, page(number, 20));
        assert!(shelf.counts().1 <= 10_000);
        // Asked for in between, the first page survives all others.
        assert!(shelf.look(0, 5).flatten().is_some(), "after {number}");
    }
    let (pages, bytes) = shelf.counts();
    assert!(pages > 10 && bytes > 9000, "{pages} pages, {bytes} bytes");
    assert!(shelf.look(1, 1000).is_none(), "the others went");
    assert!(shelf.look(199, 199_000).is_some(), "the last one is there");
}

#[test]
fn of_a_page_that_is_too_large_stays_that_it_is() {
    let shelf = Shelf::new(1000);
    shelf.put(3, page(3, 100));
    assert_eq!(shelf.look(3, 3000), Some(None), "the layers must be asked");
    let shelf = Shelf::new(10);
    shelf.put(3, page(3, 1));
    assert_eq!((shelf.look(3, 3000), shelf.counts()), (None, (0, 0)));
}

#[test]
fn places_that_continue_each_other_are_one_run() {
    let nobody = |start, len, depth| Place { start, len, owner: Owner::nobody(depth, None) };
    let page = Page::new(100, &[nobody(100, 5, 3), nobody(105, 7, 3), nobody(112, 1, 2)]);
    assert_eq!(page.find(104), Some(nobody(104, 8, 3)));
    assert_eq!(page.find(112), Some(nobody(112, 1, 2)));
    // The same blob for two clusters is damage, and still two clusters.
    let blob = Owner { what: What::Compressed, layer: 0, word: 1 << 62 };
    assert!(!blob.continues(65536, blob));
}
