//! What the bytes of a file look like, whatever somebody says they are.

mod vmdk;

use block_io::Storage;
use chain::Format;

use super::bounded::Bounded;
use super::finding::{FindingKind, Place, Role};
use super::{Audit, AuditError, Policy, reference};

/// What a program does with a file that starts so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Opens it as a disk image of a format of its own.
    Image,
    /// Unpacks it.
    Archive,
    /// Finds a disk there: what raw images hold.
    Disk,
}

/// Bytes by which a kind of content is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    /// What has it, with an article.
    pub name: &'static str,
    /// What is done with it.
    pub kind: Kind,
    at: At,
    bytes: &'static [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// So many bytes from the start.
    Start(usize),
    /// So many bytes from the end.
    End(usize),
}

impl Signature {
    const fn start(name: &'static str, kind: Kind, at: usize, bytes: &'static [u8]) -> Self {
        Self { name, kind, at: At::Start(at), bytes }
    }

    const fn end(name: &'static str, kind: Kind, at: usize, bytes: &'static [u8]) -> Self {
        Self { name, kind, at: At::End(at), bytes }
    }

    /// Whether it lies at the end of the file.
    pub(super) const fn is_tail(&self) -> bool {
        matches!(self.at, At::End(_))
    }
}

const QCOW2: Signature = Signature::start("a qcow2 image", Kind::Image, 0, b"QFI\xfb");
const VMDK_TEXT: Signature =
    Signature::start("a VMDK descriptor, which names other files", Kind::Image, 0, b"");

