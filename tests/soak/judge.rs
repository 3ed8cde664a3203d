//! What must hold after every turn: contents, soundness, the same counts, the same map.

use std::path::Path;

use qimg::check::{CheckOptions, CheckReport, check};
use testkit::{Folder, Json, ModelDisk, Qemu};

use super::extents::{Run, difference};
use super::hand::Hand;
use super::library;

/// Whether the image may have lost space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Clean,
    /// A writer was killed: counts may be too high.
    Leaks,
    /// A writer that postpones counts was killed: anything, until somebody repairs it.
    Anything,
}

/// Both checks say the same, and nothing that is not expected.
pub(crate) fn checked(image: &Path, expected: Expected, by_program: bool) {
    let name = image.to_str().unwrap();
    let args = ["check", "-f", "qcow2", "--output=json", name];
    let output = Qemu::img(args);
    let theirs = counts_of_json(&output.json());
    let allowed: &[i32] = match expected {
        Expected::Clean => &[0],
        Expected::Leaks => &[0, 3],
        Expected::Anything => &[0, 2, 3],
    };
    let code = output.code.unwrap();
    assert!(allowed.contains(&code), "{expected:?}, found {code}\n{output:#?}");
    let (ours, our_code) = if by_program {
        let output = Hand::Ours.img(&args);
        (counts_of_json(&output.json()), output.code.unwrap())
    } else {
        let storage = qimg::io::OpenOptions::new().open(image).unwrap();
        let report = check(&storage, CheckOptions::default()).unwrap();
        (counts_of_report(&report), i32::from(report.outcome().exit_code()))
    };
    assert_eq!(ours, theirs, "check: ours left, theirs right; {}", output.stderr);
    assert_eq!(our_code, code, "exit code of check: ours left, theirs right");
}

const COUNTS: [&str; 8] = [
    "corruptions",
    "leaks",
    "check-errors",
    "total-clusters",
    "allocated-clusters",
    "fragmented-clusters",
    "compressed-clusters",
    "image-end-offset",
];

type Counts = [(&'static str, u64); COUNTS.len()];

/// Absent ones are 0.
fn counts_of_json(json: &Json) -> Counts {
    COUNTS.map(|name| (name, json[name].as_u64().unwrap_or(0)))
}

fn counts_of_report(report: &CheckReport) -> Counts {
    let mut values = [
        report.corruptions,
        report.leaks,
        report.check_errors,
        report.total_clusters,
        report.allocated_clusters,
        report.fragmented_clusters,
        report.compressed_clusters,
        report.image_end_offset,
    ]
    .into_iter();
    COUNTS.map(|name| (name, values.next().unwrap()))
}

/// Both maps say the same of every byte.
pub(crate) fn mapped(image: &Path, by_program: bool) {
    let theirs = Run::of_json(&Qemu::map_json("qcow2", image));
    let ours = if by_program {
        let args = ["map", "--output=json", "-f", "qcow2", image.to_str().unwrap()];
        Run::of_json(&Hand::Ours.img(&args).success().json())
    } else {
        Run::of_chain(&library::open(image, true))
    };
    if let Some((at, ours, theirs)) = difference(&ours, &theirs) {
        panic!("map at guest offset {at} ({at:#x}):\n ours   {ours:?}\n theirs {theirs:?}");
    }
}

/// The library reads what the model has.
pub(crate) fn read_by_library(image: &Path, model: &ModelDisk) {
    let bytes = library::read_all(image);
    assert_eq!(bytes.len(), model.len(), "size of the disk");
    model.assert_at(0, &bytes);
}

/// The image tool of a hand reads what the model has, or what it has in a snapshot.
pub(crate) fn read_by_program(
    hand: Hand,
    image: &Path,
    folder: &Folder,
    snapshot: Option<&str>,
    expected: &[u8],
) {
    let bytes = converted(hand, image, folder, snapshot);
    same(&bytes, expected, &format!("{hand:?}, snapshot {snapshot:?}"));
}

/// What the image tool of a hand reads.
pub(crate) fn converted(
    hand: Hand,
    image: &Path,
    folder: &Folder,
    snapshot: Option<&str>,
) -> Vec<u8> {
    let raw = folder.path("converted.raw");
    let mut args = vec!["convert", "-f", "qcow2", "-O", "raw"];
    args.extend(snapshot.into_iter().flat_map(|name| ["-l", name]));
    args.extend([image.to_str().unwrap(), raw.to_str().unwrap()]);
    hand.img(&args).success();
    std::fs::read(&raw).unwrap()
}

/// The raw data file of an image shows the disk on its own. The real tool fills its last cluster,
/// or its last block of direct I/O.
pub(crate) fn read_data_file(data: &Path, model: &ModelDisk, cluster: u64) {
    let mut bytes = std::fs::read(data).unwrap();
    let most = (model.len() as u64).next_multiple_of(cluster.max(4096));
    assert!(bytes.len() as u64 <= most, "raw data file: {} bytes", bytes.len());
    bytes.truncate(model.len());
    same(&bytes, model.bytes(), "raw data file");
}

/// Panics with the first difference.
pub(crate) fn same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "length: {what}");
    if let Some(difference) = ModelDisk::from_bytes(expected.to_vec()).difference(0, found) {
        panic!("{what}: {difference}");
    }
}
