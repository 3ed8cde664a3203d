//! What there is to say about a layer, in words, the same for browsers and terminals.

use std::path::Path;

use qimg::check::Outcome;
use qimg::format::CompressionType;
use qimg::info::{EncryptionInfo, Qcow2Info};
use qimg::view::{LayerView, View};

use crate::report::bytes::human;

/// A fact: what, and how it is.
pub(super) type Fact = (&'static str, String);

/// How the metadata of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Middling,
    Bad,
    Unknown,
}

/// One line on the check of a layer.
pub(super) fn health(layer: &LayerView) -> (Health, String) {
    let report = match &layer.check {
        None if layer.info.qcow2.is_none() => return (Health::Unknown, "nothing to check".into()),
        None => return (Health::Unknown, "not checked".into()),
        Some(Err(error)) => return (Health::Bad, format!("cannot be checked: {error}")),
        Some(Ok(report)) => report,
    };
    match report.outcome() {
        Outcome::Consistent => (Health::Good, "consistent".into()),
        Outcome::Leaks => (Health::Middling, format!("{} leaked clusters", report.leaks)),
        _ => (Health::Bad, format!("{} errors", report.corruptions + report.check_errors)),
    }
}

/// Sizes and amounts.
pub(super) fn amounts(layer: &LayerView) -> Vec<Fact> {
    let info = &layer.info;
    let mut facts = vec![
        ("disk", human(info.virtual_size)),
        ("file", human(info.file_length)),
        ("on the host", human(info.disk_size)),
        ("seen", human(layer.visible_data)),
        ("hidden", human(layer.hidden)),
        ("zeros", human(layer.zero)),
    ];
    if info.qcow2.is_some() {
        facts.push(("compressed", share(layer.compressed, layer.stored)));
    }
    if let Some(Ok(report)) = &layer.check {
        let (scattered, all) = (report.fragmented_clusters, report.allocated_clusters);
        facts.push(("fragmented", share(scattered, all)));
    }
    facts
}

/// A part in percent, with as many digits as somebody wants to see.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn share(part: u64, whole: u64) -> String {
    match percent(part, whole) {
        percent if percent > 0.0 && percent < 0.1 => "under 0.1 %".into(),
        percent => format!("{percent:.1} %"),
    }
}

/// What the header says.
pub(super) fn header(qcow2: &Qcow2Info) -> Vec<Fact> {
    let yes = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let mut facts = vec![
        ("version", qcow2.version.to_string()),
        ("cluster", human(qcow2.cluster_size)),
        (
            "refcounts",
            format!(
                "{} bits{}",
                qcow2.refcount_bits,
                if qcow2.lazy_refcounts { ", lazy" } else { "" }
            ),
        ),
        ("compression", compression(qcow2.compression).to_owned()),
        ("subclusters", yes(qcow2.extended_l2)),
        ("closed cleanly", yes(!qcow2.dirty)),
        ("marked as damaged", yes(qcow2.corrupt)),
    ];
    if let Some(encryption) = qcow2.encryption {
        let name = match encryption {
            EncryptionInfo::Aes => "AES",
            EncryptionInfo::Luks => "LUKS",
        };
        facts.push(("encryption", name.into()));
    }
    if let Some(name) = &qcow2.data_file {
        facts.push(("data file", name.clone()));
    }
    if let Some(name) = &qcow2.backing_name {
        facts.push(("backing file", name.clone()));
        let format = qcow2.backing_format.clone();
        facts.push(("its format", format.unwrap_or_else(|| "not recorded".into())));
    }
    facts
}

fn compression(kind: CompressionType) -> &'static str {
    match kind {
        CompressionType::Zstd => "zstd",
        CompressionType::Deflate => "deflate",
    }
}

/// The format in a few words.
pub(super) fn format(layer: &LayerView) -> String {
    match &layer.info.qcow2 {
        Some(qcow2) => format!("qcow2 v{}, {} clusters", qcow2.version, human(qcow2.cluster_size)),
        None => layer.info.format.to_string(),
    }
}

/// Names of the layers, without the folder if all lie in the same.
pub(super) fn names(view: &View) -> Vec<String> {
    let mut folders = view.layers.iter().map(|layer| layer.info.path.parent());
    let first = folders.next().flatten();
    let is_same = folders.all(|folder| folder == first);
    let name = |path: &Path| {
        let short = path.file_name().filter(|_| is_same).map(Path::new);
        short.unwrap_or(path).to_string_lossy().into_owned()
    };
    view.layers.iter().map(|layer| name(&layer.info.path)).collect()
}

/// The first findings of the check, and how many more there are.
pub(super) fn findings(layer: &LayerView) -> (Vec<String>, u64) {
    const SHOWN: usize = 20;
    let Some(Ok(report)) = &layer.check else { return (Vec::new(), 0) };
    let shown = report.findings.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = report.findings.len().saturating_sub(SHOWN) as u64 + report.findings_omitted;
    (shown, more)
}
