//! Each rule broken in turn is noticed, by what the rule is there for.

use super::Broken;
use super::history::{Kind, complaint};

const SEEDS: u64 = 8;

/// How many of the histories of a kind are complained about, and one of the complaints.
fn noticed(kind: Kind, what: Option<Broken>) -> (usize, String) {
    let complaints: Vec<String> =
        (0..SEEDS).filter_map(|seed| complaint(kind, what, seed).1).collect();
    (complaints.len(), complaints.first().cloned().unwrap_or_default())
}

#[track_caller]
fn assert_noticed(kind: Kind, what: Broken, invariants: &[&str]) {
    let (count, text) = noticed(kind, Some(what));
    assert!(count > 0, "{what:?} on {kind:?}: nobody noticed");
    assert!(invariants.iter().any(|name| text.starts_with(name)), "{what:?} on {kind:?}: {text}");
}

#[test]
fn nothing_is_noticed_while_all_rules_hold() {
    for kind in [Kind::Plain, Kind::Lazy, Kind::Prepared, Kind::Outside, Kind::Compressed] {
        assert_eq!(noticed(kind, None), (0, String::new()), "{kind:?}");
    }
}

#[test]
fn rule_1_a_count_rises_before_anything_points() {
    for kind in [Kind::Plain, Kind::Compressed] {
        assert_noticed(kind, Broken::EntriesFirst, &["CE-2, RC-1"]);
        assert_noticed(kind, Broken::EntriesBesideCounts, &["CE-2, RC-1"]);
    }
    // Counts that wait: the mark that says so comes first.
    assert_noticed(Kind::Lazy, Broken::EntriesFirst, &["CE-2, RC-1"]);
    assert_noticed(Kind::Lazy, Broken::EntriesBesideCounts, &["CE-2, RC-1"]);
}

#[test]
fn rule_2_data_is_durable_before_the_entry_that_exposes_it() {
    for kind in [Kind::Prepared, Kind::Lazy] {
        assert_noticed(kind, Broken::EntriesBesideData, &["CE-1"]);
    }
    assert_noticed(Kind::Outside, Broken::DataFileLast, &["CE-1"]);
}

#[test]
fn rule_3_an_entry_stops_pointing_before_the_count_falls() {
    for kind in [Kind::Plain, Kind::Compressed] {
        assert_noticed(kind, Broken::CountsDownFirst, &["CE-1", "CE-2, RC-1"]);
    }
}

#[test]
fn rule_3_a_freed_cluster_is_handed_out_after_that() {
    for kind in [Kind::Plain, Kind::Lazy, Kind::Compressed] {
        assert_noticed(kind, Broken::FreedAtOnce, &["CE-1", "CE-2"]);
    }
}
