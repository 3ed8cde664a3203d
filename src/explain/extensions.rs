//! The header extensions: head, data and padding of each.

use qcow2_format::{Extension, FeatureKind, FeatureNameTable, Header, RawFeatureRow, RawHeaderV2};

use super::fields::{HeaderField, number};

/// Bytes of the head of an extension: what it is, and the length of its data.
const HEAD_BYTES: usize = 8;

/// Explains the extensions from `start` up to the end marker, the backing file name or the end of
/// the cluster.
pub(super) fn explain(cluster: &[u8], start: usize, header: Option<&Header>) -> Vec<HeaderField> {
    let backing = number(cluster, core::mem::offset_of!(RawHeaderV2, backing_file_offset), 8);
    let backing = usize::try_from(backing).unwrap_or(usize::MAX);
    let end = if backing == 0 { cluster.len() } else { backing.min(cluster.len()) };
    let mut known = header.into_iter().flat_map(Header::extensions);
    let (mut fields, mut at) = (Vec::new(), start);
    while at + HEAD_BYTES <= end {
        let (magic, length) = (number(cluster, at, 4) as u32, number(cluster, at + 4, 4) as usize);
        let data = at + HEAD_BYTES;
        if magic == 0 {
            let meaning = "behind it there are no more extensions";
            fields.push(HeaderField::new(at..data, "end of extensions", "0x0", meaning));
            break;
        }
        let Some(data_end) = data.checked_add(length).filter(|data_end| *data_end <= end) else {
            break; // the rest is bytes that nobody can make sense of
        };
        let extension = known.next();
        let value = format!("{magic:#010x}, {length} bytes");
        let name = extension.map_or("unknown", name);
        fields.push(HeaderField::new(at..data, "extension", value, name));
        fields.extend(explain_data(cluster, data..data_end, extension));
        at = data_end.next_multiple_of(HEAD_BYTES).min(end);
        if data_end < at {
            let meaning = "up to a multiple of 8";
            fields.push(HeaderField::new(data_end..at, "padding", "", meaning));
        }
    }
    fields
}

fn name(extension: &Extension) -> &'static str {
    match extension {
        Extension::BackingFormat(_) => "format of the backing file",
        Extension::DataFileName(_) => "name of the external data file",
        Extension::Luks(_) => "where the LUKS header lies",
        Extension::FeatureNames(_) => "names of feature bits",
        Extension::Bitmaps(_) => "where the bitmap directory lies",
        Extension::BasePin(_) => "what the overlay remembers of its backing file",
        _ => "nobody here knows it; writers keep it",
    }
}

fn explain_data(
    cluster: &[u8],
    range: core::ops::Range<usize>,
    extension: Option<&Extension>,
) -> Vec<HeaderField> {
    let Some(data) = cluster.get(range.clone()).filter(|data| !data.is_empty()) else {
        return Vec::new();
    };
    let (value, meaning) = match extension {
        Some(Extension::BackingFormat(_)) => (data.escape_ascii().to_string(), "the format"),
        Some(Extension::DataFileName(_)) => {
            (data.escape_ascii().to_string(), "relative to the folder of whoever opens it")
        }
        Some(Extension::FeatureNames(table)) => return feature_names(range.start, table),
        Some(Extension::Luks(luks)) => {
            (format!("{}", luks.offset), "its offset; its length follows")
        }
        Some(Extension::Bitmaps(bitmaps)) => {
            let value = format!("{} bitmaps at {}", bitmaps.count(), bitmaps.directory_offset());
            (value, "count, zeros, length and offset of the directory")
        }
        Some(Extension::BasePin(pin)) => {
            let value = format!("{} bytes, mark {:032x}", pin.file_bytes, pin.mark);
            (value, "length and content mark; sizes, time and inode beside them")
        }
        _ => (String::new(), "data of the extension"),
    };
    vec![HeaderField::new(range, "data", value, meaning)]
}

/// One field per row of the table.
fn feature_names(start: usize, table: &FeatureNameTable) -> Vec<HeaderField> {
    let row_bytes = size_of::<RawFeatureRow>();
    let row = |(index, row): (usize, RawFeatureRow)| {
        let kind = match row.feature_kind() {
            FeatureKind::Incompatible => "incompatible",
            FeatureKind::Compatible => "compatible",
            FeatureKind::Autoclear => "autoclear",
            _ => "unknown",
        };
        let at = start + index * row_bytes;
        let (value, meaning) = (row.name.to_string(), format!("{kind} bit {}", row.bit));
        HeaderField::new(at..at + row_bytes, "feature name", value, meaning)
    };
    table.rows().enumerate().map(row).collect()
}
