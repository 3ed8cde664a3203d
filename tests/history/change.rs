//! One change of the disk, as bytes and as a command of `qemu-io` and `qimg-io`.

use std::fmt;
use std::path::Path;

use qimg::chain::Chain;
use testkit::{Pattern, Rng};

/// One change of the disk.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Bytes that all differ.
    Pattern,
    /// One byte, again and again.
    Fill,
    Compressed,
    Zero,
    Unmap,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {} (seed {:#x})", self.kind, self.offset, self.len, self.seed)
    }
}

impl Change {
    /// Any change but a compressed write.
    pub(crate) fn random(rng: &mut Rng, size: u64, cluster: u64) -> Self {
        let kind = match rng.below(8) {
            0 => Kind::Zero,
            1 => Kind::Unmap,
            2 => Kind::Fill,
            _ => Kind::Pattern,
        };
        let (offset, len) = range(rng, size, cluster);
        Self { kind, offset, len, seed: rng.next_u64() }
    }

    /// A compressed write of whole clusters (the last one of the disk may be shorter).
    pub(crate) fn compressed(rng: &mut Rng, offset: u64, len: u64) -> Self {
        Self { kind: Kind::Compressed, offset, len, seed: rng.next_u64() }
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.kind == Kind::Compressed
    }

    /// What the range reads as afterwards.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len = self.len as usize;
        match self.kind {
            Kind::Zero | Kind::Unmap => vec![0; len],
            Kind::Fill => vec![self.fill(); len],
            Kind::Pattern => Pattern::new(self.seed).bytes(self.offset, len),
            Kind::Compressed => {
                let mut bytes = Pattern::new(self.seed).bytes(self.offset, len);
                // One byte in eight is noise: it compresses, and not every time alike.
                bytes.chunks_mut(8).for_each(|chunk| {
                    let (_, rest) = chunk.split_at_mut(1);
                    rest.fill(self.fill());
                });
                bytes
            }
        }
    }

    fn fill(&self) -> u8 {
        (self.seed as u8).max(1)
    }

    /// The command; bytes that it needs go to `content` first.
    pub(crate) fn command(&self, content: &Path) -> String {
        let (offset, len) = (self.offset, self.len);
        match self.kind {
            Kind::Zero => format!("write -z {offset} {len}"),
            Kind::Unmap => format!("write -z -u {offset} {len}"),
            Kind::Fill => format!("write -P {} {offset} {len}", self.fill()),
            Kind::Pattern | Kind::Compressed => {
                std::fs::write(content, self.bytes()).unwrap();
                let flag = if self.is_compressed() { "-c " } else { "" };
                format!("write {flag}-s {} {offset} {len}", content.display())
            }
        }
    }

    /// Carries it out in this process.
    pub(crate) fn on_chain(&self, chain: &Chain) -> Result<(), String> {
        let failed = |error: &dyn fmt::Display| error.to_string();
        match self.kind {
            Kind::Zero | Kind::Unmap => chain
                .write_zeroes_at(self.offset, self.len, self.kind == Kind::Unmap)
                .map_err(|error| failed(&error)),
            Kind::Fill | Kind::Pattern => {
                chain.write_at(self.offset, &self.bytes()).map_err(|error| failed(&error))
            }
            Kind::Compressed => {
                let image = chain.top().image().ok_or("the top is raw")?;
                let mut compressor = image.compressor().map_err(|error| failed(&error))?;
                image
                    .write_compressed_at(&mut compressor, self.offset, &self.bytes())
                    .map_err(|error| failed(&error))
            }
        }
    }
}

/// A range of the disk: bytes, clusters, the end, everything in between.
fn range(rng: &mut Rng, size: u64, cluster: u64) -> (u64, u64) {
    let most = (cluster * 3).clamp(8192, 1 << 20);
    let len = match rng.below(5) {
        0 => rng.within(1..600),
        1 => cluster * rng.within(1..3),
        2 => 512 * rng.within(1..16),
        _ => rng.within(1..most),
    };
    let offset = match rng.below(10) {
        0 => size.saturating_sub(len),
        1..=3 => rng.below(size) / cluster * cluster,
        4 => rng.below(size) / 512 * 512,
        _ => rng.below(size),
    };
    (offset, len.min(size - offset))
}
