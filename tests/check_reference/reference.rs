//! What the two checks say, in a form that can be compared.

use std::path::Path;

use qimg::check::{CheckError, CheckOptions, CheckReport, Repair, check};
use qimg::io::MemoryStorage;
use testkit::Qemu;

/// Counts, and the lines that led to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) exit_code: u8,
    /// Names and values as in the JSON of `qemu-img check`; zeros left out.
    pub(crate) counts: Vec<(&'static str, u64)>,
    pub(crate) lines: Vec<String>,
}

const COUNTS: [&str; 10] = [
    "corruptions",
    "leaks",
    "check-errors",
    "corruptions-fixed",
    "leaks-fixed",
    "total-clusters",
    "allocated-clusters",
    "fragmented-clusters",
    "compressed-clusters",
    "image-end-offset",
];

/// Asks the real tool. `None`: it gave up without an answer.
pub(crate) fn theirs(path: &Path, repair: Repair) -> Option<Verdict> {
    let mut args = vec!["check", "-f", "qcow2", "--output=json"];
    match repair {
        Repair::None => {}
        Repair::Leaks => args.extend(["-r", "leaks"]),
        Repair::All => args.extend(["-r", "all"]),
    }
    args.push(path.to_str().unwrap());
    let output = Qemu::img(args);
    let exit_code = u8::try_from(output.code.unwrap()).unwrap();
    if output.stdout.is_empty() {
        assert_eq!(exit_code, 1, "{output:?}");
        return None;
    }
    let json = output.json();
    let counts = COUNTS
        .into_iter()
        .filter_map(|name| Some((name, json[name].as_u64().filter(|&value| value != 0)?)))
        .collect();
    // One remark ends without a line break.
    let stderr = output.stderr.replace("on the image file to fix.", "on the image file to fix.\n");
    let lines = stderr.lines().filter(|line| !is_remark(line)).map(str::to_owned).collect();
    Some(Verdict { exit_code, counts, lines })
}

/// Lines of the real tool about other things than the image.
fn is_remark(line: &str) -> bool {
    line.starts_with("qemu-img: ")
        || line.starts_with("qcow2: ")
        || line.starts_with("qcow2_free_clusters failed")
        || line.starts_with("Some clusters may be leaked")
}

/// Asks our own check, on a copy in memory.
pub(crate) fn ours(bytes: &[u8], repair: Repair) -> (Result<CheckReport, CheckError>, Vec<u8>) {
    let storage = MemoryStorage::from(bytes);
    let report = check(&storage, CheckOptions { repair, ..CheckOptions::default() });
    (report, storage.to_vec())
}

impl From<&CheckReport> for Verdict {
    fn from(report: &CheckReport) -> Self {
        let values = [
            report.corruptions,
            report.leaks,
            report.check_errors,
            report.corruptions_fixed,
            report.leaks_fixed,
            report.total_clusters,
            report.allocated_clusters,
            report.fragmented_clusters,
            report.compressed_clusters,
            report.image_end_offset,
        ];
        let lines = report.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Self {
            exit_code: report.outcome().exit_code(),
            counts: COUNTS.into_iter().zip(values).filter(|&(_, value)| value != 0).collect(),
            lines: lines.lines().map(str::to_owned).collect(),
        }
    }
}
