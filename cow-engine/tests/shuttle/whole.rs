//! Models of whole images.

use std::sync::Arc;

use cow_engine::ZeroMode;
use testkit::stamps::{SECTOR, sectors};

use super::crafted;
use super::kinds::{Data, Kind};
use super::test_backing::TestBacking;
use super::world::{Start, Threads, World, model};

/// Clusters of one sector, eight of them: every write is of whole clusters.
fn sectors_of_clusters() -> Start {
    Start::new(Kind::standard(8 * 512, 9))
}

/// Clusters of two sectors.
fn pairs() -> Start {
    Start::new(Kind::standard(6 * 1024, 10))
}

/// Clusters of two sectors over a layer of which most is not zeros.
fn pairs_over() -> Start {
    over(Kind::standard(6 * 1024, 10))
}

/// The same with a place in memory for every table.
fn pairs_over_cached() -> Start {
    over(Kind { l2_cache_bytes: 1 << 20, ..Kind::standard(6 * 1024, 10) })
}

fn over(kind: Kind) -> Start {
    const BELOW: u64 = 1 << 40;
    let mut start = Start::new(kind);
    let below = start.stamps.len() * 2 / 3;
    start.stamps[..below].fill(BELOW);
    start.backing = Some(Arc::new(TestBacking::new(sectors(BELOW, 0, below))));
    start
}

fn nothing(_: &World) {}

/// All of the disk is data, and flushed.
fn full(world: &World) {
    world.write(0, world.kind.size as usize / SECTOR);
    world.flush();
}

#[test]
fn two_first_writers_of_one_cluster() {
    const THREADS: Threads = &[
        |world| world.write(0, 1),
        |world| world.write(1, 1),
        |world| {
            world.read(0, 2);
            world.read(0, 2);
        },
    ];
    model(pairs, nothing, THREADS);
    model(pairs_over_cached, nothing, THREADS);
}

#[test]
fn first_writers_of_neighbours() {
    const THREADS: Threads = &[
        |world| world.write(0, 3),
        |world| world.write(3, 3),
        |world| {
            world.abandon(1, 4);
            world.write(7, 1);
        },
        |world| world.read(0, 8),
    ];
    model(pairs, nothing, THREADS);
    model(pairs_over, nothing, THREADS);
}

#[test]
fn ce_3_what_is_in_use_is_not_handed_out_again() {
    const THREADS: Threads = &[
        // In place, slow.
        |world| world.write(0, 1),
        |world| {
            world.discard(0, 1);
            world.flush();
            world.flush();
        },
        // Takes what is free.
        |world| {
            world.write(8, 2);
            world.flush();
            world.write(10, 1);
        },
        |world| world.read(0, 4),
    ];
    fn half(world: &World) {
        world.write(0, 8);
        world.flush();
    }
    model(pairs, half, THREADS);
    model(pairs_over_cached, half, THREADS);
    model(|| Start::new(Kind::standard(6 * 1024, 10).lazy()), half, THREADS);
}

#[test]
fn ce_3_late_punches_hit_nothing_new() {
    const THREADS: Threads = &[
        |world| {
            world.zero(0, 4, ZeroMode::Unmap);
            world.write(1, 1);
        },
        |world| {
            world.flush();
            world.flush();
        },
        |world| {
            world.write(4, 2);
            world.flush();
            world.write(0, 1);
        },
    ];
    fn some(world: &World) {
        world.write(0, 4);
    }
    model(pairs, some, THREADS);
    model(|| Start::new(Kind::standard(6 * 1024, 10).with_data(Data::Outside)), some, THREADS);
    model(|| Start::new(Kind::standard(6 * 1024, 10).with_data(Data::Raw)), some, THREADS);
}

#[test]
fn trap_96_zeros_and_writes_in_one_cluster() {
    const THREADS: Threads = &[
        |world| {
            world.write(1, 1);
            world.read(0, 4);
        },
        |world| world.zero(0, 1, ZeroMode::Unmap),
        |world| {
            world.zero(0, 2, ZeroMode::Unmap);
            world.flush();
            world.write(4, 2);
        },
    ];
    fn zeros_in_place(world: &World) {
        world.write(0, 4);
        world.zero(0, 2, ZeroMode::Keep);
        world.flush();
    }
    model(pairs, zeros_in_place, THREADS);
    model(pairs_over, zeros_in_place, THREADS);
    model(pairs, full, THREADS);
}

#[test]
fn copies_of_a_shared_table_and_its_clusters() {
    const THREADS: Threads = &[
        |world| world.write(0, 1),
        |world| {
            world.write(1, 1);
            world.discard(2, 1);
        },
        |world| {
            world.flush();
            world.write(8, 2);
            world.flush();
        },
        |world| world.read(0, 6),
    ];
    model(crafted::shared, nothing, THREADS);
}

#[test]
fn growth_of_the_refcount_table() {
    const THREADS: Threads = &[
        |world| {
            world.write(4, 2);
            world.flush();
        },
        |world| {
            world.write(6, 1);
            world.write(7, 2);
            world.read(0, 8);
        },
        |world| {
            world.discard(0, 2);
            world.flush();
            world.flush();
        },
        |world| world.compress(10),
    ];
    fn two(world: &World) {
        world.write(0, 2);
    }
    model(crafted::nearly_full, two, THREADS);
    model(crafted::nearly_full, nothing, THREADS);
}

