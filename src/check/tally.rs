//! Tally: what one pass has counted and found so far.

use super::{CheckReport, Finding, FindingKind, Severity};

/// Findings that are kept; more are only counted.
pub const FINDINGS_MAX: usize = 1 << 18;

/// What one pass has counted and found so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) report: CheckReport,
}

impl Tally {
    /// Keeps a finding, and counts it as its severity says, `weight` times.
    pub(super) fn add(&mut self, finding: Finding, weight: u64) {
        self.count(finding.severity, weight);
        self.keep(finding);
    }

    /// An error, counted once.
    pub(super) fn error(&mut self, kind: FindingKind) {
        self.add(Finding::error(kind), 1);
    }

    /// Counts without a finding. [`Severity::Repaired`] is counted by whoever repairs.
    pub(super) fn count(&mut self, severity: Severity, weight: u64) {
        let counter = match severity {
            Severity::Error => &mut self.report.corruptions,
            Severity::Leak => &mut self.report.leaks,
            Severity::Unchecked => &mut self.report.check_errors,
            Severity::Repaired | Severity::Notice => return,
        };
        *counter = counter.saturating_add(weight);
    }

    fn keep(&mut self, finding: Finding) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        } else {
            self.report.findings_omitted += 1;
        }
    }

    /// Counts `count` findings of which the first few are made by `make`.
    pub(super) fn add_many(&mut self, count: u64, make: impl Fn(u64) -> Finding) {
        let room = FINDINGS_MAX.saturating_sub(self.report.findings.len()) as u64;
        for index in 0..count.min(room) {
            self.add(make(index), 1);
        }
        if count > room {
            self.count(make(room).severity, count - room);
            self.report.findings_omitted += count - room;
        }
    }

    /// Whether nothing wrong is left.
    pub(super) const fn is_clean(&self) -> bool {
        let report = &self.report;
        report.corruptions == 0 && report.check_errors == 0
    }
}
