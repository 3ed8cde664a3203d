//! The five cluster types and how an entry is told to be one of them.

use core::fmt;

use qcow2_format::{CompressedDescriptor, GuestOffset, HostOffset, L2Entry, limit};

use crate::dialect::Dialect;
use crate::error::{Error, Fault};

/// What a guest cluster is, by its L2 entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterType {
    /// Nothing here: the backing file answers, or zeros without one.
    Unallocated,
    /// Reads as zeros, hides the backing file, owns no host cluster.
    ZeroPlain,
    /// Reads as zeros, hides the backing file, keeps a host cluster reserved.
    ZeroAllocated {
        /// The reserved cluster.
        host: HostOffset,
    },
    /// Data at a host offset.
    Normal {
        /// Start of the data cluster.
        host: HostOffset,
    },
    /// Compressed data somewhere in the image.
    Compressed(CompressedDescriptor),
}

impl ClusterType {
    /// Tells the type of the cluster at `guest` from its entry; reserved bits are masked out.
    ///
    /// # Errors
    /// The entry means nothing in this dialect; see [`Fault`].
    #[inline]
    pub fn classify(dialect: Dialect, guest: GuestOffset, entry: L2Entry) -> Result<Self, Error> {
        let fail = |fault| Err(Error { guest, entry, fault });
        if let Some(descriptor) = CompressedDescriptor::decode(dialect.geometry(), entry) {
            let end = descriptor.host_offset().checked_add(descriptor.readable_bytes());
            return match end {
                _ if dialect.has_external_data() => fail(Fault::CompressedInExternalData),
                Some(end) if end.get() <= limit::HOST_OFFSET_MAX => {
                    Ok(Self::Compressed(descriptor))
                }
                _ => fail(Fault::CompressedBeyondLimit),
            };
        }
        let host = entry.host_offset();
        if entry.has_zero_flag() && !dialect.has_zero_flag() {
            return fail(Fault::ZeroFlagInVersion2);
        }
        if !dialect.geometry().is_cluster_aligned(host.get()) {
            return fail(Fault::Unaligned);
        }
        let at_zero = host == HostOffset::ZERO;
        let exists = !at_zero || (dialect.has_external_data() && entry.is_copied());
        if exists && dialect.has_external_data() && host.get() != guest.get() {
            return fail(Fault::ExternalDataElsewhere);
        }
        Ok(match (entry.has_zero_flag(), exists) {
            // Nobody else can have this place: whether it is reserved is not told apart.
            (true, true) if at_zero => Self::ZeroPlain,
            (true, true) => Self::ZeroAllocated { host },
            (true, false) => Self::ZeroPlain,
            (false, true) => Self::Normal { host },
            (false, false) => Self::Unallocated,
        })
    }

    /// The term of the field for this type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unallocated => "unallocated",
            Self::ZeroPlain => "zero-plain",
            Self::ZeroAllocated { .. } => "zero-allocated",
            Self::Normal { .. } => "normal",
            Self::Compressed(_) => "compressed",
        }
    }

    /// Whether this image answers a read here itself, without asking the backing file.
    #[must_use]
    pub const fn answers(self) -> bool {
        !matches!(self, Self::Unallocated)
    }
}

impl fmt::Display for ClusterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Unallocated | Self::ZeroPlain => Ok(()),
            Self::ZeroAllocated { host } | Self::Normal { host } => write!(f, " at host {host}"),
            Self::Compressed(descriptor) => {
                let offset = descriptor.host_offset();
                write!(f, " at host {offset}, {} bytes readable", descriptor.readable_bytes())
            }
        }
    }
}