#[test]
fn slices_come_and_go() {
    // An L2 table of 512 bytes maps 64 clusters; memory holds a few of them.
    fn tables() -> Start {
        Start::new(Kind::standard(24 * 64 * 512, 9))
    }
    fn written(world: &World) {
        for table in 0..16 {
            world.write(table * 64, 1);
        }
        world.flush();
    }
    const THREADS: Threads = &[
        |world| {
            world.write(0, 1);
            world.read(64 * 4, 1);
            world.write(1, 1);
            world.read(0, 2);
        },
        |world| {
            for table in [2, 4, 6, 8, 10, 12] {
                world.read(table * 64, 2);
            }
            world.read(0, 2);
        },
        |world| {
            world.discard(0, 1);
            world.flush();
            world.write(17 * 64, 1);
            world.flush();
        },
    ];
    model(tables, written, THREADS);
}

#[test]
fn trap_95_compressed_clusters_share_host_clusters() {
    fn blobs() -> Start {
        Start::new(Kind::standard(6 * 4096, 12))
    }
    fn packed(world: &World) {
        world.compress(0);
        world.compress(1);
        world.flush();
    }
    const THREADS: Threads = &[
        |world| {
            world.write(0, 8);
            world.write(9, 1);
        },
        |world| {
            world.compress(2);
            world.read(0, 24);
        },
        |world| {
            world.flush();
            world.write(24, 8);
            world.flush();
        },
        |world| world.compress(4),
    ];
    model(blobs, packed, THREADS);
    model(|| Start::new(Kind::standard(6 * 4096, 12).width(1)), packed, THREADS);
}

#[test]
fn what_ended_before_a_flush_is_durable_after_it() {
    const THREADS: Threads = &[
        |world| {
            world.write(0, 1);
            world.flush();
            world.write(0, 1);
        },
        |world| {
            world.write(2, 2);
            world.flush();
        },
        |world| {
            world.write(1, 1);
            world.flush();
            world.zero(2, 2, ZeroMode::Unmap);
            world.flush();
        },
    ];
    model(pairs, nothing, THREADS);
    model(pairs, full, THREADS);
    model(|| Start::new(Kind::standard(6 * 1024, 10).lazy()), nothing, THREADS);
    model(|| Start::new(Kind::standard(6 * 1024, 10).with_data(Data::Outside)), nothing, THREADS);
}

#[test]
fn ce_5_after_a_failure_nothing_goes_on() {
    const THREADS: Threads = &[
        |world| {
            let _ = world.try_write(0, 1);
            let _ = world.try_flush();
            let _ = world.try_write(4, 2);
        },
        |world| {
            let _ = world.try_write(1, 2);
            let _ = world.try_flush();
            if world.try_flush().is_err() {
                assert!(world.try_write(6, 1).is_err(), "a write after a failed flush");
            }
        },
        |world| world.read(0, 8),
    ];
    fn failing(world: &World) {
        world.write(2, 4);
        world.flush();
        world.write(3, 6);
        world.fail_after(shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 0..16));
    }
    model(pairs, failing, THREADS);
    model(|| Start::new(Kind::standard(6 * 1024, 10).lazy()), failing, THREADS);
}

#[test]
fn subclusters_of_one_cluster() {
    fn subclusters() -> Start {
        Start::new(Kind::extended(2 << 14, 14))
    }
    fn subclusters_over() -> Start {
        over(Kind::extended(2 << 14, 14))
    }
    fn some(world: &World) {
        world.write(2, 4);
    }
    const THREADS: Threads = &[
        |world| {
            world.write(0, 2);
            world.write(3, 2);
        },
        |world| {
            world.zero(1, 3, ZeroMode::Keep);
            world.write(6, 1);
        },
        |world| {
            world.discard(0, 1);
            world.flush();
            world.write(32, 1);
            world.flush();
        },
        |world| {
            world.read(0, 8);
            world.read(0, 8);
        },
    ];
    model(subclusters, some, THREADS);
    model(subclusters_over, some, THREADS);
    model(|| Start::new(Kind::extended(2 << 14, 14).lazy()), nothing, THREADS);
}

#[test]
fn anything_at_once() {
    fn anything(world: &World) {
        use shuttle::rand::{Rng, thread_rng};
        let count = world.kind.size as usize / SECTOR;
        let per_cluster = world.kind.cluster_bytes() as usize / SECTOR;
        for _ in 0..4 {
            let first = thread_rng().gen_range(0..count);
            let len = thread_rng().gen_range(1..=3).min(count - first);
            let cluster = first / per_cluster;
            match thread_rng().gen_range(0..12) {
                0 => world.flush(),
                1 => world.discard(cluster, 1),
                2 => world.zero(first, len, ZeroMode::Keep),
                3 => world.zero(cluster * per_cluster, per_cluster, ZeroMode::Unmap),
                4 => world.zero(first, len, ZeroMode::Unmap),
                5 if world.kind.data == Data::Inside => world.compress(cluster),
                6 => world.abandon(first, len),
                7 | 8 => world.read(first, len),
                _ => world.write(first, len),
            }
        }
    }
    fn begin(world: &World) {
        anything(world);
        anything(world);
    }
    const THREADS: Threads = &[anything, anything, anything];
    for start in [
        sectors_of_clusters,
        pairs_over,
        pairs_over_cached,
        || over(Kind::standard(6 * 1024, 10).lazy()),
        || over(Kind::standard(6 * 1024, 10).with_data(Data::Outside)),
        || Start::new(Kind::standard(6 * 1024, 10).with_data(Data::Raw)),
        || over(Kind::extended(2 << 14, 14)),
    ] {
        model(start, begin, THREADS);
    }
}
