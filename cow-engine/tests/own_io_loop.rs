//! The example of an I/O loop of one's own, with a ring and without.
#![cfg(all(feature = "io-uring", feature = "deflate"))]

#[path = "../examples/own_io_loop/main.rs"]
mod own_io_loop;

use own_io_loop::{Report, options::Options, run};
use testkit::Folder;

fn options(folder: &Folder) -> Options {
    let folder = folder.root().to_owned();
    Options { requests: 2000, depth: 32, folder, ..Options::default() }
}

/// The example compares every byte; here is whether it did what it is there for.
fn check(report: &Report) {
    let counts = report.counts;
    assert!(counts.host > 1000, "{counts}");
    assert!(counts.copies > 50 && counts.engine > 50, "{counts}");
    assert_eq!(counts.deepest, 32, "{counts}");
    assert_eq!(report.qemu.to_string(), "clean");
}

#[test]
fn a_ring_carries_the_loop() {
    let folder = Folder::new();
    let report = run(&options(&folder)).unwrap();
    assert_eq!(report.no_ring, None, "this host must offer io_uring");
    assert!(report.counts.put_aside > 0, "no two writes ever met: {}", report.counts);
    check(&report);
}

#[test]
fn a_ring_carries_the_loop_around_the_page_cache() {
    let folder = Folder::new();
    let report = run(&Options { direct: true, seed: 7, ..options(&folder) }).unwrap();
    assert_eq!(report.no_ring, None, "this host must offer io_uring");
    check(&report);
}

#[test]
fn plain_calls_carry_the_loop_where_rings_are_forbidden() {
    let folder = Folder::new();
    let report = block_io::conformance::without_io_uring(|| {
        run(&options(&folder)).map_err(|failure| failure.to_string())
    });
    let report = report.unwrap();
    let why = report.no_ring.as_deref().unwrap();
    assert!(why.starts_with("io_uring is not available on this host: "), "{why}");
    check(&report);
    let wanted = run(&Options { no_ring: true, direct: true, ..options(&folder) }).unwrap();
    assert_eq!(wanted.no_ring.as_deref(), Some("no ring is wanted"));
    check(&wanted);
}
