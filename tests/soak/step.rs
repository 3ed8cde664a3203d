//! `Step`: one request of a guest, as bytes of the model and as a command of `qemu-io`.

use std::fmt;
use std::path::Path;

use testkit::{ModelDisk, Pattern, Rng};

use super::recipe::Recipe;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) seed: u64,
}

/// What is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Write bytes that all differ.
    Pattern,
    /// Write one byte, again and again.
    Fill,
    /// Write a cluster compressed: mostly bytes that can be.
    Compressed,
    /// Write zeros.
    Zero,
    /// Write zeros and give the space back.
    Unmap,
    Discard,
    Read,
    Flush,
    /// Close and open again.
    Reopen,
    /// Give the disk the size `len`; only the library does it between other requests.
    Resize,
}

/// What discarding does to the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiscardRule {
    pub(crate) cluster: u64,
    /// Nothing at all: version 2 over a backing file, or a writer that ignores discards.
    pub(crate) ignored: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Resize => write!(f, "Resize {}", self.len),
            Kind::Flush | Kind::Reopen => write!(f, "{:?}", self.kind),
            _ => write!(f, "{:?} {} {} (seed {:#x})", self.kind, self.offset, self.len, self.seed),
        }
    }
}

impl Step {
    /// Any request. `hot` is where most of them go.
    pub(crate) fn random(rng: &mut Rng, recipe: &Recipe, size: u64, hot: u64) -> Self {
        let kind = match rng.below(32) {
            0..=8 => Kind::Pattern,
            9..=13 => Kind::Fill,
            14..=16 => Kind::Zero,
            17..=19 => Kind::Unmap,
            20..=22 => Kind::Discard,
            23 | 24 => Kind::Compressed,
            25..=28 => Kind::Read,
            29 | 30 => Kind::Flush,
            _ => Kind::Reopen,
        };
        let cluster = recipe.cluster_bytes();
        let (offset, len) = match kind {
            Kind::Compressed => (rng.below(size) / cluster * cluster, cluster),
            // Short enough for a dump.
            Kind::Read => (rng.below(size), rng.within(1..1500)),
            Kind::Discard | Kind::Zero | Kind::Unmap if rng.one_in(3) => {
                let clusters = rng.within(1..20.min((1 << 20) / cluster).max(2) + 1);
                (rng.below(size) / cluster * cluster, cluster * clusters)
            }
            _ => range(rng, recipe, size, hot),
        };
        Self { kind, offset, len, seed: rng.next_u64() }.fit(size, cluster)
    }

    /// The same request inside a disk of `size` bytes. Compressed writes cover one cluster.
    pub(crate) fn fit(mut self, size: u64, cluster: u64) -> Self {
        if self.kind == Kind::Resize {
            return self;
        }
        if self.offset >= size {
            self.offset %= size;
        }
        if self.kind == Kind::Compressed {
            self.offset = self.offset / cluster * cluster;
            self.len = cluster;
        }
        self.len = self.len.min(size - self.offset);
        self
    }

    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.len
    }

    pub(crate) const fn changes(&self) -> bool {
        !matches!(self.kind, Kind::Read | Kind::Flush | Kind::Reopen | Kind::Resize)
    }

    /// The bytes that a write carries.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len = self.len as usize;
        match self.kind {
            Kind::Pattern => Pattern::new(self.seed).bytes(self.offset, len),
            Kind::Fill => vec![self.fill(); len],
            Kind::Compressed => self.compressible(len),
            _ => vec![0; len],
        }
    }

    /// Mostly one byte in eight is noise; now and then everything, or nothing.
    fn compressible(&self, len: usize) -> Vec<u8> {
        let mut bytes = Pattern::new(self.seed).bytes(self.offset, len);
        match self.seed >> 60 {
            0 => {}
            1 => bytes.fill(0),
            _ => bytes.chunks_mut(8).for_each(|chunk| chunk[1..].fill(self.fill())),
        }
        bytes
    }

    pub(crate) fn fill(&self) -> u8 {
        (self.seed as u8).max(1)
    }

    /// What the request does to the disk, if it succeeds.
    pub(crate) fn apply(&self, model: &mut ModelDisk, discards: DiscardRule) {
        match self.kind {
            Kind::Read | Kind::Flush | Kind::Reopen => {}
            Kind::Resize => model.resize(self.len as usize),
            Kind::Zero | Kind::Unmap => model.zero(self.offset, self.len as usize),
            Kind::Discard => {
                if let Some((start, end)) = self.discarded(model.len() as u64, discards) {
                    model.zero(start, (end - start) as usize);
                }
            }
            _ => model.write(self.offset, &self.bytes()),
        }
    }

    /// The whole clusters of a discard; the end of the disk counts as the end of one.
    fn discarded(&self, size: u64, rule: DiscardRule) -> Option<(u64, u64)> {
        let start = self.offset.next_multiple_of(rule.cluster);
        let end = if self.end() == size { size } else { self.end() / rule.cluster * rule.cluster };
        (!rule.ignored && start < end).then_some((start, end))
    }

    /// The command; bytes that it needs go to `content` first.
    pub(crate) fn command(&self, content: &Path) -> String {
        let (offset, len) = (self.offset, self.len);
        match self.kind {
            Kind::Zero => format!("write -z {offset} {len}"),
            Kind::Unmap => format!("write -z -u {offset} {len}"),
            Kind::Discard => format!("discard {offset} {len}"),
            Kind::Read => format!("read -v {offset} {len}"),
            Kind::Flush => "flush".into(),
            Kind::Resize => format!("truncate {len}"),
            Kind::Reopen => "reopen".into(),
            Kind::Fill => format!("write -P {} {offset} {len}", self.fill()),
            Kind::Pattern | Kind::Compressed => {
                std::fs::write(content, self.bytes()).unwrap();
                let flag = if self.kind == Kind::Compressed { "-c " } else { "" };
                format!("write {flag}-s {} {offset} {len}", content.display())
            }
        }
    }
}

/// A range of the disk: bytes, sectors, subclusters, clusters, the end, everything in between.
fn range(rng: &mut Rng, recipe: &Recipe, size: u64, hot: u64) -> (u64, u64) {
    let cluster = recipe.cluster_bytes();
    let sub = if recipe.extended_l2 { cluster / 32 } else { cluster.min(4096) };
    let most = (cluster * 3).clamp(8192, 1 << 20);
    let len = match rng.below(7) {
        0 => rng.within(1..600),
        1 => cluster * rng.within(1..4).min((1 << 20) / cluster).max(1),
        2 => 512 * rng.within(1..16),
        3 => sub * rng.within(1..8),
        _ => rng.within(1..most),
    };
    let place = if rng.one_in(3) { rng.below(size) } else { hot + rng.below(8 * cluster) };
    let place = place % size;
    let offset = match rng.below(10) {
        0 => size.saturating_sub(len),
        1 | 2 => place / cluster * cluster,
        3 => place / sub * sub,
        4 => place / 512 * 512,
        _ => place,
    };
    (offset, len)
}
