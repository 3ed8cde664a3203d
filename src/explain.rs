//! Every byte of an image file explained: the fields of the header one by one, then what each
//! stretch of the file holds.

mod areas;
mod extensions;
mod fields;

use std::fmt;

use block_io::{Storage, StorageExt};
use qcow2_format::{Header, IncompatibleFeatures};

pub use areas::{AreaKind, CLAIMS_MAX, FileArea};
pub use fields::HeaderField;

/// What an image file consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileExplanation {
    /// Length of the file.
    pub file_bytes: u64,
    /// Cluster 0, padded with zeros if the file ends earlier.
    pub header: Vec<u8>,
    /// What stands in cluster 0: all of its bytes, in order, each once.
    pub fields: Vec<HeaderField>,
    /// Why the header is not acceptable, if it is not; nothing else is known of the file then.
    pub fault: Option<qcow2_format::Error>,
    /// What the file holds: all of its bytes, in order, each once. Empty if the header is not
    /// acceptable.
    pub areas: Vec<FileArea>,
    /// `false` if there were too many stretches of guest data to list them all: the rest is among
    /// [`AreaKind::Unreached`].
    pub is_complete: bool,
    /// Name of the external data file, which holds the guest data at the offsets that the guest
    /// sees; empty if the header does not say it. `None` if the image file holds the data.
    pub data_file: Option<String>,
}

/// Why a file cannot be explained.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ExplainError {
    /// The file could not be read.
    Storage(block_io::Error),
    /// It is not a qcow2 image, or of a version or cluster size that nobody knows.
    Format(qcow2_format::Error),
}

impl From<block_io::Error> for ExplainError {
    fn from(error: block_io::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<qcow2_format::Error> for ExplainError {
    fn from(error: qcow2_format::Error) -> Self {
        Self::Format(error)
    }
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Format(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ExplainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Format(error) => Some(error),
        }
    }
}

/// Explains an image file. Reads the header and the active tables; other files are not looked at.
///
/// # Errors
/// The file cannot be read, or is so far from an image that not even its header can be split.
pub fn explain_file(storage: &dyn Storage) -> Result<FileExplanation, ExplainError> {
    let file_bytes = storage.len()?;
    let mut start = vec![0; 512];
    let found = storage.read_zero_filled(0, &mut start)?;
    let cluster_bits = Header::peek_cluster_bits(&start[..found])?;
    let mut cluster = vec![0; 1 << cluster_bits.get()]; // at most 2 MiB
    storage.read_zero_filled(0, &mut cluster)?;
    let (header, fault) = match Header::decode_for_check(&cluster) {
        Ok(header) => (Some(header), None),
        Err(fault) => (None, Some(fault)),
    };
    let (areas, is_complete) = match &header {
        Some(header) => areas::explain(storage, header, file_bytes)?,
        None => (Vec::new(), true),
    };
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let data_file = header
        .as_ref()
        .filter(|header| header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE))
        .map(|header| header.data_file_name().map(text).unwrap_or_default());
    let fields = fields::explain(&cluster, header.as_ref());
    Ok(FileExplanation {
        file_bytes,
        header: cluster,
        fields,
        fault,
        areas,
        is_complete,
        data_file,
    })
}
