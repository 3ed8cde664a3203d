//! One change of a disk, carried out by us, by the real tools, or on the model.

use std::path::Path;

use chain::Chain;
use testkit::{Folder, ModelDisk, Pattern, Qemu, Rng};

/// One change of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    /// What the range reads as afterwards.
    pub(crate) bytes: Vec<u8>,
}

/// How a range changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    Compressed,
    Zero { unmap: bool },
}

impl Operation {
    pub(crate) fn write(offset: u64, len: u64, seed: u64) -> Self {
        let bytes = Pattern::new(seed).bytes(offset, len as usize);
        Self { kind: Kind::Write, offset, bytes }
    }

    pub(crate) fn compressed(offset: u64, len: u64, seed: u64) -> Self {
        Self { kind: Kind::Compressed, offset, bytes: compressible(seed, offset, len as usize) }
    }

    pub(crate) fn zero(offset: u64, len: u64, unmap: bool) -> Self {
        Self { kind: Kind::Zero { unmap }, offset, bytes: vec![0; len as usize] }
    }

    /// A write or zero write anywhere on a disk; lengths from one byte to a few clusters.
    pub(crate) fn anywhere(rng: &mut Rng, size: u64, cluster: u64) -> Self {
        let (offset, len) = range(rng, size, cluster);
        match rng.below(6) {
            0 => Self::zero(offset, len, false),
            1 => Self::zero(offset, len, true),
            _ => Self::write(offset, len, rng.next_u64()),
        }
    }

    pub(crate) fn on_model(&self, model: &mut ModelDisk) {
        model.write(self.offset, &self.bytes);
    }

    pub(crate) fn on_chain(&self, chain: &Chain) {
        let len = self.bytes.len() as u64;
        match self.kind {
            Kind::Write => chain.write_at(self.offset, &self.bytes).unwrap(),
            Kind::Zero { unmap } => chain.write_zeroes_at(self.offset, len, unmap).unwrap(),
            Kind::Compressed => {
                let image = chain.top().image().unwrap();
                let mut compressor = image.compressor().unwrap();
                image.write_compressed_at(&mut compressor, self.offset, &self.bytes).unwrap();
            }
        }
    }

    fn command(&self, folder: &Folder, number: usize) -> String {
        let (offset, len) = (self.offset, self.bytes.len());
        match self.kind {
            Kind::Zero { unmap: false } => format!("write -z {offset} {len}"),
            Kind::Zero { unmap: true } => format!("write -z -u {offset} {len}"),
            Kind::Write | Kind::Compressed => {
                let flag = if self.kind == Kind::Compressed { "-c " } else { "" };
                let content = folder.write(format!("content-{number}"), &self.bytes);
                format!("write {flag}-s {} {offset} {len}", content.display())
            }
        }
    }
}

/// Has `qemu-io` carry out all `operations`, each of which must succeed.
pub(crate) fn by_qemu(folder: &Folder, format: &str, path: &Path, operations: &[Operation]) {
    let mut args = vec!["-f".to_owned(), format.to_owned()];
    for (number, operation) in operations.iter().enumerate() {
        args.extend(["-c".to_owned(), operation.command(folder, number)]);
    }
    args.push(path.display().to_string());
    let output = Qemu::io(args).success();
    let done = output.stdout.matches("wrote ").count();
    assert_eq!(done, operations.len(), "{output:?}");
}

/// Bytes that follow from seed and offset and compress well.
pub(crate) fn compressible(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = Pattern::new(seed).bytes(offset, len);
    for (index, byte) in bytes.iter_mut().enumerate() {
        if (offset + index as u64) % 64 >= 4 {
            *byte = seed as u8;
        }
    }
    bytes
}

/// A range of a disk: sometimes whole clusters, sometimes at the end, mostly neither.
pub(crate) fn range(rng: &mut Rng, size: u64, cluster: u64) -> (u64, u64) {
    let len = match rng.below(4) {
        0 => rng.within(1..600),
        1 => cluster * rng.within(1..4),
        _ => rng.within(1..cluster * 3),
    };
    let len = len.min(size);
    let offset = match rng.below(8) {
        0 => size - len,
        1 | 2 => rng.below(size) / cluster * cluster,
        _ => rng.below(size),
    };
    (offset, len.min(size - offset))
}
