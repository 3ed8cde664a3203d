//! Hashes for people and for programs, written as they become known: disks are larger than memory.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write};

use qimg::hash::{BLOCK_BYTES, CONSTRUCTION, RangeBytes};
use serde_json::{Value, json};

use super::earlier::Answer;
use super::{Args, examine};
use crate::failure::Failure;
use crate::report::json::pretty;

/// Lines as `sha256sum` prints them; before the hash of an image those of its ranges, if asked for.
pub(super) struct Text<'a, W> {
    pub(super) out: &'a mut W,
}

impl<W: Write> Text<'_, W> {
    pub(super) fn image(
        &mut self,
        args: &Args,
        file: &OsStr,
        ranges: Option<RangeBytes>,
    ) -> Result<(), Failure> {
        let len = ranges.map_or(0, RangeBytes::get);
        let out = &mut *self.out;
        let (name, hashed) = examine(args, file, ranges, &mut |range| {
            writeln!(out, "{}  {:#x}+{len:#x}", range.hash, range.start)
        })?;
        // A name must not look like another line.
        let name: String = name.chars().flat_map(printable).collect();
        writeln!(self.out, "{}  {name}", hashed.hash)?;
        Ok(self.out.flush()?)
    }
}

fn printable(char: char) -> impl Iterator<Item = char> {
    let escaped = char.is_control().then(|| char.escape_default());
    let plain = escaped.is_none().then_some(char);
    escaped.into_iter().flatten().chain(plain)
}

/// An array with an object for each image.
pub(super) struct Json<'a, W> {
    pub(super) out: &'a mut W,
    pub(super) first: bool,
}

impl<W: Write> Json<'_, W> {
    pub(super) fn begin(&mut self) -> io::Result<()> {
        write!(self.out, "[")
    }

    pub(super) fn image(
        &mut self,
        args: &Args,
        file: &OsStr,
        ranges: Option<RangeBytes>,
    ) -> Result<(), Failure> {
        let separator = if self.first { "" } else { "," };
        self.first = false;
        let out = &mut *self.out;
        writeln!(out, "{separator}\n    {{")?;
        member(out, "construction", &CONSTRUCTION.into())?;
        member(out, "block-bytes", &BLOCK_BYTES.into())?;
        if let Some(ranges) = ranges {
            member(out, "range-bytes", &ranges.get().into())?;
            member(out, "zero-range-hash", &ranges.zeros().to_string().into())?;
            write!(out, "        \"ranges\": [")?;
        }
        let mut comma = "";
        let (name, hashed) = examine(args, file, ranges, &mut |range| {
            let before = std::mem::replace(&mut comma, ",");
            let (start, hash) = (range.start, range.hash);
            write!(out, "{before}\n            {{ \"start\": {start}, \"hash\": \"{hash}\" }}")
        })?;
        if ranges.is_some() {
            writeln!(out, "\n        ],")?;
        }
        member(out, "filename", &name.into())?;
        member(out, "virtual-size", &hashed.virtual_size.into())?;
        member(out, "bytes-read", &hashed.bytes_read.into())?;
        member(out, "content", &hashed.content.to_string().into())?;
        write!(out, "        \"hash\": \"{}\"\n    }}", hashed.hash)?;
        Ok(())
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        writeln!(self.out, "\n]")
    }
}

fn member(out: &mut impl Write, name: &str, value: &Value) -> io::Result<()> {
    writeln!(out, "        \"{name}\": {},", pretty(value)?)
}

/// What changed, for people.
pub(super) fn changes(name: &str, answer: &Answer) -> String {
    let mut text = String::new();
    for (start, end) in &answer.different {
        let _ = writeln!(text, "differs: {start:#x}+{:#x}", end - start);
    }
    if answer.size_before != answer.now.virtual_size {
        let (before, now) = (answer.size_before, answer.now.virtual_size);
        let _ = writeln!(text, "differs: size of the disk, {before} before, {now} now");
    }
    let name: String = name.chars().flat_map(printable).collect();
    text.push_str(&match (answer.is_same(), answer.has_ranges) {
        (true, _) => format!("{name} is the same\n"),
        (false, true) => format!("{name} is different\n"),
        (false, false) => format!("{name} is different (where, --ranges would have told)\n"),
    });
    text
}

/// What changed, for programs.
pub(super) fn answer(name: &str, answer: &Answer) -> Value {
    let different = answer.different.iter();
    let different: Vec<Value> =
        different.map(|(start, end)| json!({ "start": start, "length": end - start })).collect();
    let mut object = json!({
        "filename": name,
        "same": answer.is_same(),
        "hash-before": answer.before.to_string(),
        "hash": answer.now.hash.to_string(),
        "virtual-size-before": answer.size_before,
        "virtual-size": answer.now.virtual_size,
    });
    if answer.has_ranges {
        object["different"] = different.into();
    }
    object
}
