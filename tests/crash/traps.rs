//! Where the reference implementation loses or corrupts data: here it must not, whenever the power
//! goes.

use std::sync::Arc;

use qimg::check::repair_dirty;
use qimg::engine::{Image, OpenOptions, Preallocation, ZeroMode};
use qimg::format::IncompatibleFeatures;
use qimg::io::{MemoryStorage, Storage};
use testkit::stamps::{SECTOR, ZERO, stamps};
use testkit::{CrashFiles, CrashPlan, Rng, census};

use super::below::Layers;
use super::life::{Effort, live_through};
use super::player::{Player, media};
use super::recipe::{Data, Recipe, Start};
use super::totals::Totals;

/// Many states of each cut; our own tools and the real one look at some.
const EFFORT: Effort = Effort {
    lives: 1,
    steps: 0,
    states_max: 120,
    go_on_every: 12,
    reference_every: 120,
    lost: |_, _| false,
    is_long: false,
};

/// Every state after these deeds is sound; returns how many there were.
#[track_caller]
fn survive(recipe: Recipe, lives: u64, mut deeds: impl FnMut(&mut Player<'_>)) -> u64 {
    let mut totals = Totals::default();
    let effort = Effort { lives, ..EFFORT };
    let mut rng = Rng::new(recipe.sectors as u64);
    let lived = live_through(&recipe, &mut rng, &effort, &mut totals, |player, _| deeds(player));
    assert_eq!(lived, Ok(()));
    totals.states
}

#[test]
fn trap_95_a_blob_is_packed_behind_one_that_is_gone() {
    for flushed in 0..16_u32 {
        // The four writes, and a flush after any of them.
        let states = survive(Recipe::plain(5 * 128, 16), 1, |player| {
            let deeds: [&dyn Fn(); 4] = [
                &|| player.compress(0),
                &|| player.write(0, 128),
                &|| player.write(128, 128),
                &|| player.compress(2 * 128),
            ];
            for (number, deed) in deeds.iter().enumerate() {
                deed();
                if flushed >> number & 1 == 1 {
                    player.flush();
                }
            }
            player.look();
        });
        assert!(states > 20, "{states} states, flushes {flushed:#b}");
    }
}

#[test]
fn trap_96_a_zero_write_beside_writes_to_the_same_cluster() {
    let recipe = Recipe { start: Start::Used, ..Recipe::plain(4 * 8, 12) };
    for recipe in [recipe, Recipe { lazy: true, punches: false, ..recipe }] {
        let states = survive(recipe, 4, |player| {
            // Allocated, and zeros.
            player.write(0, 16);
            player.zero(0, 16, ZeroMode::Keep);
            player.flush();
            let player = &*player;
            std::thread::scope(|scope| {
                for writer in 0..2 {
                    scope.spawn(move || {
                        for step in 0..12 {
                            player.write(step % 2 * 8 + writer * 2, 2);
                        }
                    });
                }
                scope.spawn(|| {
                    for step in 0..12 {
                        player.zero(step % 2 * 8 + 4, 4, ZeroMode::Unmap);
                        if step % 5 == 2 {
                            player.discard(0, 16);
                        }
                    }
                });
                scope.spawn(|| (0..6).for_each(|_| player.flush()));
            });
        });
        assert!(states > 100, "{states} states");
    }
}

#[test]
fn trap_97_a_full_image_of_compressed_clusters_is_overwritten() {
    let recipe = Recipe { start: Start::Compressed, ..Recipe::plain(24 * 4, 11) };
    for recipe in [
        recipe,
        Recipe { lazy: true, ..recipe },
        Recipe { refcount_order: 1, punches: false, ..recipe },
    ] {
        let states = survive(recipe, 2, |player| {
            for first in (0..24 * 4).step_by(3) {
                // Parts: the rest of the cluster is copied from where it was.
                player.write(first, 2);
                if first % 5 == 0 {
                    player.flush();
                }
            }
        });
        assert!(states > 300, "{states} states");
    }
}

/// Flushed neighbours are not lost, and what was not flushed is old or new, never stray bytes of
/// whoever had the cluster before.
#[test]
fn trap_98_and_100_parts_of_clusters_that_were_used_before() {
    let standard = Recipe { lazy: true, start: Start::Used, ..Recipe::plain(16 * 8, 12) };
    let extended = Recipe { extended_l2: true, cluster_bits: 14, sectors: 8 * 32, ..standard };
    for recipe in [
        standard,
        Recipe { lazy: false, ..standard },
        extended,
        Recipe { l2_cache_bytes: 1 << 20, punches: false, ..extended },
        Recipe { punches: false, ..standard },
    ] {
        let per_cluster = recipe.per_cluster();
        let states = survive(recipe, 2, |player| {
            player.write(0, 4 * per_cluster);
            player.flush();
            for round in 0..3 {
                player.discard(0, 4 * per_cluster);
                player.flush();
                // These go where other bytes were.
                player.write(5 * per_cluster + round, 1);
                player.write(6 * per_cluster + 3, 2);
                player.flush();
                player.write(5 * per_cluster + round + 3, 1);
                player.write(round + 1, 1);
                player.zero(6 * per_cluster, per_cluster, ZeroMode::Unmap);
                player.write(2 * per_cluster - 1, 2);
            }
        });
        assert!(states > 200, "{states} states");
    }
}

/// The file ends before clusters that are referred to: the repair counts those before it takes any
/// cluster for itself, and may be broken off by a power cut, too.
#[test]
fn trap_99_repair_after_a_lost_extension_of_the_file() {
    let recipe = Recipe { lazy: true, ..Recipe::plain(40, 9) };
    let layers = Layers::new(recipe.below, 0, &mut Rng::new(0));
    let dirty = not_closed(&recipe, &layers);
    let mut repaired = 0;
    let sectors = dirty.len().unwrap() / SECTOR as u64;
    for len in (0..=sectors).rev().map(|sectors| sectors * SECTOR as u64) {
        let cut = dirty.clone();
        cut.set_len(len).unwrap();
        let Some(before) = sector_by_sector(&cut) else { break };
        let files = CrashFiles::on([cut]);
        if repair_dirty(&*files.files()[0]).is_err() {
            // Tables are gone, too.
            continue;
        }
        repaired += 1;
        census::assert_clean(files.files()[0].current());
        let log = files.log();
        for cut in log.cuts() {
            for state in cut.states(&CrashPlan { states_max: 40, ..CrashPlan::default() }) {
                let left = cut.materialise(&state).remove(0);
                let told = || format!("{len:#x}: {}", cut.describe(&state, &["image"]));
                assert_eq!(census::take(&left).complaint(), None, "{}", told());
                let after = sector_by_sector(&left).unwrap();
                for (after, before) in after.iter().zip(&before) {
                    // What was lost stays lost, or is zeros once the file is longer again.
                    let lost = before.is_none() && [None, Some(ZERO)].contains(after);
                    assert!(lost || after == before, "{before:?} became {after:?}, {}", told());
                }
            }
        }
    }
    assert!(repaired > 8, "{repaired} lengths could be repaired");
}

/// What the disk shows where it can be read; `None` if the image cannot be opened.
fn sector_by_sector(image: &MemoryStorage) -> Option<Vec<Option<u64>>> {
    let storage = Arc::new(image.clone());
    let image = Image::open(storage, OpenOptions::new().read_only(true)).ok()?;
    let sector = |number: usize| {
        let mut bytes = [0; SECTOR];
        image.read_at((number * SECTOR) as u64, &mut bytes).ok()?;
        Some(stamps(&bytes, number).unwrap()[0])
    };
    Some((0..image.virtual_size() as usize / SECTOR).map(sector).collect())
}

/// An image whose counts wait, as a power cut leaves it after a flush.
fn not_closed(recipe: &Recipe, layers: &Layers) -> MemoryStorage {
    let mut rng = Rng::new(1);
    let world = super::start::make(recipe, layers, &mut rng);
    let power = media(&world.files, recipe, EFFORT.lost);
    let mut player = Player::new(recipe, layers, &power, world.stamps, &mut rng);
    player.resize(80, Preallocation::Off);
    for first in (0..80).step_by(3) {
        player.write(first, 2);
    }
    player.flush();
    let left = power.files()[0].current().clone();
    player.finish();
    let header = qimg::engine::read_header(&left).unwrap();
    assert!(header.requires(IncompatibleFeatures::DIRTY));
    left
}

/// A power cut leaves bytes of an unpublished write in a raw data file, behind an entry that says
/// zeros. Whoever makes zeros there again must make them in both views.
#[test]
fn zeros_over_zeros_reach_a_raw_data_file() {
    let recipe = Recipe { data: Data::Raw, ..Recipe::plain(8 * 4, 11) };
    let layers = Layers::new(recipe.below, 0, &mut Rng::new(0));
    for (deed, count) in [(0, 4), (0, 1), (1, 4), (2, 4)] {
        let world = super::start::make(&recipe, &layers, &mut Rng::new(1));
        let [image, data] = &world.files[..] else { panic!("two files") };
        let open = || {
            let storage = |file: &MemoryStorage| Arc::new(file.clone()) as Arc<dyn Storage>;
            let data = storage(data);
            let options = OpenOptions::new().data_file(Some(Arc::clone(&data)));
            (Image::open(storage(image), options).unwrap(), data)
        };
        let zeros = |image: &Image| match deed {
            0 => image.write_zeroes_at(0, count * SECTOR as u64, ZeroMode::Keep),
            1 => image.write_zeroes_at(0, count * SECTOR as u64, ZeroMode::Unmap),
            _ => image.discard_at(0, count * SECTOR as u64),
        };
        let (first, _) = open();
        zeros(&first).unwrap();
        first.close().unwrap();
        // The bytes arrived, the entry did not.
        let (again, file) = open();
        file.write_at(0, &[7; SECTOR]).unwrap();
        zeros(&again).unwrap();
        again.close().unwrap();
        let mut found = [1; SECTOR];
        file.read_at(0, &mut found).unwrap();
        assert_eq!(found, [ZERO as u8; SECTOR], "deed {deed}, {count} sectors");
    }
}
