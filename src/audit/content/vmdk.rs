//! VMDK descriptors: text that names the files in which a disk lies, any files of the host.

use block_io::Storage;

use crate::audit::AuditError;
use crate::audit::finding::Place;
use crate::audit::outline::Name;

/// Bytes of a descriptor that are looked at.
const DESCRIPTOR_BYTES: u64 = 64 << 10;
/// Extents that are told.
const EXTENTS_MAX: usize = 256;

/// A descriptor and where it starts in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Descriptor {
    offset: u64,
    bytes: Vec<u8>,
}

/// Whether the bytes are a descriptor, as programs that guess see it: comments and empty lines, then a
/// version.
pub(super) fn is_descriptor(head: &[u8]) -> bool {
    if !head.starts_with(b"#") {
        return false;
    }
    let lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let mut rest = lines.skip_while(|line| line.is_empty() || line.starts_with(b"#"));
    rest.next().is_some_and(|line| line.starts_with(b"version="))
}

/// The descriptor of the file: the file itself, or what the header of a VMDK image points at.
pub(super) fn descriptor(storage: &dyn Storage, head: &[u8]) -> Result<Descriptor, AuditError> {
    if is_descriptor(head) {
        let end = head.len().min(DESCRIPTOR_BYTES as usize);
        return Ok(Descriptor { offset: 0, bytes: head[..end].to_vec() });
    }
    let number = |at: usize| {
        let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    // Both in sectors.
    let (offset, len) = (number(28).saturating_mul(512), number(36).saturating_mul(512));
    if !head.starts_with(b"KDMV") || offset == 0 || i64::try_from(offset).is_err() {
        return Ok(Descriptor::default());
    }
    Ok(Descriptor { offset, bytes: super::read(storage, offset, len.min(DESCRIPTOR_BYTES))? })
}

/// Names of extents: `RW 4192256 FLAT "name" 0`.
pub(super) fn extents(descriptor: &Descriptor) -> Vec<Name> {
    let mut names = Vec::new();
    let mut at = 0;
    for line in descriptor.bytes.split(|&byte| byte == b'\n') {
        let is_extent = [&b"RW "[..], b"RDONLY ", b"NOACCESS "]
            .iter()
            .any(|access| line.trim_ascii_start().starts_with(access));
        let start = line.iter().position(|&byte| byte == b'"').map(|quote| quote + 1);
        if let Some(start) = start.filter(|_| is_extent && names.len() < EXTENTS_MAX) {
            let name = line[start..].split(|&byte| byte == b'"').next().unwrap_or_default();
            let place = Place::new(descriptor.offset + (at + start) as u64, name.len() as u64);
            names.push(Name { bytes: name.to_vec(), at: place });
        }
        at += line.len() + 1;
    }
    names
}
