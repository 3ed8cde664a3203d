//! Failing host calls on every kind of image, in either of its files: each call of a history fails
//! in turn, in every way. Never a wrong byte, never a panic; a failed write gives its clusters back;
//! a failed flush poisons, and what was flushed before is on the disk.

use cow_engine::Preallocation;
use qcow2_format::{CompressionType, Version};
use testkit::Call;

use crate::fault_history::{Tally, WAYS, Way, fail_each_call_of};
use crate::kinds::{Data, Kind};

/// Calls that the history makes on every image, and that must therefore have failed.
const OF_THE_IMAGE: [Call; 5] = [Call::Len, Call::Read, Call::Write, Call::WriteZeroes, Call::Sync];
const OF_THE_DATA: [Call; 2] = [Call::Write, Call::Sync];

fn fail_each(kind: Kind, ways: &[Way]) {
    let files = if kind.data == Data::Inside { 1 } else { 2 };
    for file in 0..files {
        let mut all = Tally::new();
        for &way in ways {
            let tally = fail_each_call_of(kind, file, way);
            eprintln!("{} of file {file}, {kind:?}: {tally:?}", way.name);
            assert!(tally.values().sum::<u64>() >= 3, "{}: {tally:?}", way.name);
            for (call, count) in tally {
                *all.entry(call).or_default() += count;
            }
        }
        let expected: &[Call] = if file == 0 { &OF_THE_IMAGE } else { &OF_THE_DATA };
        // Questions fail only where any call does.
        let asks = ways.iter().any(|way| way.name == WAYS[0].name);
        // The tables of some images are all there from the beginning.
        let makes_tables = kind.preallocation == Preallocation::Off && kind.data != Data::Raw;
        let made = |call: &&Call| match call {
            Call::Len => asks,
            Call::WriteZeroes => makes_tables,
            _ => true,
        };
        for call in expected.iter().filter(made) {
            assert!(all.get(call) > Some(&3), "{call:?} of file {file}: {all:?}");
        }
    }
}

/// The ways that differ most; the others differ in what the host does, not in what the image is.
fn fail_each_way(kind: Kind) {
    fail_each(kind, &WAYS[..6]);
}

#[test]
fn standard() {
    fail_each(Kind::standard(0, 9), &WAYS[..5]);
}

#[test]
fn standard_and_the_other_ways() {
    fail_each(Kind::standard(0, 9), &WAYS[5..]);
}

#[test]
fn version_2() {
    fail_each_way(Kind { version: Version::V2, ..Kind::standard(0, 9) });
}

#[test]
fn subclusters() {
    fail_each_way(Kind::extended(0, 14));
    fail_each_way(Kind { preallocation: Preallocation::Metadata, ..Kind::extended(0, 14) });
}

#[test]
fn counts_that_wait() {
    fail_each_way(Kind::standard(0, 9).lazy());
    fail_each_way(Kind::extended(0, 14).lazy().width(0));
}

#[test]
fn data_in_a_file_of_its_own() {
    fail_each_way(Kind::standard(0, 12).with_data(Data::Outside));
    fail_each_way(Kind::extended(0, 14).with_data(Data::Outside).lazy());
}

#[test]
fn data_in_a_raw_file() {
    fail_each_way(Kind::standard(0, 12).with_data(Data::Raw));
    fail_each_way(Kind::extended(0, 14).with_data(Data::Raw).lazy());
}

#[test]
fn the_narrowest_counts() {
    fail_each_way(Kind { compression: CompressionType::Zstd, ..Kind::standard(0, 9).width(0) });
}

#[test]
fn the_widest_counts() {
    fail_each_way(Kind::standard(0, 9).width(6));
}
