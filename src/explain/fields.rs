//! The fields of the header: where each lies, what it says, what that means.

use core::mem::offset_of;
use core::ops::Range;

use qcow2_format::{FEATURE_ROWS, FeatureKind, Header, RawHeaderV2, RawHeaderV3Tail};

use super::extensions;

/// A stretch of cluster 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Bytes of the file.
    pub range: Range<u64>,
    /// Name of the field in the format specification, or of the part of an extension.
    pub name: String,
    /// What it says: a number, a text, or nothing where bytes alone would not help.
    pub value: String,
    /// What that means.
    pub meaning: String,
}

impl HeaderField {
    pub(super) fn new(
        range: Range<usize>,
        name: impl Into<String>,
        value: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        let range = range.start as u64..range.end as u64;
        Self { range, name: name.into(), value: value.into(), meaning: meaning.into() }
    }
}

/// A number of the fixed header: where, how many bytes, its name, and what it says and means.
type Fixed = (usize, usize, &'static str, fn(u64) -> (String, String));

macro_rules! field {
    ($raw:ident at $base:expr, $field:ident, $bytes:literal, $says:expr) => {
        ($base + offset_of!($raw, $field), $bytes, stringify!($field), $says)
    };
}

const V2: [Fixed; 13] = [
    field!(RawHeaderV2 at 0, magic, 4, |value| (hex(value), "this is a qcow2 image".into())),
    field!(RawHeaderV2 at 0, version, 4, |value| {
        let compat = if value == 2 { "0.10" } else { "1.1" };
        (value.to_string(), format!("version of the format, compat={compat}"))
    }),
    field!(RawHeaderV2 at 0, backing_file_offset, 8, |value| match value {
        0 => (hex(value), "there is no backing file".into()),
        _ => (hex(value), "where the name of the backing file lies".into()),
    }),
    field!(RawHeaderV2 at 0, backing_file_size, 4, |value| {
        (value.to_string(), "bytes of the name of the backing file".into())
    }),
    field!(RawHeaderV2 at 0, cluster_bits, 4, |value| {
        let bytes = 1_u64.checked_shl(value as u32).unwrap_or(0);
        (value.to_string(), format!("clusters of {bytes} bytes"))
    }),
    field!(RawHeaderV2 at 0, size, 8, |value| {
        (value.to_string(), "bytes of the virtual disk".into())
    }),
    field!(RawHeaderV2 at 0, crypt_method, 4, |value| {
        let meaning = match value {
            0 => "guest data is not encrypted",
            1 => "guest data is encrypted with AES-CBC",
            2 => "guest data is encrypted with LUKS",
            _ => "an encryption nobody here knows",
        };
        (value.to_string(), meaning.into())
    }),
    field!(RawHeaderV2 at 0, l1_size, 4, |value| {
        (value.to_string(), "entries of the active L1 table".into())
    }),
    field!(RawHeaderV2 at 0, l1_table_offset, 8, |value| {
        (hex(value), "where the active L1 table lies".into())
    }),
    field!(RawHeaderV2 at 0, refcount_table_offset, 8, |value| {
        (hex(value), "where the refcount table lies".into())
    }),
    field!(RawHeaderV2 at 0, refcount_table_clusters, 4, |value| {
        (value.to_string(), "clusters of the refcount table".into())
    }),
    field!(RawHeaderV2 at 0, nb_snapshots, 4, |value| {
        (value.to_string(), "internal snapshots".into())
    }),
    field!(RawHeaderV2 at 0, snapshots_offset, 8, |value| match value {
        0 => (hex(value), "there is no snapshot table".into()),
        _ => (hex(value), "where the snapshot table lies".into()),
    }),
];

/// Where version 2 ends and the rest of version 3 begins.
const V2_BYTES: usize = size_of::<RawHeaderV2>();
/// Where the fields end that every header of version 3 has.
const V3_BYTES: usize = V2_BYTES + size_of::<RawHeaderV3Tail>();
/// Where the padding behind the compression type ends.
const PADDING_END: usize = 112;

const V3: [Fixed; 5] = [
    field!(RawHeaderV3Tail at V2_BYTES, incompatible_features, 8, |value| {
        features(FeatureKind::Incompatible, value, "nothing special is needed to read it")
    }),
    field!(RawHeaderV3Tail at V2_BYTES, compatible_features, 8, |value| {
        features(FeatureKind::Compatible, value, "nothing that may be ignored")
    }),
    field!(RawHeaderV3Tail at V2_BYTES, autoclear_features, 8, |value| {
        features(FeatureKind::Autoclear, value, "nothing that a writer must keep up to date")
    }),
    field!(RawHeaderV3Tail at V2_BYTES, refcount_order, 4, |value| {
        let bits = 1_u64.checked_shl(value as u32).unwrap_or(0);
        (value.to_string(), format!("refcounts of {bits} bits"))
    }),
    field!(RawHeaderV3Tail at V2_BYTES, header_length, 4, |value| {
        (value.to_string(), "where the header ends and the extensions begin".into())
    }),
];

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

/// The bits of a feature word, by their names.
fn features(kind: FeatureKind, word: u64, none: &str) -> (String, String) {
    let name = |bit: u32| {
        let known =
            FEATURE_ROWS.iter().find(|row| row.feature_kind() == kind && u32::from(row.bit) == bit);
        known.map_or_else(|| format!("bit {bit}"), |row| format!("{} (bit {bit})", row.name))
    };
    let names: Vec<String> = (0..64).filter(|bit| word >> bit & 1 == 1).map(name).collect();
    let meaning = if names.is_empty() { none.to_owned() } else { names.join(", ") };
    (hex(word), meaning)
}

/// A big-endian number of up to 8 bytes; bytes past the end are zeros.
pub(super) fn number(cluster: &[u8], at: usize, bytes: usize) -> u64 {
    let byte = |at: usize| u64::from(cluster.get(at).copied().unwrap_or(0));
    (at..at + bytes).fold(0, |value, at| value << 8 | byte(at))
}

/// Explains all of cluster 0.
pub(super) fn explain(cluster: &[u8], header: Option<&Header>) -> Vec<HeaderField> {
    let is_v3 = number(cluster, 4, 4) >= 3;
    let mut fields: Vec<_> = V2.iter().map(|fixed| say(cluster, fixed)).collect();
    let mut end = V2_BYTES;
    if is_v3 {
        fields.extend(V3.iter().map(|fixed| say(cluster, fixed)));
        let length = number(cluster, V3_BYTES - 4, 4) as usize;
        end = length.clamp(V3_BYTES, cluster.len());
        fields.extend(optional_fields(cluster, end));
    }
    fields.extend(extensions::explain(cluster, end, header));
    fields.extend(backing_name(cluster));
    gapless(cluster, fields)
}

fn say(cluster: &[u8], (at, bytes, name, says): &Fixed) -> HeaderField {
    let (value, meaning) = says(number(cluster, *at, *bytes));
    HeaderField::new(*at..at + bytes, *name, value, meaning)
}

/// What a header has only if it is long enough.
fn optional_fields(cluster: &[u8], end: usize) -> Vec<HeaderField> {
    let mut fields = Vec::new();
    if end > V3_BYTES {
        let value = number(cluster, V3_BYTES, 1);
        let meaning = match value {
            0 => "compressed clusters are zlib (raw deflate)",
            1 => "compressed clusters are zstd",
            _ => "a compression nobody here knows",
        };
        let range = V3_BYTES..V3_BYTES + 1;
        fields.push(HeaderField::new(range, "compression_type", value.to_string(), meaning));
    }
    if end > V3_BYTES + 1 {
        let range = V3_BYTES + 1..end.min(PADDING_END);
        let meaning = "reserved, zeros in every header known so far";
        fields.push(HeaderField::new(range, "padding", "", meaning));
    }
    if end > PADDING_END {
        let meaning = "fields nobody here knows; writers keep them";
        fields.push(HeaderField::new(PADDING_END..end, "unknown fields", "", meaning));
    }
    fields
}

fn backing_name(cluster: &[u8]) -> Option<HeaderField> {
    let start = usize::try_from(number(cluster, offset_of!(RawHeaderV2, backing_file_offset), 8));
    let bytes = number(cluster, offset_of!(RawHeaderV2, backing_file_size), 4) as usize;
    let start = start.ok().filter(|start| *start > 0 && bytes > 0)?;
    let name = cluster.get(start..start.checked_add(bytes)?)?;
    let value = name.escape_ascii().to_string();
    let range = start..start + bytes;
    Some(HeaderField::new(range, "backing file name", value, "relative to the folder of the image"))
}

/// Puts the fields in order and names what lies between them. Where a crafted header makes two of
/// them overlap, the later one keeps what is left.
fn gapless(cluster: &[u8], mut fields: Vec<HeaderField>) -> Vec<HeaderField> {
    fields.sort_by_key(|field| field.range.start);
    let (mut all, mut end) = (Vec::new(), 0);
    for mut field in fields {
        field.range.start = field.range.start.max(end);
        if field.range.start >= field.range.end {
            continue;
        }
        all.extend(between(cluster, end..field.range.start));
        end = field.range.end;
        all.push(field);
    }
    all.extend(between(cluster, end..cluster.len() as u64));
    all
}

fn between(cluster: &[u8], range: Range<u64>) -> Option<HeaderField> {
    let bytes = &cluster[range.start as usize..range.end as usize];
    if bytes.is_empty() {
        return None;
    }
    let (name, meaning) = match bytes.iter().all(|byte| *byte == 0) {
        true => ("unused", "zeros"),
        false => ("unknown", "bytes that nothing points at"),
    };
    let (value, meaning) = (String::new(), meaning.into());
    Some(HeaderField { range, name: name.into(), value, meaning })
}
