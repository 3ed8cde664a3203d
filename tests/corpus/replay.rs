//! One test per target.

use std::fs;
use std::path::PathBuf;

use fuzz_cases::{Case, TARGETS};

/// Folder of the committed inputs.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Says which input it was when a case panics.
struct Running(PathBuf);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: {}", self.0.display());
        }
    }
}

fn replay(target: &str) {
    let (_, case): (_, Case) = *TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let mut inputs: Vec<PathBuf> =
        fs::read_dir(folder().join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 10, "{} inputs are no corpus", inputs.len());
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        let running = Running(input);
        case(&bytes);
        drop(running);
    }
}

#[test]
fn header() {
    replay("header");
}

#[test]
fn entries() {
    replay("entries");
}

#[test]
fn tables() {
    replay("tables");
}

#[test]
fn refcounts() {
    replay("refcounts");
}

#[test]
fn compressed() {
    replay("compressed");
}

#[test]
fn image() {
    replay("image");
}

#[test]
fn check() {
    replay("check");
}

#[test]
fn chain() {
    replay("chain");
}

#[test]
fn operations() {
    replay("operations");
}
