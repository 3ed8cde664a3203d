//! An L2 entry that means nothing: for which guest offset, which bits, and what is wrong.

use core::fmt;

use qcow2_format::{GuestOffset, L2Entry};
use static_assertions::assert_impl_all;

/// What is wrong with an L2 entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The host offset is not a multiple of the cluster size.
    Unaligned,
    /// The zero flag is set in a version 2 image, which has none.
    ZeroFlagInVersion2,
    /// A compressed cluster in an image whose data lies in an external file.
    CompressedInExternalData,
    /// The compressed bytes would lie beyond 2^56.
    CompressedBeyondLimit,
    /// Data in an external file that is not at its guest offset.
    ExternalDataElsewhere,
    /// A subcluster is said to hold data and to read as zeros.
    AllocatedAndZero,
    /// A subcluster is said to hold data, but the cluster has no host offset.
    AllocatedNowhere,
}

/// An L2 entry that cannot be interpreted; reading or writing there must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// First guest byte the entry maps.
    pub guest: GuestOffset,
    /// The entry as found.
    pub entry: L2Entry,
    /// What is wrong.
    pub fault: Fault,
}

assert_impl_all!(Error: core::error::Error, Send, Sync, Copy);

impl core::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Unaligned => "host offset is not a multiple of the cluster size",
            Fault::ZeroFlagInVersion2 => "zero flag in a version 2 image",
            Fault::CompressedInExternalData => "compressed cluster with an external data file",
            Fault::ExternalDataElsewhere => {
                "data in an external file lies at another offset than in the guest"
            }
            Fault::CompressedBeyondLimit => "compressed data beyond 2^56",
            Fault::AllocatedAndZero => "a subcluster is both allocated and zero",
            Fault::AllocatedNowhere => "a subcluster is allocated without a host offset",
        };
        write!(f, "L2 table entry {:#x} for guest offset {}: {what}", self.entry.bits(), self.guest)
    }
}
