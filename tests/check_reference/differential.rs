//! Damaged at random: the same counts, the same words, the same exit code.

use std::collections::HashSet;

use qimg::check::{CheckError, Repair};
use testkit::{Folder, Rng};

use super::damage::damage;
use super::images::RECIPES;
use super::reference::{Verdict, ours, theirs};

/// Damaged copies of each image.
const ROUNDS: u64 = 20;

#[test]
fn damaged_images_get_the_same_verdict() {
    let mut rng = Rng::announced(0x5eed_0001);
    for recipe in RECIPES {
        let mut rng = rng.fork();
        let folder = Folder::new();
        let made = recipe.make(&folder, &mut rng);
        compare(&folder, &made, &format!("{recipe:?}, undamaged"));
        for round in 0..ROUNDS {
            let mut bytes = made.clone();
            let done = damage(&mut bytes, &mut rng);
            compare(&folder, &bytes, &format!("{recipe:?}, round {round}: {done:#?}"));
        }
    }
}

fn compare(folder: &Folder, bytes: &[u8], what: &str) {
    let path = folder.write("damaged.qcow2", bytes);
    let theirs = theirs(&path, Repair::None);
    let (ours, after) = ours(bytes, Repair::None);
    assert!(after == bytes, "a check without repair wrote something: {what}");
    match (theirs, ours) {
        (Some(mut theirs), Ok(report)) => {
            // A data cluster read as a table can fill any list; the counts still agree.
            let kept = report.findings.len();
            let is_whole = report.findings_omitted == 0;
            theirs.lines.truncate(if is_whole { usize::MAX } else { kept });
            assert_same(Verdict::from(&report), theirs, what);
        }
        (None, Err(CheckError::Format(_) | CheckError::BitmapTableLength { .. })) => {}
        (theirs, ours) => panic!("{what}\ntheirs {theirs:#?}\nours {ours:#?}"),
    }
}

fn assert_same(mut ours: Verdict, mut theirs: Verdict, what: &str) {
    let overflow = ours.lines.iter().any(|line| line.contains("overflow"));
    for lines in [&mut ours.lines, &mut theirs.lines] {
        if overflow {
            // The reference implementation says so wherever it counts one reference too many.
            lines.sort();
        }
        // It also repeats itself where several entries point at one table.
        let mut seen = HashSet::new();
        lines.retain(|line| seen.insert(line.clone()));
    }
    let first = ours.lines.iter().zip(&theirs.lines).position(|(ours, theirs)| ours != theirs);
    if let Some(first) = first {
        let (ours, theirs) = (&ours.lines[first], &theirs.lines[first]);
        panic!("{what}\nline {first}:\n ours   {ours}\n theirs {theirs}");
    }
    assert_eq!(ours.lines.len(), theirs.lines.len(), "{what}");
    assert_eq!((ours.exit_code, ours.counts), (theirs.exit_code, theirs.counts), "{what}");
}
