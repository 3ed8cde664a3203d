//! Names of other files: where they lead, and whether they may.

use std::path::Path;

use super::finding::{Danger, FindingKind, Role, Severity};
use super::outline::{Name, Outline};
use super::{Audit, Policy, Reach};

/// Incompatible feature bit of images whose guest data lie in another file.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// Looks at what the header names. Nothing is opened.
pub(super) fn look(audit: &mut Audit, outline: &Outline, policy: &Policy) {
    if let Some(name) = &outline.backing {
        tell(audit, Role::BackingFile, name, policy);
        backing_format(audit, outline, policy);
    }
    for name in &outline.data_files {
        tell(audit, Role::DataFile, name, policy);
    }
    let needs_data_file = outline.incompatible & EXTERNAL_DATA_FILE != 0;
    if needs_data_file && outline.data_files.is_empty() {
        audit.allow(policy.data_file != Reach::No, None, FindingKind::DataFileUnnamed);
    }
    // Which of them counts, programs may disagree about.
    for (role, names) in
        [(Role::BackingFile, &outline.backing_formats), (Role::DataFile, &outline.data_files)]
    {
        if let [_, second, ..] = &names[..] {
            audit.add(Severity::Refused, Some(second.at), FindingKind::ExtensionTwice { role });
        }
    }
}

fn backing_format(audit: &mut Audit, outline: &Outline, policy: &Policy) {
    if outline.backing_formats.is_empty() {
        audit.allow(policy.unnamed_format, None, FindingKind::BackingFormatMissing);
    }
    for format in &outline.backing_formats {
        let name = String::from_utf8_lossy(&format.bytes).into_owned();
        if !matches!(&*name, "raw" | "qcow2") {
            audit.allow(policy.other_formats, Some(format.at), FindingKind::BackingFormat { name });
        }
    }
}

/// Tells of a name.
pub(super) fn tell(audit: &mut Audit, role: Role, name: &Name, policy: &Policy) {
    let allowed = match role {
        Role::BackingFile => policy.backing_file,
        Role::DataFile => policy.data_file,
        Role::Extent => Reach::No,
    };
    let danger = danger(&audit.path, name);
    let may = match &danger {
        _ if role == Role::Extent => policy.disguised,
        Danger::NotText | Danger::Itself => false,
        Danger::Protocol(_) => policy.protocols,
        Danger::Absolute | Danger::Up => allowed >= Reach::Any,
        Danger::Below => allowed >= Reach::Below,
        Danger::Beside => allowed >= Reach::Beside,
    };
    let name_text = String::from_utf8_lossy(&name.bytes).into_owned();
    let kind = FindingKind::Reference { role, name: name_text, danger, allowed };
    audit.allow(may, Some(name.at), kind);
}

/// Where a name leads, by its text alone.
fn danger(image: &Path, name: &Name) -> Danger {
    let Ok(text) = core::str::from_utf8(&name.bytes) else { return Danger::NotText };
    if let Some((protocol, _)) = text.split_once(':').filter(|(before, _)| !before.contains('/')) {
        return Danger::Protocol(protocol.to_owned());
    }
    if text.starts_with('/') {
        let is_image = Path::new(text) == image;
        return if is_image { Danger::Itself } else { Danger::Absolute };
    }
    if text.split('/').any(|part| part == "..") {
        return Danger::Up;
    }
    let mut parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    match (parts.next(), parts.next()) {
        (Some(file), None) if image.file_name().is_some_and(|image| image == file) => {
            Danger::Itself
        }
        (_, None) => Danger::Beside,
        (_, Some(_)) => Danger::Below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Place;

    #[test]
    fn names_lead_where_they_say() {
        let protocol = |name: &str| Danger::Protocol(name.to_owned());
        let table = [
            ("base.raw", Danger::Beside),
            ("./base.raw", Danger::Beside),
            ("sub/base.raw", Danger::Below),
            ("sub/..", Danger::Up),
            ("../base.raw", Danger::Up),
            ("a..b", Danger::Beside),
            ("/etc/passwd", Danger::Absolute),
            ("/images/top.qcow2", Danger::Itself),
            (".//top.qcow2", Danger::Itself),
            ("json:{\"driver\":\"raw\"}", protocol("json")),
            ("nbd://host/disk", protocol("nbd")),
            ("file:base.raw", protocol("file")),
            ("./a:b", Danger::Beside),
        ];
        for (text, danger) in table {
            let name = Name { bytes: text.as_bytes().to_vec(), at: Place::new(0, 0) };
            assert_eq!(super::danger(Path::new("/images/top.qcow2"), &name), danger, "{text}");
        }
        let name = Name { bytes: vec![0xff], at: Place::new(0, 0) };
        assert_eq!(super::danger(Path::new("x"), &name), Danger::NotText);
    }
}
