//! Repairs that the real tool gets wrong, or that must not go too far.

use qimg::check::{CheckReport, FindingKind, Outcome, Repair};
use qimg::format::{Header, IncompatibleFeatures};
use testkit::{Folder, Qemu};

use super::poke::{BLOCK, L1, L2, REFCOUNT_TABLE, long, make, poked};
use super::reference::ours;

/// Repairs, and lets the real tool look at the result.
fn repair(folder: &Folder, bytes: &[u8]) -> (CheckReport, Vec<u8>) {
    let (report, repaired) = ours(bytes, Repair::All);
    Qemu::check(&folder.write("repaired.qcow2", &repaired));
    (report.unwrap(), repaired)
}

#[test]
fn a_refcount_structure_that_the_reference_cannot_rebuild() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k");
    for entry in [0x2_0001, 0x2_0200, 0x8000_0000_0002_0000] {
        let broken = poked(&made, &[(REFCOUNT_TABLE, &long(entry))]);
        let (report, repaired) = repair(&folder, &broken);
        assert_eq!(report.outcome(), Outcome::Consistent);
        assert!(report.corruptions_fixed > 0);
        assert!(report.findings.iter().any(|finding| finding.kind == FindingKind::Rebuilding));
        let table = Header::decode(&repaired).unwrap().refcount_table_offset().get();
        assert!(table >= made.len() as u64, "the old structure stays until the switch");
    }
}

#[test]
fn an_empty_refcount_table_is_rebuilt() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k");
    let (report, _) = repair(&folder, &poked(&made, &[(56, &[0; 4])]));
    assert_eq!(report.outcome(), Outcome::Consistent);
}

#[test]
fn a_file_cut_short_gets_its_length_back_before_anything_else_lies_there() {
    let folder = Folder::new();
    let path = folder.path("made.qcow2");
    let image = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", image, "64M"]).success();
    Qemu::io(["-f", "qcow2", "-c", "write -P 1 0 1M", image]).success();
    let mut bytes = std::fs::read(&path).unwrap();
    // Eight clusters of data are lost, and a count is wrong as well.
    bytes.truncate(bytes.len() - (8 << 16));
    bytes[BLOCK..BLOCK + 2].fill(0);
    let (report, repaired) = repair(&folder, &bytes);
    assert_eq!(report.outcome(), Outcome::Consistent);
    let repaired = folder.write("repaired.qcow2", &repaired);
    let read = "read -P 0 512k 512k";
    let words = Qemu::io(
        ["-f", "qcow2", "-c", "read -P 1 0 512k", "-c", read]
            .map(String::from)
            .into_iter()
            .chain([repaired.display().to_string()]),
    );
    assert!(!words.success().stdout.contains("failed"), "what was lost reads as zeros");
}

#[test]
fn marks_go_when_nothing_is_wrong_and_stay_otherwise() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k");
    let marks = IncompatibleFeatures::DIRTY.with(IncompatibleFeatures::CORRUPT);
    let marked = poked(&made, &[(72, &long(3)), (88, &long(1 << 9))]);
    let features = |bytes: &[u8]| Header::decode(bytes).unwrap().features();
    for repair in [Repair::Leaks, Repair::All] {
        let (report, repaired) = ours(&marked, repair);
        assert_eq!(report.unwrap().outcome(), Outcome::Consistent);
        assert!(!features(&repaired).incompatible.contains(IncompatibleFeatures::DIRTY));
        assert!(features(&repaired).incompatible.is_empty());
        assert!(features(&repaired).autoclear.is_empty(), "unknown bits go before a write");
    }
    let broken = poked(&marked, &[(L2, &long(0x8000_0000_0005_0002))]);
    let (report, repaired) = ours(&broken, Repair::All);
    assert_eq!(report.unwrap().outcome(), Outcome::Corrupt);
    assert!(features(&repaired).incompatible.contains(marks));
    assert_eq!(ours(&marked, Repair::None).1, marked);
}

#[test]
fn a_table_that_something_else_claims_is_not_written() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k");
    // The second L1 entry would have the data cluster at 0x50000 be an L2 table.
    let mut broken = poked(&made, &[(0x50000, &long(0x6_0000))]);
    broken[36..40].copy_from_slice(&2_u32.to_be_bytes());
    broken.resize(broken.len().max(L1 + 16), 0);
    broken[L1 + 8..L1 + 16].copy_from_slice(&long(0x8000_0000_0005_0000));
    let (report, repaired) = ours(&broken, Repair::All);
    assert_eq!(report.unwrap().outcome(), Outcome::Corrupt);
    assert_eq!(repaired[0x50000..0x60000], broken[0x50000..0x60000]);
}
