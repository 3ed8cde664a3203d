//! Features: those a policy may exclude, and those nobody knows.

use qcow2_format::{AutoclearFeatures, CompatibleFeatures, IncompatibleFeatures};

use super::finding::{FindingKind, Place, Severity};
use super::outline::Outline;
use super::{Audit, Policy};

/// Where the three words of features stand in the header.
const INCOMPATIBLE: Place = Place::new(72, 8);
const COMPATIBLE: Place = Place::new(80, 16);
const CRYPT_METHOD: Place = Place::new(32, 4);
const VERSION: Place = Place::new(4, 4);
/// Unknown extensions that are told one by one.
const EXTENSIONS_MAX: usize = 16;

/// Looks at the features that the header names.
pub(super) fn look(audit: &mut Audit, outline: &Outline, policy: &Policy) {
    let incompatible = IncompatibleFeatures::from_bits(outline.incompatible);
    let has = |feature| incompatible.contains(feature);
    let rows = [
        (
            outline.version == 2,
            policy.version_2,
            VERSION,
            "features.version-2",
            "version 2 of the format",
        ),
        (
            has(IncompatibleFeatures::EXTENDED_L2),
            policy.extended_l2,
            INCOMPATIBLE,
            "features.extended-l2",
            "extended L2 entries",
        ),
        (
            has(IncompatibleFeatures::COMPRESSION_TYPE),
            policy.zstd,
            INCOMPATIBLE,
            "features.zstd",
            "another compression type than deflate",
        ),
        (
            outline.crypt_method != 0,
            policy.encryption,
            CRYPT_METHOD,
            "features.encryption",
            "the image is encrypted",
        ),
        (
            has(IncompatibleFeatures::DIRTY),
            policy.dirty,
            INCOMPATIBLE,
            "features.dirty",
            "marked as not closed cleanly: opening it for writing means repairing it",
        ),
        (
            has(IncompatibleFeatures::CORRUPT),
            policy.corrupt,
            INCOMPATIBLE,
            "features.corrupt",
            "marked as damaged",
        ),
    ];
    for (_, allowed, at, key, what) in rows.into_iter().filter(|(found, ..)| *found) {
        audit.allow(allowed, Some(at), FindingKind::Feature { key, what });
    }
    unknown(audit, outline, policy);
}

fn unknown(audit: &mut Audit, outline: &Outline, policy: &Policy) {
    let bits = IncompatibleFeatures::from_bits(outline.incompatible).unknown().bits();
    if bits != 0 {
        let kind = FindingKind::UnknownIncompatible { bits };
        audit.add(Severity::Refused, Some(INCOMPATIBLE), kind);
    }
    let compatible = CompatibleFeatures::from_bits(outline.compatible).unknown().bits();
    let autoclear = AutoclearFeatures::from_bits(outline.autoclear).unknown().bits();
    if (compatible, autoclear) != (0, 0) {
        let kind = FindingKind::UnknownFeatures { compatible, autoclear };
        audit.allow(policy.unknown, Some(COMPATIBLE), kind);
    }
    for &(magic, at) in outline.unknown_extensions.iter().take(EXTENSIONS_MAX) {
        audit.allow(policy.unknown, Some(at), FindingKind::UnknownExtension { magic });
    }
}
