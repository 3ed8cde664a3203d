//! Plans as text, and beside them what really happened to the file, in order.

use std::sync::Arc;

use cow_engine::{Backing, Preallocation, ResizeOptions};
use testkit::CrashStorage;

use crate::images::{self, memory};
use crate::kinds::{Data, Kind};
use crate::power::{Power, none_lost};
use crate::test_backing::TestBacking;

/// The plan, and the changes of the file while it is carried out.
fn resize(
    size: u64,
    new_size: u64,
    how: Preallocation,
    below: Option<usize>,
    writes: &[(u64, usize)],
) -> String {
    let storage = Arc::new(CrashStorage::on((*memory(size, 16)).clone()));
    let below = below.map(|len| Arc::new(TestBacking::new(vec![7; len])) as Arc<dyn Backing>);
    let mut image = images::open_over(&storage, below);
    for (offset, len) in writes {
        image.write_at(*offset, &vec![1; *len]).unwrap();
    }
    image.flush().unwrap();
    let options = ResizeOptions::new().shrink(true).preallocation(how);
    let plan = image.plan_resize(new_size, options).unwrap();
    let before = storage.position();
    image.resize(new_size, options).unwrap();
    let log = storage.log();
    assert_eq!(plan.to(), image.virtual_size());
    image.close().unwrap();
    assert_eq!(log.events().len(), storage.position(), "nothing is left to do");
    let events = log.events()[before..].iter().map(|event| format!("\n  {event}"));
    format!("{plan}\nthe file\n{}", events.collect::<String>().trim_start_matches('\n'))
}

#[test]
fn a_size_that_the_table_covers_is_eight_bytes() {
    insta::assert_snapshot!(resize(1 << 20, 512 << 20, Preallocation::Off, None, &[(0, 512)]));
}

#[test]
fn growth_moves_the_l1_table() {
    insta::assert_snapshot!(resize(1 << 20, 1 << 30, Preallocation::Off, None, &[(0, 512)]));
}

#[test]
fn trap_75_growth_over_a_longer_backing_file() {
    let below = Some(300 << 10);
    insta::assert_snapshot!(resize(100 << 10, 1 << 20, Preallocation::Off, below, &[]));
}

#[test]
fn a_shorter_backing_file_needs_nothing() {
    let below = Some(90 << 10);
    insta::assert_snapshot!(resize(100 << 10, 1 << 20, Preallocation::Off, below, &[]));
}

#[test]
fn clusters_are_mapped_ahead() {
    insta::assert_snapshot!(resize(1 << 20, 1 << 30, Preallocation::Falloc, None, &[]));
}

#[test]
fn the_guest_sees_the_smaller_disk_before_anything_is_cut() {
    let writes = &[(0, 512), (600 << 20, 128 << 10), ((1 << 30) - 512, 512)];
    insta::assert_snapshot!(resize(
        1 << 30,
        (600 << 20) + (100 << 10),
        Preallocation::Off,
        None,
        writes
    ));
    insta::assert_snapshot!(resize(1 << 30, 1 << 20, Preallocation::Off, None, writes));
}

#[test]
fn trap_65_a_data_file_is_long_enough_before_the_guest_sees_more_of_it() {
    let kind = Kind::standard(1 << 20, 16).with_data(Data::Raw);
    let mut texts = Vec::new();
    for size in [3 << 20, (1 << 20) - 512] {
        let power = Power::on(&kind.memory(), none_lost);
        let mut image = kind.open(power.media(), None);
        let options = ResizeOptions::new().shrink(true);
        let plan = image.plan_resize(size, options).unwrap();
        image.resize(size, options).unwrap();
        image.close().unwrap();
        texts.push(format!("{plan}\nthe files\n{}", power.log().text()));
    }
    insta::assert_snapshot!(texts.join("\n"));
}
