//! The chains that are worked on: one base with data, and overlays that each hold a little.

use std::fs::File;
use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions};
use qimg::engine::{BackingReference, CreateOptions};
use qimg::io::{Create, OpenOptions as FileOptions};

use super::DEPTHS;
use crate::failure::{Failure, Outcome};
use crate::media::{Media, settle};

/// Bytes of the disk.
const SIZE: u64 = 1 << 30;

/// Bytes at its start that the base holds, and that are read.
pub(super) const DATA: u64 = 256 << 20;

const CLUSTER: u64 = 64 << 10;

/// The base, 0, or the overlay that has so many others below it.
pub(super) fn path(folder: &Path, depth: usize) -> PathBuf {
    folder.join(format!("{depth}.qcow2"))
}

/// Makes what an earlier run has not left here, and brings all of it into the page cache in the same
/// way.
pub(super) fn make(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder).map_err(Failure::file(folder))?;
    let made = folder.join("made");
    if !made.exists() {
        eprintln!("making the chains in {}", folder.display());
        create(folder, 0)?;
        fill(&path(folder, 0), 0, DATA)?;
        for depth in 1..=DEPTHS[3] {
            create(folder, depth)?;
            fill(&path(folder, depth), written_at(depth), CLUSTER)?;
        }
        File::create(&made).map_err(Failure::file(&made))?;
    }
    (0..=DEPTHS[3]).try_for_each(|depth| settle(&path(folder, depth)))
}

/// The cluster that an overlay writes: scattered over the data, no two the same.
fn written_at(depth: usize) -> u64 {
    (depth as u64).wrapping_mul(1_597) % (DATA / CLUSTER) * CLUSTER
}

fn create(folder: &Path, depth: usize) -> Outcome {
    let mut options = CreateOptions::new(SIZE);
    options.backing = depth.checked_sub(1).map(|below| BackingReference {
        name: format!("{below}.qcow2"),
        format: Some("qcow2".to_owned()),
    });
    let file = FileOptions::new().write(true).create(Create::Truncate).open(path(folder, depth));
    let file = file.map_err(|error| failed(&error))?;
    qimg::engine::create(&file, &options).map(drop).map_err(|error| failed(&error))
}

/// Whole clusters: nothing below is needed.
fn fill(path: &Path, offset: u64, len: u64) -> Outcome {
    let options = OpenOptions::new().format(Format::Qcow2).backing(false);
    let chain = Chain::open(path, &options).map_err(|error| failed(&error))?;
    let mut buf = vec![0; CLUSTER as usize];
    for at in (offset..offset + len).step_by(buf.len()) {
        Media::fill(at, &mut buf);
        chain.write_at(at, &buf).map_err(|error| failed(&error))?;
    }
    chain.close().map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::of("qimg")(error)
}
