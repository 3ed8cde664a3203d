//! Damaged at random, then repaired: what is left is what the real tool finds, the guest reads
//! what it read before, and what the real tool can repair, ours can.

use qimg::check::{CheckError, CheckReport, FindingKind, Repair, Severity};
use testkit::{Folder, Qemu, Rng};

use super::damage::damage;
use super::images::RECIPES;
use super::reference::{Verdict, ours, theirs};

/// Damaged copies of each image.
const ROUNDS: u64 = 6;

#[test]
fn repaired_images_are_what_the_report_says() {
    let mut rng = Rng::announced(0x5eed_0002);
    for recipe in RECIPES {
        let mut rng = rng.fork();
        let folder = Folder::new();
        let made = recipe.make(&folder, &mut rng);
        for round in 0..ROUNDS {
            let mut bytes = made.clone();
            let done = damage(&mut bytes, &mut rng);
            let repair = if rng.one_in(3) { Repair::Leaks } else { Repair::All };
            let what = format!("{recipe:?}, {repair:?}, round {round}: {done:#?}");
            repair_and_compare(&folder, &bytes, repair, &what);
        }
    }
}

fn repair_and_compare(folder: &Folder, bytes: &[u8], repair: Repair, what: &str) {
    let damaged = folder.write("damaged.qcow2", bytes);
    let (report, repaired) = ours(bytes, repair);
    let by_them = folder.write("theirs.qcow2", bytes);
    let their_verdict = theirs(&by_them, repair);
    let report = match report {
        Ok(report) => report,
        Err(CheckError::RebuildNeeded { .. }) => {
            assert_eq!(repair, Repair::Leaks, "{what}");
            assert!(their_verdict.is_none_or(|theirs| theirs.exit_code == 1), "{what}");
            assert!(repaired == bytes, "refused, and written all the same: {what}");
            return;
        }
        // Not an image that either can understand.
        Err(CheckError::Format(_)) if their_verdict.is_none() => {
            assert!(repaired == bytes, "refused, and written all the same: {what}");
            return;
        }
        Err(error) => panic!("{error}: {what}"),
    };
    let by_us = folder.write("ours.qcow2", &repaired);
    let found = theirs(&by_us, Repair::None).unwrap_or_else(|| panic!("no answer: {what}"));
    let mut left = Verdict::from(&report);
    left.counts.retain(|(name, _)| !name.ends_with("-fixed"));
    assert_eq!((left.exit_code, &left.counts), (found.exit_code, &found.counts), "{what}");
    let is_complete = |verdict: &Verdict| verdict.exit_code != 1;
    if let Some(their_verdict) = their_verdict.filter(is_complete)
        && !(repair == Repair::All && is_careful(&report))
    {
        compare_verdicts(&Verdict::from(&report), &their_verdict, what);
    }
    let differs = |path| Qemu::img(["compare".as_ref(), damaged.as_os_str(), path]).code == Some(1);
    // A guest cluster that damage has put over a table changes with the table.
    assert!(
        !differs(by_us.as_os_str()) || differs(by_them.as_os_str()),
        "the guest reads other bytes: {what}"
    );
}

/// Whether the report shows a place where ours goes its own way: it never writes into a table that
/// something else claims too, and never makes a file longer to include a block that it lacks.
fn is_careful(report: &CheckReport) -> bool {
    report.findings.iter().any(|finding| {
        finding.severity == Severity::Error
            && matches!(
                finding.kind,
                FindingKind::CopiedL1 { .. }
                    | FindingKind::CopiedL2 { .. }
                    | FindingKind::PreallocatedUnaligned { .. }
                    | FindingKind::RefcountBlockOutside { .. }
            )
    })
}

fn compare_verdicts(ours: &Verdict, theirs: &Verdict, what: &str) {
    let has = |text| ours.lines.iter().any(|line| line.contains(text));
    let count = |verdict: &Verdict, name| {
        verdict.counts.iter().find(|count| count.0 == name).map_or(0, |count| count.1)
    };
    let rebuilt = has("Rebuilding");
    if rebuilt && has("exceeding the end of the file") {
        // Ours puts the new structure where nothing points, and gives a file that was cut short
        // its length back; theirs may put it where the lost clusters were.
        assert!(count(ours, "corruptions") <= count(theirs, "corruptions"), "{what}");
        return;
    }
    let counts = |verdict: &Verdict| -> Vec<(&'static str, u64)> {
        let counts = verdict.counts.iter().copied();
        counts
            .filter(|(name, _)| match *name {
                // Where the image ends depends on where a rebuilt structure was put.
                "image-end-offset" => false,
                // After a rebuild theirs counts as repaired whatever was found before it.
                "corruptions-fixed" => !rebuilt,
                _ => true,
            })
            .collect()
    };
    let only = |one: &Verdict, other: &Verdict| -> Vec<String> {
        one.lines.iter().filter(|line| !other.lines.contains(line)).take(9).cloned().collect()
    };
    let lines = (only(ours, theirs), only(theirs, ours));
    assert_eq!(counts(ours), counts(theirs), "{what}\nonly ours and only theirs: {lines:#?}");
    assert!(count(ours, "corruptions-fixed") <= count(theirs, "corruptions-fixed"), "{what}");
    assert_eq!(ours.exit_code, theirs.exit_code, "{what}");
}
