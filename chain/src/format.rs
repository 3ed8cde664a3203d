//! The two image formats a layer can have, and how content is probed where that is allowed.

use core::fmt;
use core::str::FromStr;

/// Format of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The bytes of the disk as they are.
    Raw,
    /// qcow2, version 2 or 3.
    Qcow2,
}

/// A format name that is neither `raw` nor `qcow2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat(
    /// The name.
    pub String,
);

impl Format {
    /// Guesses from the first bytes of a file. A guest that may write them can make a raw image
    /// look like qcow2: only for files that nobody hostile wrote.
    #[must_use]
    pub fn probe(first_bytes: &[u8]) -> Self {
        let is_qcow2 = first_bytes.starts_with(b"QFI\xfb")
            && first_bytes.get(4..8).is_some_and(|version| version >= &[0, 0, 0, 2][..]);
        if is_qcow2 { Self::Qcow2 } else { Self::Raw }
    }

    /// The name that headers and command lines use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

impl core::error::Error for UnknownFormat {}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "format '{}' is not supported, supported are raw and qcow2", self.0)
    }
}
