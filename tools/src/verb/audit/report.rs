//! Verdicts for people and for programs.

use std::fmt::Write;

use qimg::audit::{Audit, Finding, Place, Severity, Verdict};
use serde_json::{Value, json};

use crate::report::bytes;

const fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Acceptable => "acceptable",
        Verdict::Refused => "refused",
        Verdict::Damaged => "damaged",
    }
}

/// The worst first; the verdict last, where the eye is.
pub(super) fn human(audit: &Audit) -> String {
    let mut text = String::new();
    for severity in [Severity::Refused, Severity::Damaged, Severity::Notice] {
        for finding in audit.findings.iter().filter(|finding| finding.severity == severity) {
            let at = finding.at.map(|at| format!(" at {:#x}", at.offset)).unwrap_or_default();
            let _ = writeln!(
                text,
                "{:<8} {finding}{at} [{}]",
                format!("{}:", severity.name()),
                finding.rule()
            );
        }
    }
    let guessed = if audit.guessed { ", by its content" } else { "" };
    let size = audit.virtual_size.map(|size| format!(", {} of disk", bytes::human(size)));
    let _ = writeln!(
        text,
        "{}: {}{guessed}{} in a file of {}",
        name(audit.verdict()),
        audit.format,
        size.unwrap_or_default(),
        bytes::human(audit.file_length),
    );
    text
}

/// Everything; members may be added later, and are never renamed.
pub(super) fn json(audit: &Audit) -> Value {
    let check = audit.check.as_ref().map(|check| {
        json!({
            "corruptions": check.corruptions,
            "leaks": check.leaks,
            "check-errors": check.check_errors,
            "allocated-clusters": check.allocated_clusters,
            "compressed-clusters": check.compressed_clusters,
        })
    });
    json!({
        "filename": audit.path.to_string_lossy(),
        "verdict": name(audit.verdict()),
        "format": audit.format.name(),
        "format-guessed": audit.guessed,
        "content": audit.content.iter().map(|signature| signature.name).collect::<Vec<_>>(),
        "file-length": audit.file_length,
        "virtual-size": audit.virtual_size,
        "check": check,
        "findings": audit.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    let at = finding.at.map(|Place { offset, len }| json!({ "offset": offset, "length": len }));
    json!({
        "severity": finding.severity.name(),
        "rule": finding.rule(),
        "at": at,
        "message": finding.to_string(),
    })
}
