//! One thing that an audit has to say.

use chain::Format;

use super::Reach;
use super::content::Signature;

/// What a finding means for the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Good to know; the policy allows it.
    Notice,
    /// The policy does not allow it.
    Refused,
    /// The image is broken.
    Damaged,
}

impl Severity {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
        }
    }
}

/// A range of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Place {
    /// A range of the file.
    #[must_use]
    pub const fn new(offset: u64, len: u64) -> Self {
        Self { offset, len }
    }
}

/// One thing that an audit has to say. `Display` is one line, with names escaped.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it means for the verdict.
    pub severity: Severity,
    /// Where it stands in the file, if it stands somewhere.
    pub at: Option<Place>,
    /// What it is.
    pub kind: FindingKind,
}

/// What another file is to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Its backing file.
    BackingFile,
    /// Its external data file.
    DataFile,
    /// An extent of a VMDK descriptor.
    Extent,
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Danger {
    /// It has a protocol, and so is no file name.
    Protocol(String),
    /// It is not text.
    NotText,
    /// It is the image itself.
    Itself,
    /// It is absolute.
    Absolute,
    /// It goes up with `..`.
    Up,
    /// It lies in a folder below.
    Below,
    /// It lies in the same folder.
    Beside,
}

/// What has a limit. Those without a unit are counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Amount {
    /// Bytes of the virtual disk.
    VirtualSize,
    /// Bytes of the file.
    FileLength,
    /// Bytes of a cluster.
    ClusterSize,
    /// Bytes of the L1 tables of disk and snapshots together.
    L1Tables,
    /// Bytes of the refcount table.
    RefcountTable,
    /// Internal snapshots.
    Snapshots,
    /// Bytes of VM state.
    VmState,
    /// Persistent bitmaps.
    Bitmaps,
    /// Host clusters.
    HostClusters,
    /// Bytes that an audit reads.
    ReadBytes,
    /// Seconds that an audit takes.
    Seconds,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FindingKind {
    /// The format is not acceptable.
    Format {
        /// The format.
        format: Format,
    },
    /// Nobody said what the format is.
    Guessed {
        /// What it was taken for.
        format: Format,
    },
    /// The content is not of the format that was said.
    NotThisFormat {
        /// What was said.
        format: Format,
    },
    /// Raw content starts, or ends, like something that is opened in another way.
    Disguised {
        /// Like what.
        signature: Signature,
    },
    /// The image is something else as well.
    Polyglot {
        /// What else.
        signature: Signature,
    },
    /// The image names another file.
    Reference {
        /// What the file is to it.
        role: Role,
        /// The name; what is not text is replaced.
        name: String,
        /// Where it leads.
        danger: Danger,
        /// What the policy allows.
        allowed: Reach,
    },
    /// The external data file has no name in the image: whoever opens it says it.
    DataFileUnnamed,
    /// The format of the backing file is not recorded.
    BackingFormatMissing,
    /// The format of the backing file is neither raw nor qcow2.
    BackingFormat {
        /// What it is.
        name: String,
    },
    /// A header extension that may be there once.
    ExtensionTwice {
        /// What it holds.
        role: Role,
    },
    /// The image demands features that nobody here knows.
    UnknownIncompatible {
        /// Their bits.
        bits: u64,
    },
    /// The image has features that nobody here knows, and need not.
    UnknownFeatures {
        /// Bits of compatible ones.
        compatible: u64,
        /// Bits of autoclear ones.
        autoclear: u64,
    },
    /// A header extension that nobody here knows.
    UnknownExtension {
        /// Its magic.
        magic: u32,
    },
    /// A feature that a policy may exclude.
    Feature {
        /// Key of the policy with its section.
        key: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// Too much of something, or too little of it for cluster sizes.
    Limit {
        /// Of what.
        amount: Amount,
        /// How much.
        found: u64,
        /// How much is allowed.
        allowed: u64,
    },
    /// Too large for its file.
    Bomb {
        /// Whether only guest data counts, not the size of the disk.
        data: bool,
        /// Guest bytes.
        guest_bytes: u64,
        /// Bytes of the file.
        file_bytes: u64,
        /// Most guest bytes for each byte of the file.
        allowed: u64,
    },
    /// The header cannot be used.
    Header(qcow2_format::Error),
    /// A table cannot be read.
    Table {
        /// Why.
        reason: String,
    },
    /// The metadata could not be checked.
    Unchecked {
        /// Why.
        reason: String,
    },
    /// Metadata contradict each other.
    Corruption {
        /// How often.
        count: u64,
        /// The first of them.
        first: String,
    },
    /// Host clusters that nothing uses.
    Leaks {
        /// How many.
        count: u64,
    },
    /// The audit would have taken too much.
    Exhausted {
        /// Of what.
        amount: Amount,
        /// How much is allowed.
        allowed: u64,
    },
}

mod words;
