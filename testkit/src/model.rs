//! `ModelDisk` and `ModelChain`: what a guest must see, kept as flat bytes.
//!
//! Deliberately dumb: no clusters, no sharing, no cleverness that could be wrong in the same way
//! as what it checks.

use core::fmt;

/// One disk as its guest sees it, with its internal snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelDisk {
    bytes: Vec<u8>,
    snapshots: Vec<(String, Vec<u8>)>,
}

/// The first place where a disk is not what the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where it is, in bytes from the start of the disk.
    pub offset: u64,
    /// What the model has there.
    pub expected: u8,
    /// What was found instead.
    pub found: u8,
    /// How many bytes of what was compared are wrong.
    pub count: usize,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, expected, found, count } = self;
        write!(f, "offset {offset} ({offset:#x}): expected {expected:#04x}, found {found:#04x}")?;
        write!(f, "; {count} bytes are wrong")
    }
}

impl ModelDisk {
    /// A disk of `len` zero bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self::from_bytes(vec![0; len])
    }

    /// A disk with this content.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, snapshots: Vec::new() }
    }

    /// An overlay of `len` bytes over this disk: it begins with what lies below, cut or continued
    /// with zeros. Its own writes do not reach this disk.
    #[must_use]
    pub fn overlay(&self, len: usize) -> Self {
        let mut bytes = self.bytes.clone();
        bytes.resize(len, 0);
        Self::from_bytes(bytes)
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the disk has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Everything.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The `len` bytes at `offset`; panics past the end.
    #[must_use]
    pub fn read(&self, offset: u64, len: usize) -> &[u8] {
        &self.bytes[offset as usize..offset as usize + len]
    }

    /// Puts `bytes` at `offset`; panics past the end.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Zeroes `len` bytes at `offset`; panics past the end.
    pub fn zero(&mut self, offset: u64, len: usize) {
        self.bytes[offset as usize..offset as usize + len].fill(0);
    }

    /// Cuts or extends the disk; new bytes are zeros, even over a longer backing file.
    pub fn resize(&mut self, len: usize) {
        self.bytes.resize(len, 0);
    }

    /// Keeps the present content under `name`; panics when the name is taken.
    pub fn snapshot(&mut self, name: &str) {
        assert!(self.find(name).is_none(), "the model has a snapshot {name:?} already");
        self.snapshots.push((name.to_owned(), self.bytes.clone()));
    }

    /// Goes back to the content kept under `name`, which stays; panics when there is none.
    pub fn apply(&mut self, name: &str) {
        self.bytes = self.snapshot_bytes(name).to_vec();
    }

    /// Forgets the content kept under `name`; panics when there is none.
    pub fn delete(&mut self, name: &str) {
        let index = self.find(name).unwrap_or_else(|| panic!("the model has no {name:?}"));
        self.snapshots.remove(index);
    }

    /// The content kept under `name`; panics when there is none.
    #[must_use]
    pub fn snapshot_bytes(&self, name: &str) -> &[u8] {
        let index = self.find(name).unwrap_or_else(|| panic!("the model has no {name:?}"));
        &self.snapshots[index].1
    }

    /// Names of the snapshots, oldest first.
    pub fn snapshot_names(&self) -> impl Iterator<Item = &str> {
        self.snapshots.iter().map(|(name, _)| name.as_str())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.snapshots.iter().position(|(other, _)| other == name)
    }

    /// Compares what was read at `offset`; panics past the end.
    #[must_use]
    pub fn difference(&self, offset: u64, actual: &[u8]) -> Option<Difference> {
        let expected = self.read(offset, actual.len());
        if expected == actual {
            return None; // nearly always, and much faster in one go
        }
        let mut wrong = (0..actual.len()).filter(|&index| expected[index] != actual[index]);
        let first = wrong.next()?;
        Some(Difference {
            offset: offset + first as u64,
            expected: expected[first],
            found: actual[first],
            count: 1 + wrong.count(),
        })
    }

    /// Panics when what was read at `offset` is not what the model has there, and says where.
    #[track_caller]
    pub fn assert_at(&self, offset: u64, actual: &[u8]) {
        if let Some(difference) = self.difference(offset, actual) {
            panic!("{difference}");
        }
    }
}