/// What is looked for, images first. Programs that guess look at these places.
const SIGNATURES: [Signature; 33] = [
    QCOW2,
    Signature::start("a QED image", Kind::Image, 0, b"QED\0"),
    Signature::start("a VMDK image", Kind::Image, 0, b"KDMV"),
    Signature::start("an old VMDK image", Kind::Image, 0, b"COWD"),
    Signature::start("a VMDK image of changes", Kind::Image, 0, b"\x0d\xd0\xad\xde"),
    Signature::start("a VHDX image", Kind::Image, 0, b"vhdxfile"),
    Signature::start("a VHD image", Kind::Image, 0, b"conectix"),
    Signature::end("a VHD image", Kind::Image, 512, b"conectix"),
    Signature::start("a VDI image", Kind::Image, 64, b"\x7f\x10\xda\xbe"),
    Signature::start("a Parallels image", Kind::Image, 0, b"WithoutFreeSpace"),
    Signature::start("a Parallels image", Kind::Image, 0, b"WithouFreSpacExt"),
    Signature::start("a Bochs image", Kind::Image, 0, b"Bochs Virtual HD Image"),
    Signature::start("a cloop image", Kind::Image, 0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
    Signature::end("a DMG image", Kind::Image, 512, b"koly"),
    Signature::start("an EWF image", Kind::Image, 0, b"EVF\x09\x0d\x0a\xff\0"),
    Signature::start("an AFF image", Kind::Image, 0, b"AFF10\r\n\0"),
    Signature::start("a gzip archive", Kind::Archive, 0, b"\x1f\x8b\x08"),
    Signature::start("an xz archive", Kind::Archive, 0, b"\xfd7zXZ\0"),
    Signature::start("a zstd archive", Kind::Archive, 0, b"\x28\xb5\x2f\xfd"),
    Signature::start("a bzip2 archive", Kind::Archive, 0, b"BZh"),
    Signature::start("an lz4 archive", Kind::Archive, 0, b"\x04\x22\x4d\x18"),
    Signature::start("a zip archive", Kind::Archive, 0, b"PK\x03\x04"),
    Signature::start("a 7z archive", Kind::Archive, 0, b"7z\xbc\xaf\x27\x1c"),
    Signature::start("a tar archive", Kind::Archive, 257, b"ustar"),
    Signature::start("a LUKS volume", Kind::Disk, 0, b"LUKS\xba\xbe"),
    Signature::start("a disk with a master boot record", Kind::Disk, 510, b"\x55\xaa"),
    Signature::start("a disk with a GPT", Kind::Disk, 512, b"EFI PART"),
    Signature::start("a disk with a GPT", Kind::Disk, 4096, b"EFI PART"),
    Signature::start("an ISO 9660 image", Kind::Disk, 0x8001, b"CD001"),
    Signature::start("an ext file system", Kind::Disk, 1080, b"\x53\xef"),
    Signature::start("an XFS file system", Kind::Disk, 0, b"XFSB"),
    Signature::start("a squashfs file system", Kind::Disk, 0, b"hsqs"),
    Signature::start("a Btrfs file system", Kind::Disk, 0x10040, b"_BHRfS_M"),
];

/// Bytes from the start that are looked at.
const HEAD_BYTES: u64 = 0x11000;
/// Bytes from the end that are looked at.
const TAIL_BYTES: u64 = 512;

/// Looks at the content, and compares it with what the format should be.
pub(super) fn look(
    audit: &mut Audit,
    storage: &Bounded,
    policy: &Policy,
) -> Result<(), AuditError> {
    let head = read(storage, 0, HEAD_BYTES)?;
    let tail = read(storage, audit.file_length.saturating_sub(TAIL_BYTES), TAIL_BYTES)?;
    audit.content = SIGNATURES.iter().filter(|known| known.is_in(&head, &tail)).copied().collect();
    let descriptor = vmdk::descriptor(storage, &head)?;
    if vmdk::is_descriptor(&head) {
        audit.content.push(VMDK_TEXT);
    }
    let allowed = match audit.format {
        Format::Raw => policy.raw,
        Format::Qcow2 => policy.qcow2,
    };
    if !allowed {
        audit.allow(false, None, FindingKind::Format { format: audit.format });
    }
    if audit.guessed {
        audit.allow(policy.guessed, None, FindingKind::Guessed { format: audit.format });
    }
    for signature in audit.content.clone() {
        compare(audit, signature, policy);
    }
    if audit.format == Format::Raw {
        for extent in vmdk::extents(&descriptor) {
            reference::tell(audit, Role::Extent, &extent, policy);
        }
    }
    Ok(())
}

/// Bytes of the file, as far as there are any.
fn read(storage: &dyn Storage, offset: u64, len: u64) -> Result<Vec<u8>, AuditError> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let found = storage.read_at(offset, &mut bytes)?;
    bytes.truncate(found);
    Ok(bytes)
}

fn compare(audit: &mut Audit, signature: Signature, policy: &Policy) {
    let at = Some(signature.place(audit.file_length));
    match (audit.format, signature.kind) {
        (Format::Raw, Kind::Disk) => {}
        (Format::Raw, _) => audit.allow(policy.disguised, at, FindingKind::Disguised { signature }),
        (Format::Qcow2, _) if signature == QCOW2 => {}
        // What a guest wrote may well lie at the end of the file.
        (Format::Qcow2, _) if signature.is_tail() => {
            audit.allow(true, at, FindingKind::Polyglot { signature });
        }
        // Two bytes are there by chance, in fields that need them.
        (Format::Qcow2, _) if signature.bytes.len() == 2 => {}
        (Format::Qcow2, _) => audit.allow(policy.polyglot, at, FindingKind::Polyglot { signature }),
    }
}

impl Signature {
    fn is_in(&self, head: &[u8], tail: &[u8]) -> bool {
        let found = match self.at {
            At::Start(at) => head.get(at..),
            At::End(at) => tail.len().checked_sub(at).and_then(|at| tail.get(at..)),
        };
        found.is_some_and(|bytes| bytes.starts_with(self.bytes))
    }

    fn place(&self, file_length: u64) -> Place {
        let len = self.bytes.len().max(1) as u64;
        match self.at {
            At::Start(at) => Place::new(at as u64, len),
            At::End(at) => Place::new(file_length.saturating_sub(at as u64), len),
        }
    }
}
