//! `Extent`: what the host keeps for a range, data or a hole.

/// A run of bytes of one kind, starting at the offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// What the host keeps there.
    pub kind: ExtentKind,
    /// How many bytes from the offset asked for; never 0. What follows may be of the same kind:
    /// a host may answer in pieces.
    pub len: u64,
}

impl Extent {
    /// `len` bytes of data.
    #[must_use]
    pub const fn data(len: u64) -> Self {
        Self { kind: ExtentKind::Data, len }
    }

    /// `len` bytes of hole.
    #[must_use]
    pub const fn hole(len: u64) -> Self {
        Self { kind: ExtentKind::Hole, len }
    }

    /// Whether the run is a hole, which reads as zeros.
    #[must_use]
    pub const fn is_hole(self) -> bool {
        matches!(self.kind, ExtentKind::Hole)
    }
}

/// What the host keeps for a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Bytes that have to be read; they may well be zeros.
    Data,
    /// Nothing: the run reads as zeros and need not be read.
    Hole,
}
