//! `info` for people.

use std::fmt::Write;

use qimg::info::{BitmapInfo, EncryptionInfo, Info, Qcow2Info};

use super::Described;
use crate::report::{bytes, snapshots};

/// Renders one image.
pub(super) fn render(image: &Described) -> String {
    let info = &image.info;
    let mut text = format!(
        "image: {}\nfile format: {}\nvirtual size: {}\ndisk size: {}\n",
        image.name(),
        info.format,
        exact(info.virtual_size),
        bytes::human(info.disk_size),
    );
    if let Some(qcow2) = &info.qcow2 {
        text.push_str(&common(image, qcow2));
    }
    text.push_str(&format_specific(info));
    let file_length = info.file_length.next_multiple_of(512);
    let _ = write!(
        text,
        "Child node '/file':\n    filename: {}\n    protocol type: file\n    file length: {}\n    \
         disk size: {}\n",
        image.name(),
        exact(file_length),
        bytes::human(info.disk_size),
    );
    text
}

fn exact(size: u64) -> String {
    format!("{} ({size} bytes)", bytes::human(size))
}

/// Lines that any format could have, of which only qcow2 does.
fn common(image: &Described, qcow2: &Qcow2Info) -> String {
    let mut text = String::new();
    if qcow2.encryption.is_some() {
        text.push_str("encrypted: yes\n");
    }
    let _ = writeln!(text, "cluster_size: {}", qcow2.cluster_size);
    if qcow2.dirty {
        text.push_str("cleanly shut down: no\n");
    }
    if let Some(name) = &qcow2.backing_name {
        let path = image.backing_path.as_ref().map(|path| path.to_string_lossy());
        let actual = match path {
            Some(path) if path != name.as_str() => format!(" (actual path: {path})"),
            _ => String::new(),
        };
        let _ = writeln!(text, "backing file: {name}{actual}");
        if let Some(format) = &qcow2.backing_format {
            let _ = writeln!(text, "backing file format: {format}");
        }
    }
    if !qcow2.snapshots.is_empty() {
        let _ = write!(text, "Snapshot list:\n{}", snapshots::table(&qcow2.snapshots));
    }
    text
}

/// The block "Format specific information"; empty for raw images.
#[must_use]
pub fn format_specific(info: &Info) -> String {
    let Some(qcow2) = &info.qcow2 else { return String::new() };
    let mut lines = vec![
        format!("compat: {}", if qcow2.version == 2 { "0.10" } else { "1.1" }),
        format!("compression type: {}", super::json::compression(qcow2)),
    ];
    if qcow2.version > 2 {
        lines.push(format!("lazy refcounts: {}", qcow2.lazy_refcounts));
    }
    if !qcow2.bitmaps.is_empty() {
        lines.push("bitmaps:".into());
        lines.extend(qcow2.bitmaps.iter().enumerate().flat_map(bitmap));
    }
    lines.push(format!("refcount bits: {}", qcow2.refcount_bits));
    if let Some(encryption) = qcow2.encryption {
        let name = match encryption {
            EncryptionInfo::Aes => "aes",
            EncryptionInfo::Luks => "luks",
        };
        lines.extend(["encrypt:".into(), format!("    format: {name}")]);
    }
    if let Some(name) = &qcow2.data_file {
        lines.extend([
            format!("data file: {name}"),
            format!("data file raw: {}", qcow2.data_file_raw),
        ]);
    }
    if qcow2.version > 2 {
        lines.push(format!("corrupt: {}", qcow2.corrupt));
        lines.push(format!("extended l2: {}", qcow2.extended_l2));
    }
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!("Format specific information:\n{lines}")
}

fn bitmap((index, bitmap): (usize, &BitmapInfo)) -> Vec<String> {
    let mut lines = vec![format!("    [{index}]:"), "        flags:".into()];
    let flags = super::json::flags(bitmap);
    lines.extend(flags.iter().enumerate().map(|(at, flag)| format!("            [{at}]: {flag}")));
    lines.push(format!("        name: {}", bitmap.name));
    lines.push(format!("        granularity: {}", bitmap.granularity));
    lines
}
