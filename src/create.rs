//! Making a new image file, with or without a backing file.

use std::fmt;
use std::path::Path;

use block_io::{Create, OpenOptions, Storage};
use chain::{Chain, Format, Policy};
use cow_engine::BackingReference;
use qcow2_format::{ClusterBits, CompressionType, RefcountOrder, Version};

/// What the new image should be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Format of the image.
    pub format: Format,
    /// Size of the virtual disk in bytes; rounded up to whole 512-byte sectors.
    pub virtual_size: u64,
    /// What only qcow2 has.
    pub qcow2: Qcow2Options,
    /// Reserve host space for the whole of a raw image.
    pub reserve: bool,
}

/// What only qcow2 has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Options {
    /// Version of the format.
    pub version: Version,
    /// Bytes per cluster.
    pub cluster_size: u64,
    /// How compressed clusters will be compressed.
    pub compression: CompressionType,
    /// Refcount updates may be postponed.
    pub lazy_refcounts: bool,
    /// Name and format of the backing file, stored as they are.
    pub backing: Option<BackingReference>,
}

impl Default for Qcow2Options {
    fn default() -> Self {
        Self {
            version: Version::V3,
            cluster_size: 1 << ClusterBits::DEFAULT.get(),
            compression: CompressionType::Deflate,
            lazy_refcounts: false,
            backing: None,
        }
    }
}

/// Why an image could not be made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The file could not be created, locked or written.
    Storage(block_io::Error),
    /// An option is not possible, or writing the structures failed.
    Engine(cow_engine::Error),
    /// A cluster size that is no power of two between 512 bytes and 2 MiB.
    ClusterSize {
        /// Bytes asked for.
        found: u64,
    },
    /// A size that is too large for any file.
    Size {
        /// Bytes asked for.
        found: u64,
    },
    /// The new image is its own backing file.
    OwnBacking,
    /// A raw image cannot have a backing file.
    RawBacking,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::ClusterSize { .. } => {
                f.write_str("Cluster size must be a power of two between 512 and 2048k")
            }
            Self::Size { found } => {
                write!(f, "image size of {found} bytes is beyond what a file can have")
            }
            Self::OwnBacking => f.write_str(
                "Error: Trying to create an image with the same filename as the backing file",
            ),
            Self::RawBacking => f.write_str("Backing file not supported for file format 'raw'"),
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Engine(error) => Some(error),
            _ => None,
        }
    }
}

/// Size that a new overlay at `overlay` takes over from its backing file, in bytes. Opens the
/// backing file with everything below it, and so proves that the overlay will be readable.
///
/// # Errors
/// The backing file cannot be opened under this policy.
pub fn backing_size(
    overlay: &Path,
    name: &str,
    format: Format,
    policy: Policy,
) -> Result<u64, chain::Error> {
    let options = chain::OpenOptions::new().format(format).read_only(true).policy(policy);
    let chain = Chain::open(&chain::resolve_name(overlay, name)?, &options)?;
    Ok(chain.virtual_size())
}

/// Makes the image. An existing file is overwritten, unless somebody uses it.
///
/// # Errors
/// Options that are not possible (nothing is touched then), or a host failure.
pub fn create(path: &Path, options: &CreateOptions) -> Result<(), CreateError> {
    let size = options.virtual_size;
    let size = size.checked_next_multiple_of(512).filter(|size| i64::try_from(*size).is_ok());
    let size = size.ok_or(CreateError::Size { found: options.virtual_size })?;
    match options.format {
        Format::Raw => create_raw(path, size, options),
        Format::Qcow2 => create_qcow2(path, size, &options.qcow2),
    }
}

fn create_raw(path: &Path, size: u64, options: &CreateOptions) -> Result<(), CreateError> {
    if options.qcow2.backing.is_some() {
        return Err(CreateError::RawBacking);
    }
    let storage = open_empty(path)?;
    storage.set_len(size).map_err(CreateError::Storage)?;
    if options.reserve && size > 0 {
        storage.allocate(0, size).map_err(CreateError::Storage)?;
    }
    Ok(())
}

fn create_qcow2(path: &Path, size: u64, options: &Qcow2Options) -> Result<(), CreateError> {
    let found = options.cluster_size;
    let bits = found.is_power_of_two().then(|| ClusterBits::new(found.trailing_zeros()).ok());
    let cluster_bits = bits.flatten().ok_or(CreateError::ClusterSize { found })?;
    let engine = cow_engine::CreateOptions {
        version: options.version,
        cluster_bits,
        refcount_order: RefcountOrder::DEFAULT,
        compression_type: options.compression,
        lazy_refcounts: options.lazy_refcounts,
        backing: options.backing.clone(),
        ..cow_engine::CreateOptions::new(size)
    };
    if let Some(backing) = &options.backing
        && chain::resolve_name(path, &backing.name)
            .is_ok_and(|backing| is_same_file(path, &backing))
    {
        return Err(CreateError::OwnBacking);
    }
    // A dry run in memory: impossible options must not cost anybody an existing file.
    cow_engine::create(&block_io::MemoryStorage::new(), &engine).map_err(CreateError::Engine)?;
    let storage = open_empty(path)?;
    cow_engine::create(&storage, &engine).map_err(CreateError::Engine)?;
    Ok(())
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    if a == b {
        return true;
    }
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn open_empty(path: &Path) -> Result<block_io::FileStorage, CreateError> {
    let options = OpenOptions::new().write(true).create(Create::Truncate);
    options.open(path).map_err(CreateError::Storage)
}
