//! Guessing a format from the first bytes of a file.
//!
//! Content is under the control of whoever wrote it: a guest can write a qcow2 header into a raw
//! disk. Only guess for files whose content is trusted, and never for backing files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use chain::Format;

/// Bytes that are looked at.
const HEAD_BYTES: u64 = 8;

/// Guesses the format of a file.
///
/// # Errors
/// The file is not there, is neither a regular file nor a block device, or cannot be read.
pub fn probe(path: &Path) -> io::Result<Format> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        // Reading from a pipe or terminal would wait for somebody.
        let text = "neither a regular file nor a block device";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(Format::probe(&head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (head, format) in [
            (&b"QFI\xfb\0\0\0\x03 and more"[..], Format::Qcow2),
            (b"QFI\xfa", Format::Raw),
            (b"QFI", Format::Raw),
            (b"", Format::Raw),
        ] {
            fs::write(&path, head).unwrap();
            assert_eq!(probe(&path).unwrap(), format);
        }
        assert_eq!(probe(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(probe(&path.join("y")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
