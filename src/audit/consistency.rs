//! Whether the metadata hold together, and how much guest data comes out of the file.

use block_io::Storage;

use super::bounded::Bounded;
use super::finding::{Amount, FindingKind, Severity};
use super::outline::Outline;
use super::tables::{bomb, cut_off};
use super::{Audit, AuditError, Policy};
use crate::check::{self, CheckError, CheckOptions, CheckReport};

/// Incompatible feature bit of images whose guest data lie in another file.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// Checks the metadata, if that makes sense and is allowed to take the memory.
pub(super) fn look(
    audit: &mut Audit,
    outline: &Outline,
    storage: &Bounded,
    policy: &Policy,
) -> Result<(), AuditError> {
    let headed = |kind: &FindingKind| {
        matches!(kind, FindingKind::Header(_) | FindingKind::UnknownIncompatible { .. })
    };
    // What is beyond a limit would be beyond the time and memory that limits are there to bound.
    let beyond = |kind: &FindingKind| matches!(kind, FindingKind::Limit { .. });
    let mut kinds = audit.findings.iter().map(|finding| &finding.kind);
    if !policy.consistency || kinds.any(|kind| headed(kind) || beyond(kind)) {
        return Ok(());
    }
    let clusters = outline.cluster_bytes().map_or(0, |bytes| audit.file_length.div_ceil(bytes));
    audit.limit(Amount::HostClusters, None, clusters, policy.host_clusters);
    if clusters > policy.host_clusters {
        return Ok(());
    }
    let storage: &dyn Storage = storage;
    match check::check(storage, CheckOptions::default()) {
        Ok(report) => {
            judge(audit, outline, &report, policy);
            audit.check = Some(report);
        }
        Err(CheckError::Storage(error)) if !cut_off(&error) => return Err(error.into()),
        Err(error) => {
            let kind = FindingKind::Unchecked { reason: error.to_string() };
            audit.add(Severity::Damaged, None, kind);
        }
    }
    Ok(())
}

fn judge(audit: &mut Audit, outline: &Outline, report: &CheckReport, policy: &Policy) {
    let count = report.corruptions.saturating_add(report.check_errors);
    if count > 0 {
        let errors = report.findings.iter();
        let mut errors = errors.filter(|finding| finding.severity != check::Severity::Leak);
        let first = errors.next().map(ToString::to_string).unwrap_or_default();
        let severity = if policy.corruption { Severity::Notice } else { Severity::Damaged };
        audit.add(severity, None, FindingKind::Corruption { count, first });
    }
    if report.leaks > 0 {
        audit.allow(policy.leaks, None, FindingKind::Leaks { count: report.leaks });
    }
    if outline.incompatible & EXTERNAL_DATA_FILE == 0 {
        let cluster = outline.cluster_bytes().unwrap_or(0);
        let guest_bytes = report.allocated_clusters.saturating_mul(cluster);
        bomb(audit, true, guest_bytes, policy.data_from, policy.data);
    }
}
