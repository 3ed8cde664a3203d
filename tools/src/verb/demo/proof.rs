//! The proof: every layer is consistent and shows exactly the bytes that were written.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions};
use qimg::check::{CheckOptions, check};
use qimg::convert::{ConvertOptions, convert};
use qimg::create::{CreateOptions, create};

use super::base::Base;
use super::history::History;
use super::{open, tool};
use crate::failure::Failure;
use crate::report::bytes;

/// Bytes compared at a time.
const STEP: usize = 4 << 20;

/// Proves it, step by step; returns the line that says what was proven.
pub(super) fn prove(
    out: &mut impl Write,
    folder: &Path,
    base: &Base,
    tops: &[PathBuf],
    history: &History<'_>,
) -> Result<String, Failure> {
    let mut disk = base.bytes.clone();
    if fs::read(folder.join("base.raw")).ok().as_ref() != Some(&disk) {
        return Err(Failure::new("base.raw has changed under its overlays"));
    }
    writeln!(out, "base.raw: unchanged, {}", bytes::human(base.size()))?;
    for (overlay, path) in tops.iter().enumerate() {
        history.replay(overlay, &mut disk);
        consistent(path)?;
        let chain = open(path, true)?;
        same_bytes(&chain, &disk, path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(out, "{name}: check finds no error and no leak, all bytes are as written")?;
    }
    let mut witnesses = Vec::new();
    let top = &tops[tops.len() - 1];
    let flat = flatten(folder, top, base.size())?;
    if fs::read(&flat).ok().as_ref() != Some(&disk) {
        return Err(Failure::new("the flattened chain differs from what was written"));
    }
    writeln!(out, "flat.raw: converted from the whole chain, all bytes are as written")?;
    witnesses.extend(ask_qemu(out, tops, &flat)?);
    witnesses.extend(ask_e2fsck(out, base, &flat)?);
    Ok(format!(
        "Proven: {} writes ({}) through 3 overlays read back byte for byte at every layer, in a \
         disk of {}; base untouched; every layer consistent{}.",
        history.writes(),
        bytes::human(history.bytes()),
        bytes::human(base.size()),
        witnesses.iter().map(|witness| format!("; {witness}")).collect::<String>(),
    ))
}

fn consistent(path: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("'{}' cannot be checked: {error}", path.display()))
    };
    let storage = qimg::io::OpenOptions::new().open(path).map_err(|error| failed(&error))?;
    let report = check(&storage, CheckOptions::default()).map_err(|error| failed(&error))?;
    match report.findings.first() {
        None if report.outcome().exit_code() == 0 => Ok(()),
        finding => Err(Failure::new(format!(
            "'{}' is not consistent: {}",
            path.display(),
            finding.map_or_else(String::new, ToString::to_string)
        ))),
    }
}

fn same_bytes(chain: &Chain, disk: &[u8], path: &Path) -> Result<(), Failure> {
    let mut buffer = vec![0; STEP];
    for (index, expected) in disk.chunks(STEP).enumerate() {
        let start = index * STEP;
        let found = &mut buffer[..expected.len()];
        chain.read_at(start as u64, found).map_err(|error| Failure::new(error.to_string()))?;
        if let Some(at) = found.iter().zip(expected).position(|(found, expected)| found != expected)
        {
            return Err(Failure::new(format!(
                "'{}' differs from what was written at guest offset {}",
                path.display(),
                start + at
            )));
        }
    }
    Ok(())
}

fn flatten(folder: &Path, top: &Path, size: u64) -> Result<PathBuf, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("the chain cannot be flattened: {error}"))
    };
    let flat = folder.join("flat.raw");
    create(&flat, &CreateOptions::new(Format::Raw, size)).map_err(|error| failed(&error))?;
    let target = Chain::open(&flat, &OpenOptions::new().format(Format::Raw))
        .map_err(|error| failed(&error))?;
    let options =
        ConvertOptions { out_of_order: true, target_is_zero: true, ..ConvertOptions::default() };
    convert(&[open(top, true)?], &target, &options, &|_| {}).map_err(|error| failed(&error))?;
    target.close().map_err(|error| failed(&error))?;
    Ok(flat)
}

/// A second opinion, where the real tool is there.
fn ask_qemu(
    out: &mut impl Write,
    tops: &[PathBuf],
    flat: &Path,
) -> Result<Option<&'static str>, Failure> {
    for path in tops {
        let words = ["check", "-q", "-f", "qcow2"].map(OsStr::new);
        match tool::succeeds("qemu-img", words.into_iter().chain([path.as_os_str()])) {
            None => return Ok(None),
            Some(true) => {}
            Some(false) => {
                return Err(Failure::new(format!("qemu-img check rejects '{}'", path.display())));
            }
        }
    }
    let words = ["compare", "-q", "-f", "qcow2", "-F", "raw"].map(OsStr::new);
    let images = [tops[tops.len() - 1].as_os_str(), flat.as_os_str()];
    if tool::succeeds("qemu-img", words.into_iter().chain(images)) != Some(true) {
        return Err(Failure::new("qemu-img compare sees other bytes in the chain"));
    }
    writeln!(out, "qemu-img: finds every layer clean and sees the same bytes")?;
    Ok(Some("qemu-img agrees"))
}

/// The file system must have survived: only the content of one file was changed.
fn ask_e2fsck(
    out: &mut impl Write,
    base: &Base,
    flat: &Path,
) -> Result<Option<&'static str>, Failure> {
    if !base.file_system {
        return Ok(None);
    }
    let words = [OsStr::new("-fn"), flat.as_os_str()];
    match tool::succeeds("e2fsck", words) {
        None => Ok(None),
        Some(true) => {
            writeln!(out, "e2fsck: the file system that the top shows is clean")?;
            Ok(Some("the file system on top is clean"))
        }
        Some(false) => Err(Failure::new("e2fsck rejects the file system that the top shows")),
    }
}
