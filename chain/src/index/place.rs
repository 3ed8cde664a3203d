//! A place: which layer answers a range of guest bytes, and from where.

use std::sync::Arc;

use cow_engine::{Run, RunKind};
use qcow2_format::{CompressedDescriptor, Geometry, GuestOffset, HostOffset, L2Entry};

use crate::error::Result;
use crate::layer::{Answer, Disk, Layer};
use crate::status::Status;

/// In what way a range is answered, and what the word beside it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    /// Nobody answers: zeros.
    Nobody,
    /// The same, but the last layer that was asked keeps host space. The word: host offset.
    NobodyReserved,
    /// Zeros by the layer's own word.
    Zero,
    /// The same, and the layer keeps host space. The word: host offset.
    ZeroReserved,
    /// Bytes as they are. The word: host offset.
    Data,
    /// Part of a compressed cluster. The word: its L2 entry.
    Compressed,
    /// The layer is raw. Whether there is a hole is for the host to say.
    Raw,
}

/// Who answers, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) what: What,
    /// The layer, 0 for the nearest lower one. Where nobody answers: how many were asked, which is
    /// the depth of the last of them counted from the top.
    pub(super) layer: u16,
    pub(super) word: u64,
}

/// A range that one layer answers in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// First guest byte.
    pub(super) start: u64,
    /// Number of bytes, never 0.
    pub(super) len: u64,
    pub(super) owner: Owner,
}

impl Owner {
    /// Nobody answers below the layer at a depth, which may keep host space.
    pub(super) fn nobody(depth: u16, reserved: Option<HostOffset>) -> Self {
        let what = if reserved.is_some() { What::NobodyReserved } else { What::Nobody };
        Self { what, layer: depth, word: reserved.map_or(0, HostOffset::get) }
    }

    pub(super) const fn raw(layer: u16) -> Self {
        Self { what: What::Raw, layer, word: 0 }
    }

    /// What a qcow2 layer says; `None` when it says that it does not own the range.
    pub(super) fn of(layer: u16, kind: RunKind, geometry: Geometry) -> Option<Self> {
        let (what, word) = match kind {
            RunKind::Zero { reserved: None } => (What::Zero, 0),
            RunKind::Zero { reserved: Some(host) } => (What::ZeroReserved, host.get()),
            RunKind::Data { host } => (What::Data, host.get()),
            RunKind::Compressed { descriptor, .. } => {
                (What::Compressed, descriptor.encode(geometry).bits())
            }
            RunKind::Below { .. } => return None,
        };
        Some(Self { what, layer, word })
    }

    /// The answer for the byte `skip` further on in the same place.
    pub(super) fn advanced(self, skip: u64) -> Self {
        match self.what {
            // Host offsets lie below 2^56.
            What::NobodyReserved | What::ZeroReserved | What::Data => {
                Self { word: self.word.saturating_add(skip), ..self }
            }
            What::Nobody | What::Zero | What::Compressed | What::Raw => self,
        }
    }

    /// Whether `next` continues this answer when it starts `len` bytes later.
    pub(super) fn continues(self, len: u64, next: Self) -> bool {
        self.what != What::Compressed && self.advanced(len) == next
    }

    fn reserved(self) -> Option<u64> {
        (self.what == What::NobodyReserved).then_some(self.word)
    }

    /// In the words of the engine, for the guest byte at `guest`.
    fn kind(self, guest: u64, geometry: Geometry) -> RunKind {
        let host = HostOffset::new(self.word);
        match self.what {
            What::Data => RunKind::Data { host },
            What::Zero => RunKind::Zero { reserved: None },
            What::ZeroReserved => RunKind::Zero { reserved: Some(host) },
            What::Compressed => {
                let entry = L2Entry::from_bits(self.word);
                match CompressedDescriptor::decode(geometry, entry) {
                    Some(descriptor) => {
                        RunKind::Compressed { descriptor, skip: geometry.offset_in_cluster(guest) }
                    }
                    None => RunKind::Below { reserved: None },
                }
            }
            What::Nobody | What::NobodyReserved | What::Raw => RunKind::Below { reserved: None },
        }
    }
}

impl Place {
    /// Number of bytes.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Lengthens this place by the next one, if that continues it.
    pub(super) fn join(&mut self, next: &Self) -> bool {
        let joined = self.start.checked_add(self.len) == Some(next.start)
            && self.owner.continues(self.len, next.owner);
        if joined {
            self.len = self.len.saturating_add(next.len);
        }
        joined
    }

    pub(super) fn at_most(self, len: u64) -> Self {
        Self { len: self.len.min(len), ..self }
    }

    /// Fills `buf`, which is as long as the place, from these layers, for which it was found.
    pub(crate) fn read(&self, layers: &[Arc<Layer>], buf: &mut [u8]) -> Result<()> {
        let Some(layer) = self.layer(layers) else {
            buf.fill(0);
            return Ok(());
        };
        match layer.disk() {
            Disk::Raw(raw) => raw.read_at(self.start, buf).map_err(|e| layer.storage_error(e)),
            Disk::Qcow2(image) => {
                let run = self.run(image.geometry());
                image.read_run(&run, buf).map_err(|e| layer.image_error(e))
            }
        }
    }

    /// What is known about the place without reading data; depths count from the layer above all of
    /// `layers`, for which it was found.
    pub(crate) fn status(&self, layers: &[Arc<Layer>]) -> Result<Status> {
        let depth = usize::from(self.owner.layer);
        let Some(layer) = self.layer(layers) else {
            return Ok(Status::absent(self.len, depth).reserving(self.owner.reserved()));
        };
        let status = match layer.disk() {
            Disk::Qcow2(image) => layer.status_of(image, &self.run(image.geometry()))?,
            Disk::Raw(_) => match layer.answer(self.start, self.len)? {
                Answer::Here(status) => status,
                // A raw layer answers for all of its disk.
                Answer::Below { len, .. } => Status::absent(len, depth),
            },
        };
        Ok(status.at_depth(depth + 1).at_most(self.len))
    }

    fn layer<'l>(&self, layers: &'l [Arc<Layer>]) -> Option<&'l Layer> {
        match self.owner.what {
            What::Nobody | What::NobodyReserved => None,
            _ => Some(&layers[usize::from(self.owner.layer)]),
        }
    }

    fn run(&self, geometry: Geometry) -> Run {
        let kind = self.owner.kind(self.start, geometry);
        Run { guest: GuestOffset::new(self.start), len: self.len, kind }
    }
}
