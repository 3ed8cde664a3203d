//! `fixtures`: the committed images, made again from their table; `--check` only compares.

mod compare;
mod describe;
mod make;
mod qemu;
mod snapshot_date;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{build_folder, root, run_cargo};
use crate::environment;
use crate::failure::{Failure, Outcome};
use table::{FIXTURES, Fixture, Maker};

/// Which QEMU made the committed images: the bytes are reproducible for that version.
const MADE_WITH: &str = "made-with.txt";
/// The table for readers.
const README: &str = "README.md";
/// The longest a committed file may be.
const FILE_BYTES_MAX: u64 = 384 << 10;

pub(crate) fn run(words: &[String]) -> Outcome {
    let check = match words {
        [] => false,
        [word] if word == "--check" => true,
        [word, ..] => {
            let argument = word.clone();
            return Err(Failure::UnknownArgument { task: "fixtures", argument });
        }
    };
    environment::ensure()?;
    if FIXTURES.iter().any(|fixture| fixture.maker == Maker::Own) {
        run_cargo(&["build", "--quiet", "--workspace", "--all-features", "--bins"])?;
    }
    let committed = root().join("fixtures");
    let made = build_folder()?.join(format!("fixtures-{}", std::process::id()));
    let outcome = make::all(FIXTURES, &made).and_then(|()| {
        if check { compare_all(&committed, &made) } else { replace(&committed, &made) }
    });
    let removed = fs::remove_dir_all(&made).map_err(Failure::at(&made));
    outcome.and(removed)
}

/// Every file that the folder must hold, images first.
fn expected_files() -> Vec<&'static str> {
    let images = FIXTURES.iter().flat_map(|fixture| fixture.files.iter().copied());
    images.chain([README, MADE_WITH]).collect()
}

fn replace(committed: &Path, made: &Path) -> Outcome {
    fs::create_dir_all(committed).map_err(Failure::at(committed))?;
    for name in FIXTURES.iter().flat_map(|fixture| fixture.files) {
        let bytes = read(&made.join(name))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let what = "size of a fixture";
            return Err(Failure::Unexpected { what, found: format!("{name}: {} B", bytes.len()) });
        }
        write(&committed.join(name), &bytes)?;
    }
    write(&committed.join(README), describe::readme(FIXTURES).as_bytes())?;
    write(&committed.join(MADE_WITH), format!("{}\n", qemu::version()?).as_bytes())?;
    for name in strays(committed)? {
        println!("{name}: in the folder, not in the table; remove it");
    }
    println!("{} fixtures written to {}", FIXTURES.len(), committed.display());
    Ok(())
}

fn compare_all(committed: &Path, made: &Path) -> Outcome {
    let recorded = String::from_utf8_lossy(&read(&committed.join(MADE_WITH))?).trim().to_owned();
    let here = qemu::version()?;
    let same_version = recorded == here;
    if !same_version {
        println!(
            "the fixtures were made with `{recorded}`, here is `{here}`: images made by QEMU are \
             compared by content and description, not byte by byte"
        );
    }
    let mut findings = Vec::new();
    for fixture in FIXTURES {
        let by_content = fixture.maker == Maker::Qemu && !same_version;
        findings.extend(compare::fixture(fixture, committed, made, by_content)?);
    }
    if read(&committed.join(README))? != describe::readme(FIXTURES).as_bytes() {
        findings.push(format!("{README}: is not what the table says"));
    }
    findings.extend(strays(committed)?.into_iter().map(|name| format!("{name}: not in the table")));
    if findings.is_empty() {
        println!("{} fixtures are current", FIXTURES.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    let hint = "`cargo xtask fixtures` makes them again; look at the difference before committing";
    Err(Failure::Findings { task: "fixtures", count: findings.len(), hint })
}

/// Names in the folder that nothing would make again.
fn strays(committed: &Path) -> Outcome<BTreeSet<String>> {
    let expected = expected_files();
    let mut strays = BTreeSet::new();
    for entry in fs::read_dir(committed).map_err(Failure::at(committed))? {
        let name = entry.map_err(Failure::at(committed))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !expected.contains(&name.as_str()) {
            strays.insert(name);
        }
    }
    Ok(strays)
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(Failure::at(path))
}

fn write(path: &PathBuf, bytes: &[u8]) -> Outcome {
    fs::write(path, bytes).map_err(Failure::at(path))
}
