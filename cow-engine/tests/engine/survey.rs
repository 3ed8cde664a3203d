//! Surveys beside plans: the same answers, whoever writes, and nothing left behind in the caches.

use block_io::MemoryStorage;
use cow_engine::{Image, Run, ZeroMode};
use testkit::Rng;

use crate::images;
use crate::kinds::{Data, Kind, Media};

fn kinds() -> Vec<Kind> {
    vec![
        Kind::standard(300 << 10, 9),
        Kind::standard(9 << 20, 12),
        Kind::standard(70 << 20, 16),
        Kind::standard(5 << 20, 21),
        Kind::extended(3 << 20, 14),
        Kind::extended(90 << 20, 16),
        Kind::standard(20 << 20, 16).with_data(Data::Outside),
        Kind::extended(20 << 20, 16).with_data(Data::Raw),
    ]
}

/// The pieces of a survey, joined as a plan joins them.
fn joined(image: &Image, offset: u64, len: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let visited = image.survey().visit(offset, len, &mut |run| match runs.last_mut() {
        Some(last) if last.kind.continues(last.len, run.kind) => last.len += run.len,
        _ => runs.push(*run),
    });
    visited.unwrap();
    runs
}

#[track_caller]
fn assert_as_planned(image: &Image, rng: &mut Rng) {
    let size = image.virtual_size();
    for _ in 0..20 {
        let offset = rng.below(size);
        let len = rng.within(0..size - offset + 1);
        let plan = image.plan_read(offset, len).unwrap();
        assert_eq!(joined(image, offset, len), plan.runs(), "{len} at {offset}");
    }
    assert!(image.survey().visit(size, 1, &mut |_| {}).is_err(), "outside the disk");
}

fn change(image: &Image, rng: &mut Rng) {
    let size = image.virtual_size();
    let offset = rng.below(size / 512) * 512;
    let len = rng.within(1..image.geometry().cluster_bytes() * 4).min(size - offset).min(1 << 20);
    match rng.below(5) {
        0 => image.write_zeroes_at(offset, len, ZeroMode::Keep).unwrap(),
        1 => image.write_zeroes_at(offset, len, ZeroMode::Unmap).unwrap(),
        2 => image.discard_at(offset, len).unwrap(),
        _ => image.write_at(offset, &vec![7; len as usize]).unwrap(),
    }
}

#[test]
fn a_survey_says_what_a_plan_says() {
    let mut rng = Rng::announced(0x5a12_0001);
    for kind in kinds() {
        let media: Media<MemoryStorage> = kind.memory();
        let image = kind.open(&media, None);
        for _ in 0..8 {
            (0..4).for_each(|_| change(&image, &mut rng));
            assert_as_planned(&image, &mut rng);
        }
        image.close().unwrap();
        assert_as_planned(&media.open_read_only(None).unwrap(), &mut rng);
    }
}

#[test]
fn a_survey_of_an_image_that_is_only_read_keeps_nothing() {
    let kind = Kind::standard(70 << 20, 16);
    let media = kind.memory();
    let image = kind.open(&media, None);
    (0..70).for_each(|at| image.write_at(at << 20, &[1; 512]).unwrap());
    image.close().unwrap();
    let image = media.open_read_only(None).unwrap();
    assert_eq!(joined(&image, 0, 70 << 20).len(), 140);
    assert_eq!(image.cache_usage().l2_slices, 0);
    images::read_all(&image);
    assert_eq!(image.cache_usage().l2_slices, 3, "a read does");
    assert_eq!(joined(&image, 0, 70 << 20).len(), 140, "from memory now");
}

#[test]
fn what_no_table_maps_is_untouched() {
    // A table maps 32 KiB.
    let image = Kind::standard(64 << 20, 9).open(&Kind::standard(64 << 20, 9).memory(), None);
    assert_eq!(image.untouched_bytes(100, 1000), 1000);
    assert_eq!(
        image.untouched_bytes(100, u64::MAX),
        64 * 32768 - 100,
        "for so many tables at once"
    );
    image.write_at(3 << 15, &[1]).unwrap();
    assert_eq!(image.untouched_bytes(100, u64::MAX), 3 * 32768 - 100);
    assert_eq!(image.untouched_bytes(3 << 15, 9), 0);
    assert_eq!(image.untouched_bytes((64 << 20) - 512, 512), 512);
}
