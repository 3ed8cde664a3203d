//! How large an image says that it is: first what the header says, then what its small tables hold.

use std::path::Path;

use chain::Format;

use super::bounded::Bounded;
use super::finding::{Amount, FindingKind, Place, Severity};
use super::outline::Outline;
use super::{Audit, AuditError, Policy};
use crate::info::{self, InfoError, Qcow2Info};

/// Where the numbers stand in the header.
const CLUSTER_BITS: Place = Place::new(20, 4);
const VIRTUAL_SIZE: Place = Place::new(24, 8);
const L1_ENTRIES: Place = Place::new(36, 4);
const REFCOUNT_TABLE_CLUSTERS: Place = Place::new(56, 4);
const SNAPSHOT_COUNT: Place = Place::new(60, 4);
const HEADER: Place = Place::new(0, 104);

/// Compares sizes and counts with their limits.
pub(super) fn look(
    audit: &mut Audit,
    outline: &Outline,
    storage: &Bounded,
    policy: &Policy,
) -> Result<(), AuditError> {
    header(audit, outline, policy);
    match info::of_storage(Path::new(""), Format::Qcow2, storage) {
        Ok(info) => {
            if let Some(qcow2) = info.qcow2 {
                small_tables(audit, &qcow2, policy);
            }
        }
        // Told among the features already.
        Err(InfoError::Format(qcow2_format::Error::UnknownFeature { .. })) => {}
        Err(InfoError::Format(error)) => {
            audit.add(Severity::Damaged, Some(HEADER), FindingKind::Header(error));
        }
        Err(InfoError::Storage(error)) if !cut_off(&error) => return Err(error.into()),
        Err(error) => {
            let kind = FindingKind::Table { reason: error.to_string() };
            audit.add(Severity::Damaged, None, kind);
        }
    }
    Ok(())
}

/// Whether the image ends too early, or points too far, rather than the host having failed.
pub(super) fn cut_off(error: &block_io::Error) -> bool {
    matches!(error, block_io::Error::ShortRead { .. } | block_io::Error::OutOfRange { .. })
}

fn header(audit: &mut Audit, outline: &Outline, policy: &Policy) {
    let size = outline.virtual_size;
    audit.virtual_size = Some(size);
    audit.limit(Amount::VirtualSize, Some(VIRTUAL_SIZE), size, policy.virtual_size);
    let l1_bytes = u64::from(outline.l1_entries) * 8;
    audit.limit(Amount::L1Tables, Some(L1_ENTRIES), l1_bytes, policy.l1_tables);
    let snapshots = u64::from(outline.snapshot_count);
    audit.limit(Amount::Snapshots, Some(SNAPSHOT_COUNT), snapshots, policy.snapshots);
    if let Some(cluster) = outline.cluster_bytes() {
        let at = Some(CLUSTER_BITS);
        audit.limit(Amount::ClusterSize, at, cluster, policy.cluster_size_max);
        if cluster < policy.cluster_size_min {
            let allowed = policy.cluster_size_min;
            let kind = FindingKind::Limit { amount: Amount::ClusterSize, found: cluster, allowed };
            audit.add(Severity::Refused, at, kind);
        }
        let table = u64::from(outline.refcount_table_clusters).saturating_mul(cluster);
        let at = Some(REFCOUNT_TABLE_CLUSTERS);
        audit.limit(Amount::RefcountTable, at, table, policy.refcount_table);
    }
    let (from, allowed) = (policy.expansion_from, policy.expansion);
    bomb(audit, false, size, from, allowed);
}

/// Refuses guest bytes that are too many for the file.
pub(super) fn bomb(audit: &mut Audit, data: bool, guest_bytes: u64, from: u64, allowed: u64) {
    let file_bytes = audit.file_length;
    if guest_bytes > from && guest_bytes > file_bytes.saturating_mul(allowed) {
        let kind = FindingKind::Bomb { data, guest_bytes, file_bytes, allowed };
        let at = (!data).then_some(VIRTUAL_SIZE);
        audit.add(Severity::Refused, at, kind);
    }
}

fn small_tables(audit: &mut Audit, qcow2: &Qcow2Info, policy: &Policy) {
    // The disk's alone may be too large already.
    let told = audit
        .findings
        .iter()
        .any(|finding| matches!(finding.kind, FindingKind::Limit { amount: Amount::L1Tables, .. }));
    if !told {
        audit.limit(Amount::L1Tables, None, qcow2.l1_table_bytes, policy.l1_tables);
    }
    let vm_state = qcow2.snapshots.iter().map(|snapshot| snapshot.vm_state_bytes);
    let vm_state = vm_state.fold(0, u64::saturating_add);
    audit.limit(Amount::VmState, None, vm_state, policy.vm_state);
    audit.limit(Amount::Bitmaps, None, qcow2.bitmaps.len() as u64, policy.bitmaps);
}
