//! Power cuts on every kind of image: subclusters, counts of any width, counts that wait, data in a
//! file of its own.

use qcow2_format::CompressionType;
use testkit::Rng;

use cow_engine::{Preallocation, ZeroMode};

use crate::crash::{BELOW, Player, random_history, script};
use crate::kinds::{Data, Kind};
use crate::power::{Lost, none_lost};
use crate::stamps::sectors;

/// Random histories of one kind, over nothing and over a layer; returns how many states were
/// judged.
fn survive(kind: Kind, rng: &mut Rng, rounds: usize, steps: usize) -> usize {
    let mut count = 0;
    for round in 0..rounds {
        let below = [0, 50][round % 2];
        // Nothing lies below a disk that is a raw file of its own.
        let below = if kind.data == Data::Raw { 0 } else { below };
        let mut player = Player::new(kind, below);
        random_history(&mut player, rng, steps);
        let history = player.finish();
        count += history.assert_survives(40);
        history.ask_qemu(40);
    }
    count
}

#[test]
fn a_scripted_history_of_every_kind() {
    let large = Kind::extended(20 << 14, 14);
    let small = Kind::standard(128 << 10, 12);
    for kind in [
        large,
        large.lazy(),
        small.lazy(),
        small.width(0),
        small.width(6).lazy(),
        Kind { compression: CompressionType::Zstd, ..small.width(1) },
        Kind { preallocation: Preallocation::Metadata, ..large },
        small.with_data(Data::Outside),
        small.with_data(Data::Outside).lazy(),
        small.with_data(Data::Raw),
        large.with_data(Data::Outside).lazy(),
        large.with_data(Data::Raw),
    ] {
        eprintln!("{kind:?}");
        let below = if kind.data == Data::Raw { 0 } else { 90 };
        let mut player = Player::new(kind, below);
        script(&mut player);
        let history = player.finish();
        let count = history.assert_survives(80);
        assert!(count > 70, "{count} states of {kind:?}");
        history.ask_qemu(16);
    }
}

#[test]
fn subclusters() {
    let mut rng = Rng::announced(0x5bc);
    let kind = Kind::extended((12 << 14) + 3 * 512, 14);
    assert!(survive(kind, &mut rng, 6, 50) > 1000);
    let prepared = Kind { preallocation: Preallocation::Metadata, ..kind };
    assert!(survive(prepared, &mut rng, 4, 40) > 500);
}

#[test]
fn counts_of_every_width() {
    let mut rng = Rng::announced(0x31d);
    for order in [0, 1, 2, 3, 5, 6] {
        let kind = Kind::standard(48 << 10, 9).width(order);
        assert!(survive(kind, &mut rng, 2, 50) > 300, "order {order}");
    }
}

#[test]
fn trap_83_counts_that_wait_for_the_end() {
    let mut rng = Rng::announced(0x1a2);
    for kind in [Kind::standard(48 << 10, 9), Kind::standard(64 << 10, 11).width(0)] {
        assert!(survive(kind.lazy(), &mut rng, 4, 50) > 600);
    }
    assert!(survive(Kind::extended(12 << 14, 14).lazy(), &mut rng, 4, 50) > 500);
}

#[test]
fn data_in_a_file_of_its_own() {
    let mut rng = Rng::announced(0xda7a);
    let kind = Kind::standard((48 << 10) + 512, 11);
    for kind in [kind, kind.lazy(), Kind::extended((10 << 14) + 512, 14)] {
        for data in [Data::Outside, Data::Raw] {
            assert!(survive(kind.with_data(data), &mut rng, 4, 50) > 400, "{kind:?}, {data:?}");
        }
    }
}

/// Flushed neighbours must not be lost when a cluster that was used before is written in part.
#[test]
fn trap_98_and_100_reused_clusters_and_parts_of_them() {
    for kind in [Kind::standard(64 << 10, 12).lazy(), Kind::extended(8 << 14, 14).lazy()] {
        let mut player = Player::new(kind, 0);
        let per_cluster = player.per_cluster();
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
            player.flush();
            player.write(2 * per_cluster - 1, 2);
        }
        assert!(player.finish().assert_survives(120) > 200);
    }
}

/// Each file's syncs count for that file alone: losing those of the data file is noticed, and so
/// is losing those before the first entry of an image with counts that wait.
#[test]
fn lost_barriers_are_noticed() {
    let outside = Kind::standard(128 << 10, 12).with_data(Data::Outside);
    let lazy = Kind::standard(128 << 10, 12).lazy();
    let orders: [(&str, Kind, Lost); 5] = [
        ("those of the data file", outside, |file, _| file == 1),
        ("those of the image", outside, |file, _| file == 0),
        ("the first one", lazy, |_, seen| seen == 1),
        ("all", lazy, |_, _| true),
        ("the one after the first entries", lazy, |_, seen| seen == 2),
    ];
    for (what, kind, lost) in orders {
        let mut player = Player::on(kind, &kind.memory(), 90, lost);
        script(&mut player);
        let (_, complaint) = player.finish().complaint(256);
        assert!(complaint.is_some(), "{what} lost, and nobody noticed");
    }
}

/// A full image of compressed clusters, overwritten: what is freed is taken again at once.
#[test]
fn trap_97_compressed_clusters_beside_every_kind_of_count() {
    let mut rng = Rng::announced(0x9797);
    let standard = Kind::standard(64 << 10, 11);
    let zstd = Kind { compression: CompressionType::Zstd, ..standard };
    for kind in [standard.width(1), zstd.lazy(), standard.width(0), Kind::extended(16 << 14, 14)] {
        let media = kind.memory();
        let image = kind.open(&media, None);
        let mut compressor = image.compressor().unwrap();
        let per_cluster = kind.cluster_bytes() as usize / 512;
        let clusters = (kind.size / kind.cluster_bytes()) as usize;
        for cluster in 0..clusters {
            let bytes = sectors(BELOW, cluster * per_cluster, per_cluster);
            let at = cluster as u64 * kind.cluster_bytes();
            image.write_compressed_at(&mut compressor, at, &bytes).unwrap();
        }
        image.close().unwrap();
        let mut player = Player::on(kind, &media, 0, none_lost);
        player.start_with(vec![BELOW; kind.size as usize / 512]);
        random_history(&mut player, &mut rng, 60);
        assert!(player.finish().assert_survives(50) > 200, "{kind:?}");
    }
}
