//! What a check found, for people and for programs.

use std::fmt::Write;

use qimg::chain::Format;
use qimg::check::CheckReport;
use serde::Serialize;

/// Renders a report as qemu-img does.
pub(super) fn human(report: &CheckReport) -> String {
    let mut text = String::new();
    if report.leaks_fixed > 0 || report.corruptions_fixed > 0 {
        let _ = write!(
            text,
            "The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    \
             {} corruptions\n\nDouble checking the fixed image now...\n",
            report.leaks_fixed, report.corruptions_fixed
        );
    }
    if report.corruptions == 0 && report.leaks == 0 && report.check_errors == 0 {
        text.push_str("No errors were found on the image.\n");
    }
    if report.corruptions > 0 {
        let _ = write!(
            text,
            "\n{} errors were found on the image.\nData may be corrupted, or further writes to \
             the image may corrupt it.\n",
            report.corruptions
        );
    }
    if report.leaks > 0 {
        let _ = write!(
            text,
            "\n{} leaked clusters were found on the image.\nThis means waste of disk space, but \
             no harm to data.\n",
            report.leaks
        );
    }
    if report.check_errors > 0 {
        let _ = writeln!(
            text,
            "\n{} internal errors have occurred during the check.",
            report.check_errors
        );
    }
    text.push_str(&allocation(report));
    if report.image_end_offset > 0 {
        let _ = writeln!(text, "Image end offset: {}", report.image_end_offset);
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn allocation(report: &CheckReport) -> String {
    let (total, allocated) = (report.total_clusters, report.allocated_clusters);
    if total == 0 || allocated == 0 {
        return String::new();
    }
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole as f64;
    format!(
        "{allocated}/{total} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters\n",
        percent(allocated, total),
        percent(report.fragmented_clusters, allocated),
        percent(report.compressed_clusters, allocated),
    )
}

/// The members of qemu-img, in the order it prints them; counts of zero are left out where it
/// leaves them out.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Json<'a> {
    image_end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    compressed_clusters: u64,
    total_clusters: u64,
    #[serde(skip_serializing_if = "is_zero")]
    corruptions: u64,
    #[serde(skip_serializing_if = "is_zero")]
    corruptions_fixed: u64,
    check_errors: u64,
    #[serde(skip_serializing_if = "is_zero")]
    leaks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    leaks_fixed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    allocated_clusters: u64,
    filename: &'a str,
    format: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    fragmented_clusters: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl<'a> Json<'a> {
    /// The answer about one file.
    pub(super) fn new(filename: &'a str, format: Format, report: &CheckReport) -> Self {
        Self {
            image_end_offset: report.image_end_offset,
            compressed_clusters: report.compressed_clusters,
            total_clusters: report.total_clusters,
            corruptions: report.corruptions,
            corruptions_fixed: report.corruptions_fixed,
            check_errors: report.check_errors,
            leaks: report.leaks,
            leaks_fixed: report.leaks_fixed,
            allocated_clusters: report.allocated_clusters,
            filename,
            format: format.name(),
            fragmented_clusters: report.fragmented_clusters,
        }
    }
}
