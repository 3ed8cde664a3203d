//! Block status: what is known about a range without reading its data.

use cow_engine::{Run, RunKind};
use qcow2_format::HostOffset;

/// What is known about a range of the disk without reading its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Number of bytes, from the offset that was asked for, for which all of this holds.
    pub len: u64,
    /// The layer that answers, 0 for the top.
    pub depth: usize,
    /// Whether any layer owns the range.
    pub present: bool,
    /// Whether it is known to read as zeros.
    pub zero: bool,
    /// Whether the layer keeps data for it. Data may be zeros too: in a hole of the host's file.
    pub data: bool,
    /// Whether that data is compressed.
    pub compressed: bool,
    /// Where the first byte lies in the layer's file, if it lies there as it is.
    pub host_offset: Option<u64>,
}

impl Status {
    const NOTHING: Self = Self {
        len: 0,
        depth: 0,
        present: false,
        zero: true,
        data: false,
        compressed: false,
        host_offset: None,
    };

    /// Nobody owns the range, down to and including the layer at `depth`, or what lies below that
    /// one ends before the range: zeros.
    pub(crate) const fn absent(len: u64, depth: usize) -> Self {
        Self { len, depth, ..Self::NOTHING }
    }

    pub(crate) const fn raw(offset: u64, len: u64, hole: bool) -> Self {
        Self {
            len,
            present: true,
            zero: hole,
            data: !hole,
            host_offset: Some(offset),
            ..Self::NOTHING
        }
    }

    pub(crate) fn of(run: &Run) -> Self {
        let here = Self { len: run.len, present: true, ..Self::NOTHING };
        match run.kind {
            RunKind::Zero { reserved } => {
                Self { host_offset: reserved.map(HostOffset::get), ..here }
            }
            RunKind::Data { host } => {
                Self { zero: false, data: true, host_offset: Some(host.get()), ..here }
            }
            RunKind::Compressed { .. } => {
                Self { zero: false, data: true, compressed: true, ..here }
            }
            RunKind::Below { .. } => Self { present: false, ..here },
        }
    }

    /// Host space is kept for the range although nobody owns it.
    pub(crate) const fn reserving(self, host_offset: Option<u64>) -> Self {
        Self { host_offset, ..self }
    }

    pub(crate) const fn at_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Data that the host keeps no space for.
    pub(crate) const fn in_hole(self) -> Self {
        Self { zero: true, ..self }
    }

    pub(crate) const fn at_most(self, len: u64) -> Self {
        Self { len: if self.len < len { self.len } else { len }, ..self }
    }

    /// Whether `next` says the same about the bytes right behind this range.
    #[must_use]
    pub fn continues(&self, next: &Self) -> bool {
        let offsets = match (self.host_offset, next.host_offset) {
            (None, None) => true,
            (Some(here), Some(there)) => here.checked_add(self.len) == Some(there),
            _ => false,
        };
        offsets
            && (self.depth, self.present, self.zero, self.data, self.compressed)
                == (next.depth, next.present, next.zero, next.data, next.compressed)
    }
}
