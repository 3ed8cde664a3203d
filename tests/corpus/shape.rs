//! Targets, corpus and replay belong together: none of them is forgotten, and none is large.

use std::fs;
use std::path::Path;

use fuzz_cases::TARGETS;

use super::replay::folder;

/// All committed inputs together: enough to remember what was found, not to find more.
const BYTES_MAX: u64 = 300 << 10;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_program_a_corpus_and_a_replay() {
    let mut targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(names(&folder()), targets);
    let fuzz = folder().parent().unwrap().to_owned();
    let programs: Vec<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz.join("fuzz_targets")), programs);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let replay = include_str!("replay.rs");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not built");
        assert!(replay.contains(&format!("replay(\"{name}\")")), "{name} is not replayed");
    }
}

#[test]
fn the_corpus_is_small() {
    let mut bytes = 0;
    for (target, _) in TARGETS {
        for file in fs::read_dir(folder().join(target)).unwrap() {
            bytes += file.unwrap().metadata().unwrap().len();
        }
    }
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}
