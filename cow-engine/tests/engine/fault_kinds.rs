//! Failing host calls on every kind of image, in either of its files.

use qcow2_format::CompressionType;
use testkit::{Call, CallSet, Fault};

use cow_engine::Preallocation;

use crate::faults::fail_each_of;
use crate::kinds::{Data, Kind};

/// Every way in which a call can fail, one call after the other.
fn fail_each_way(kind: Kind) {
    fail_each_of(kind, |nth| Fault::nth(nth, CallSet::ALL));
    fail_each_of(kind, |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS).partial());
    fail_each_of(kind, |nth| Fault::nth(nth, CallSet::CHANGES).no_space().lasting());
    fail_each_of(kind, |nth| Fault::nth(nth, CallSet::of(&[Call::Sync])).lasting());
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
fn the_narrowest_and_the_widest_counts() {
    fail_each_way(Kind { compression: CompressionType::Zstd, ..Kind::standard(0, 9).width(0) });
    fail_each_way(Kind::standard(0, 9).width(6));
}