/// A chain of disks, each an overlay over the one before; the last is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChain {
    layers: Vec<ModelDisk>,
}

impl ModelChain {
    /// A chain of one disk.
    #[must_use]
    pub fn new(base: ModelDisk) -> Self {
        Self { layers: vec![base] }
    }

    /// How many disks there are; at least one.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// The disk that the guest writes.
    #[must_use]
    pub fn active(&self) -> &ModelDisk {
        &self.layers[self.layers.len() - 1]
    }

    /// The disk that the guest writes.
    pub fn active_mut(&mut self) -> &mut ModelDisk {
        let last = self.layers.len() - 1;
        &mut self.layers[last]
    }

    /// What a guest would see of layer `index` (0 is the base) and everything below it.
    #[must_use]
    pub fn layer(&self, index: usize) -> &ModelDisk {
        &self.layers[index]
    }

    /// Puts an overlay of `len` bytes on top, which becomes active.
    pub fn push(&mut self, len: usize) {
        self.layers.push(self.active().overlay(len));
    }

    /// Commits layer `from` into layer `into` below it and takes the layers `into + 1 ..= from`
    /// out of the chain. The target keeps its own length where the overlay is shorter, since
    /// what lies past the overlay's end is not touched.
    pub fn commit(&mut self, from: usize, into: usize) {
        assert!(into < from && from < self.layers.len(), "commit goes down the chain");
        let top = self.layers[from].bytes.clone();
        let target = &mut self.layers[into];
        target.bytes.resize(target.bytes.len().max(top.len()), 0);
        target.bytes[..top.len()].copy_from_slice(&top);
        self.layers.drain(into + 1..=from);
    }

    /// Pulls the layers below `bottom + 1 .. layer` into `layer`: they leave the chain, and the
    /// guest sees no change.
    pub fn stream(&mut self, layer: usize, bottom: Option<usize>) {
        self.layers.drain(bottom.map_or(0, |bottom| bottom + 1)..layer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_keep_content_and_length() {
        let mut disk = ModelDisk::new(8);
        disk.write(2, b"abc");
        disk.snapshot("one");
        disk.zero(3, 1);
        disk.resize(4);
        disk.resize(6);
        assert_eq!(disk.bytes(), b"\0\0a\0\0\0");
        disk.apply("one");
        assert_eq!(disk.bytes(), b"\0\0abc\0\0\0");
        assert_eq!(disk.snapshot_names().collect::<Vec<_>>(), ["one"]);
        disk.delete("one");
        assert_eq!(disk.snapshot_names().count(), 0);
    }

    #[test]
    fn overlays_hide_and_commits_reveal() {
        let mut chain = ModelChain::new(ModelDisk::from_bytes(b"base".to_vec()));
        chain.push(6);
        chain.active_mut().write(3, b"ove");
        chain.push(6);
        chain.active_mut().write(0, b"top");
        assert_eq!(chain.layer(0).bytes(), b"base");
        let mut streamed = chain.clone();
        streamed.stream(2, None);
        assert_eq!((streamed.depth(), streamed.active()), (1, chain.active()));
        chain.commit(2, 0);
        assert_eq!((chain.depth(), chain.active().bytes()), (1, &b"topove"[..]));
    }

    #[test]
    fn a_difference_says_where_and_how_much() {
        let disk = ModelDisk::from_bytes(b"abcdef".to_vec());
        assert_eq!(disk.difference(1, b"bcd"), None);
        let difference = disk.difference(1, b"bXdX").unwrap();
        assert_eq!(
            difference.to_string(),
            "offset 2 (0x2): expected 0x63, found 0x58; 2 bytes are wrong"
        );
    }
}
