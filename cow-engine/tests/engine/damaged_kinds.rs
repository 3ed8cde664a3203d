//! Random damage to every kind of image: no panic, no endless work, and no write over metadata that
//! the header leads to.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Image, OpenOptions, Preallocation, ZeroMode};
use testkit::Rng;

use crate::images::{bytes, poke, word};
use crate::kinds::{Data, Kind, Media};

/// A bit of everything that the kind can hold.
fn filled(kind: Kind) -> Media<MemoryStorage> {
    let media = kind.memory();
    let image = kind.open(&media, None);
    let cluster = kind.cluster_bytes();
    image.write_at(0, &vec![1; 3 * cluster as usize + 700]).unwrap();
    image.write_zeroes_at(cluster, cluster, ZeroMode::Keep).unwrap();
    image.write_zeroes_at(2 * cluster + 512, 1024, ZeroMode::Keep).unwrap();
    image.write_zeroes_at(5 * cluster, cluster, ZeroMode::Unmap).unwrap();
    if kind.data == Data::Inside && kind.preallocation == Preallocation::Off {
        image.write_blob(7 * cluster, &[3; 100]).unwrap();
        image.write_blob(8 * cluster, &[3; 100]).unwrap();
    }
    image.close().unwrap();
    media
}

/// A word somewhere in the header or the first tables, changed in a way that might mean something.
fn damage(image: &MemoryStorage, kind: Kind, tables: &[u64], rng: &mut Rng) {
    let cluster = kind.cluster_bytes();
    let at = match rng.below(8) {
        0 => rng.below(14) * 8,
        _ => *rng.pick(tables) + rng.below(cluster.min(24 * 8) / 8) * 8,
    };
    let host = rng.below(24) * cluster;
    match rng.below(6) {
        0 => poke(image, at, |word| word ^ 1 << rng.below(64)),
        1 => poke(image, at, |_| host | 1 << 63),
        2 => poke(image, at, |_| host),
        3 => poke(image, at, |_| rng.next_u64()),
        4 => poke(image, at, |_| 1 << 62 | (host + rng.below(cluster)) | rng.below(4) << 60),
        _ => poke(image, at, |_| 0),
    }
}

/// Anything that a guest may ask for.
fn use_it(image: &Image, read_only: bool, rng: &mut Rng) {
    let size = image.virtual_size();
    if size == 0 {
        return;
    }
    for _ in 0..6 {
        let offset = rng.below(size.min(12 << image.geometry().cluster_bits().get()));
        let len = (1 + rng.below(3 << image.geometry().cluster_bits().get())).min(size - offset);
        let mut buf = vec![5; len as usize];
        let _ = image.read_at(offset, &mut buf);
        let _ = image.explain(offset);
        if read_only {
            continue;
        }
        let _ = match rng.below(6) {
            0 => image.write_zeroes_at(offset, len, ZeroMode::Unmap),
            1 => image.write_zeroes_at(offset, len, ZeroMode::Keep),
            2 => image.discard_at(offset, len),
            3 => image.flush(),
            _ => image.write_at(offset, &buf),
        };
    }
}

fn never_panics(kind: Kind, rng: &mut Rng, rounds: usize) {
    eprintln!("{kind:?}");
    let start = filled(kind);
    let offset = |at| word(&*start.image, at) & 0x00ff_ffff_ffff_fe00;
    let tables = [offset(48), offset(offset(48)), offset(40), offset(offset(40))];
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..rounds {
        let copy = |file: &Arc<MemoryStorage>| Arc::new((**file).clone());
        let media = Media { image: copy(&start.image), data: start.data.as_ref().map(copy) };
        for _ in 0..=rng.below(3) {
            damage(&media.image, kind, &tables, rng);
        }
        let header = bytes(&*media.image)[..104].to_vec();
        for read_only in [true, false] {
            let image: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&media.image);
            let options = OpenOptions::new().read_only(read_only).data_file(media.data());
            let Ok(image) = Image::open(image, options.l2_cache_bytes(0)) else {
                refused += 1;
                continue;
            };
            opened += 1;
            use_it(&image, read_only, rng);
        }
        // Only marks, and the refcount table when it grows, change in the header.
        let mut after = bytes(&*media.image)[..104].to_vec();
        for field in [48..60, 72..80, 88..96] {
            after[field.clone()].copy_from_slice(&header[field]);
        }
        assert!(after == header, "the header was written over");
    }
    assert!(opened > rounds / 2 && refused > rounds / 20, "{opened} opened, {refused} refused");
}

#[test]
fn subclusters() {
    let mut rng = Rng::announced(0xdead1);
    let kind = Kind::extended(40 << 14, 14);
    never_panics(kind, &mut rng, 250);
    never_panics(kind.lazy(), &mut rng, 100);
    never_panics(Kind { preallocation: Preallocation::Metadata, ..kind }, &mut rng, 150);
}

#[test]
fn counts_of_every_width() {
    let mut rng = Rng::announced(0xdead2);
    for order in 0..=6 {
        never_panics(Kind::standard(64 << 10, 9).width(order), &mut rng, 150);
        never_panics(Kind::standard(64 << 10, 9).width(order).lazy(), &mut rng, 60);
    }
}

#[test]
fn data_files() {
    let mut rng = Rng::announced(0xdead3);
    for data in [Data::Outside, Data::Raw] {
        never_panics(Kind::standard(64 << 10, 9).with_data(data), &mut rng, 200);
        never_panics(Kind::extended(20 << 14, 14).with_data(data), &mut rng, 100);
    }
}
