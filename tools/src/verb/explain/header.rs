//! `explain --header`: what every byte of the header says, and what the rest of the file holds.

use std::ffi::OsStr;
use std::fmt::Write;
use std::ops::Range;

use qimg::chain::Format;
use qimg::engine::Area;
use qimg::explain::{AreaKind, ExplainError, FileArea, FileExplanation, HeaderField, explain_file};
use qimg::io::{Lock, Locking, OpenOptions, Storage};
use serde::Serialize;

use crate::args::image::ImageArg;
use crate::args::output::Output;
use crate::args::source::SourceFlags;
use crate::failure::Failure;
use crate::open;
use crate::report::json::pretty;

/// Most stretches of the file that people are shown.
const AREAS_SHOWN: usize = 200;
/// Most bytes of a field that people are shown.
const BYTES_SHOWN: usize = 8;

/// The text of the answer.
///
/// # Errors
/// The file cannot be opened, or is not a qcow2 image.
pub(super) fn explain(
    source: &SourceFlags,
    file: &OsStr,
    output: Output,
) -> Result<String, Failure> {
    let image = source.image(file)?;
    let refuse =
        |reason: String| Failure::new(format!("Could not open '{}': {reason}", image.name));
    let (format, _) = open::format_of(&image).map_err(refuse)?;
    if format != Format::Qcow2 {
        return Err(Failure::new(format!("'{}' is raw: it has no header", image.name)));
    }
    let found = look(&image, source.force_share || image.force_share).map_err(refuse)?;
    match output {
        Output::Human => Ok(human(&image.name, &found)),
        Output::Json => Ok(format!("{}\n", pretty(&Answer::new(&image.name, &found))?)),
    }
}

fn look(image: &ImageArg, force_share: bool) -> Result<FileExplanation, String> {
    let words = |error| open::storage_words(&image.path, &error);
    let locking = if image.no_locks { Locking::Off } else { Locking::Auto };
    let storage = OpenOptions::new().locking(locking).open(&image.path).map_err(words)?;
    let lock = if force_share { Lock::shared_reader() } else { Lock::qcow2_reader() };
    storage.lock(lock).map_err(words)?;
    explain_file(&storage).map_err(|error| match error {
        ExplainError::Storage(error) => words(error),
        other => other.to_string(),
    })
}

/// Bytes of a field; none for long runs, where they say nothing.
fn bytes_of<'a>(found: &'a FileExplanation, field: &HeaderField) -> &'a [u8] {
    found.header.get(field.range.start as usize..field.range.end as usize).unwrap_or(&[])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn human(name: &str, found: &FileExplanation) -> String {
    let mut text = format!("header of '{name}'\n\n");
    text.push_str("offset  bytes  content           field                    says\n");
    for field in &found.fields {
        let bytes = bytes_of(found, field);
        let shown = bytes.get(..BYTES_SHOWN).unwrap_or(bytes);
        let content = match field.name.as_str() {
            "unused" => String::new(),
            _ if shown.len() < bytes.len() => format!("{}..", hex(&shown[..BYTES_SHOWN - 1])),
            _ => hex(shown),
        };
        let says = match (field.value.as_str(), field.meaning.as_str()) {
            ("", meaning) => meaning.to_owned(),
            (value, meaning) => format!("{value}: {meaning}"),
        };
        let (at, len) = (field.range.start, bytes.len());
        let _ = writeln!(text, "{at:>6}  {len:>5}  {content:<16}  {:<23}  {says}", field.name);
    }
    if let Some(fault) = &found.fault {
        let _ = write!(text, "\nnot acceptable: {fault}\n");
        return text;
    }
    let _ = write!(text, "\nfile of {} bytes\n\n", found.file_bytes);
    text.push_str("      offset         bytes  what\n");
    for area in found.areas.iter().take(AREAS_SHOWN) {
        let Range { start, end } = &area.range;
        let _ = writeln!(text, "{start:>#12x}  {:>#12x}  {}", end - start, label(area));
    }
    if let Some(more @ 1..) = found.areas.len().checked_sub(AREAS_SHOWN) {
        let _ = writeln!(text, "and {more} more stretches, which --output=json lists");
    }
    if !found.is_complete {
        text.push_str("too scattered to list: some guest data is among what is not reached\n");
    }
    if let Some(data_file) = &found.data_file {
        let name = if data_file.is_empty() { "a file the header does not name" } else { data_file };
        let _ = writeln!(text, "\nguest data: in {name}, at the offsets that the guest sees");
    }
    text
}

/// A stretch in words.
fn label(area: &FileArea) -> String {
    let count = area.count;
    let many = match area.kind {
        AreaKind::Structure(Area::RefcountBlock) if count > 1 => "refcount blocks",
        AreaKind::Structure(Area::L2Table) if count > 1 => "L2 tables",
        AreaKind::Structure(Area::Data) => "guest data, clusters",
        AreaKind::CompressedData => "compressed guest data, clusters",
        kind => return kind.to_string(),
    };
    format!("{many}: {count}")
}

/// The whole answer.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Answer<'a> {
    filename: &'a str,
    file_length: u64,
    cluster_size: usize,
    fields: Vec<Field<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    areas: Vec<Stretch>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_file: Option<&'a str>,
}

#[derive(Serialize)]
struct Field<'a> {
    offset: u64,
    length: u64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    value: &'a str,
    meaning: &'a str,
}

#[derive(Serialize)]
struct Stretch {
    offset: u64,
    length: u64,
    kind: &'static str,
    count: u64,
}

impl<'a> Answer<'a> {
    fn new(filename: &'a str, found: &'a FileExplanation) -> Self {
        let field = |field: &'a HeaderField| Field {
            offset: field.range.start,
            length: field.range.end - field.range.start,
            name: &field.name,
            bytes: (field.name != "unused").then(|| hex(bytes_of(found, field))),
            value: &field.value,
            meaning: &field.meaning,
        };
        let stretch = |area: &FileArea| Stretch {
            offset: area.range.start,
            length: area.range.end - area.range.start,
            kind: kind(area.kind),
            count: area.count,
        };
        Self {
            filename,
            file_length: found.file_bytes,
            cluster_size: found.header.len(),
            fields: found.fields.iter().map(field).collect(),
            fault: found.fault.as_ref().map(ToString::to_string),
            areas: found.areas.iter().map(stretch).collect(),
            complete: found.is_complete,
            data_file: found.data_file.as_deref(),
        }
    }
}

/// The name for programs.
fn kind(kind: AreaKind) -> &'static str {
    match kind {
        AreaKind::Structure(area) => match area {
            Area::Header => "header",
            Area::L1Table => "l1-table",
            Area::L2Table => "l2-table",
            Area::RefcountTable => "refcount-table",
            Area::RefcountBlock => "refcount-block",
            Area::SnapshotTable => "snapshot-table",
            Area::BitmapDirectory => "bitmap-directory",
            Area::EncryptionHeader => "encryption-header",
            Area::Data => "data",
            _ => "other",
        },
        AreaKind::CompressedData => "compressed-data",
        AreaKind::Several => "claimed-more-than-once",
        _ => "not-reached",
    }
}
