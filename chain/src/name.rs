//! Names of backing files as they stand in headers, and the paths they mean.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::operation::Refusal;

/// The path that a backing file name in the header of the image at `overlay` means.
///
/// Absolute names stand for themselves; others are relative to the folder of `overlay` as given,
/// symbolic links not followed, as QEMU does. A name with a colon before its first slash has a
/// protocol; of these only `file:` is local, and it is relative to the current folder.
///
/// # Errors
/// A `json:` name or one with another protocol.
pub fn resolve(overlay: &Path, name: &str) -> Result<PathBuf> {
    match protocol(name) {
        None if name.starts_with('/') => Ok(PathBuf::from(name)),
        None => Ok(overlay.parent().unwrap_or(Path::new("")).join(name)),
        Some("file") => Ok(PathBuf::from(name.get("file:".len()..).unwrap_or_default())),
        Some(protocol) => Err(Error::Protocol {
            layer: overlay.to_owned(),
            name: name.to_owned(),
            protocol: protocol.to_owned(),
        }),
    }
}

/// The name by which the header of the image at `overlay` can name `file`: relative where the file
/// lies in the folder of the overlay or below it, absolute elsewhere.
///
/// # Errors
/// The path is not UTF-8, or the current folder is not known.
pub fn of_file(overlay: &Path, file: &Path) -> Result<String> {
    let refuse = || Error::Refused(Refusal::Name { path: file.to_owned() });
    let folder = overlay.parent().unwrap_or(Path::new(""));
    let name = match file.strip_prefix(folder) {
        // `strip_prefix` of an empty folder also fits paths that leave it.
        Ok(inside) if !inside.is_absolute() && !inside.starts_with("..") => inside.to_owned(),
        _ => std::path::absolute(file).map_err(|_| refuse())?,
    };
    let name = name.to_str().ok_or_else(refuse)?;
    Ok(if protocol(name).is_some() { format!("./{name}") } else { name.to_owned() })
}

/// What stands before a colon that comes before any slash.
fn protocol(name: &str) -> Option<&str> {
    let (before, _) = name.split_once(':')?;
    (!before.contains('/')).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(overlay: &str, name: &str) -> Option<String> {
        Some(resolve(Path::new(overlay), name).ok()?.display().to_string())
    }

    #[test]
    fn names_resolve_beside_the_overlay_as_given() {
        assert_eq!(path("dir/top.qcow2", "base.raw").unwrap(), "dir/base.raw");
        assert_eq!(path("top.qcow2", "base.raw").unwrap(), "base.raw");
        assert_eq!(path("dir/top.qcow2", "/abs/base.raw").unwrap(), "/abs/base.raw");
        assert_eq!(path("dir/top.qcow2", "../base.raw").unwrap(), "dir/../base.raw");
        assert_eq!(path("dir/top.qcow2", "./a:b.raw").unwrap(), "dir/./a:b.raw");
        assert_eq!(path("dir/top.qcow2", "sub/a:b.raw").unwrap(), "dir/sub/a:b.raw");
        assert_eq!(path("dir/top.qcow2", "file:base.raw").unwrap(), "base.raw");
    }

    #[test]
    fn names_for_headers_lead_back_to_the_file() {
        let name =
            |overlay: &str, file: &str| of_file(Path::new(overlay), Path::new(file)).unwrap();
        assert_eq!(name("top.qcow2", "base.raw"), "base.raw");
        assert_eq!(name("dir/top.qcow2", "dir/base.raw"), "base.raw");
        assert_eq!(name("dir/top.qcow2", "dir/sub/base.raw"), "sub/base.raw");
        assert_eq!(name("/a/top.qcow2", "/a/b:c.raw"), "./b:c.raw");
        assert_eq!(name("/a/top.qcow2", "/b/base.raw"), "/b/base.raw");
        for (overlay, file) in [("dir/top.qcow2", "base.raw"), ("top.qcow2", "../base.raw")] {
            assert!(Path::new(&name(overlay, file)).is_absolute());
        }
    }

    #[test]
    fn protocols_are_refused() {
        for name in ["json:{}", "nbd://host/disk", "a:b.raw", "raw:x", "http://host/x"] {
            assert_eq!(path("dir/top.qcow2", name), None, "{name}");
        }
    }
}
