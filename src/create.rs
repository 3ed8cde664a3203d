//! Making a new image file: raw or qcow2, on top of another one, with space prepared in advance,
//! with its guest data in a file of its own.

mod error;
mod new_file;
mod options;
mod record;
mod same_file;

use std::path::Path;

use block_io::Storage;
use chain::{Chain, Format, Policy};
use cow_engine::{CreatePlan, Preallocation};
use qcow2_format::{ClusterBits, RefcountOrder};

use new_file::NewFile;
use same_file::{is_below, is_same_file};

pub use error::CreateError;
pub use options::{CreateOptions, EXTENT_SIZE_HINT_DEFAULT, HostHints, Qcow2Options};

/// Zeros written at once to a raw image of which all space is to be used.
const ZEROS_BYTES: usize = 2 << 20;

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

/// Makes the image. An existing file is overwritten, unless somebody uses it. If that fails
/// half-way, no file is left.
///
/// The name of an external data file is taken from the current folder, as it will be when the
/// image is opened.
///
/// # Errors
/// Options that are not possible (nothing is touched then), or a host failure.
pub fn create(path: &Path, options: &CreateOptions) -> Result<(), CreateError> {
    let found = options.virtual_size;
    let size = whole_sectors(found).ok_or(CreateError::Size { found })?;
    match options.format {
        Format::Raw => create_raw(path, size, options),
        Format::Qcow2 => create_qcow2(path, size, options),
    }
}

/// A size rounded up to whole sectors; `None` when no file can have it.
pub(crate) fn whole_sectors(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(512).filter(|size| i64::try_from(*size).is_ok())
}

fn create_raw(path: &Path, size: u64, options: &CreateOptions) -> Result<(), CreateError> {
    if options.qcow2.backing.is_some() {
        return Err(CreateError::RawBacking);
    }
    if options.preallocation == Preallocation::Metadata {
        return Err(CreateError::RawMetadata);
    }
    let file = NewFile::open(path, options.hints).map_err(CreateError::Storage)?;
    fill_raw(file.storage(), size, options.preallocation).map_err(|error| {
        file.remove();
        CreateError::Storage(error)
    })
}

fn fill_raw(file: &dyn Storage, size: u64, preallocation: Preallocation) -> block_io::Result<()> {
    file.set_len(0)?;
    // A device keeps its length, and its old bytes.
    let is_device = file.len()? > 0;
    file.set_len(size)?;
    match preallocation {
        Preallocation::Full => {
            let zeros = vec![0; size.min(ZEROS_BYTES as u64) as usize];
            let mut done = 0;
            while done < size {
                let now = (size - done).min(zeros.len() as u64);
                file.write_at(done, &zeros[..now as usize])?;
                done += now;
            }
            Ok(())
        }
        Preallocation::Falloc if !is_device => file.allocate(0, size),
        _ => Ok(()),
    }
}

fn create_qcow2(path: &Path, size: u64, options: &CreateOptions) -> Result<(), CreateError> {
    let engine = engine_options(size, options)?;
    // Impossible options must not cost anybody an existing file.
    let plan = CreatePlan::new(&engine).map_err(CreateError::Engine)?;
    let data_path = options.qcow2.data_file.as_ref().map(|file| Path::new(&file.name));
    refuse_same_files(path, data_path, options)?;
    let plan = record::with_base(plan, engine, path, &options.qcow2);
    let image = NewFile::open(path, options.hints).map_err(CreateError::Storage)?;
    let data = match data_path.map(|path| NewFile::open(path, options.hints)).transpose() {
        Ok(data) => data,
        Err(source) => {
            image.remove_if_new();
            let path = data_path.unwrap_or(path).to_owned();
            return Err(CreateError::DataFile { path, source });
        }
    };
    let written = data.as_ref().map_or(Ok(()), |data| plan.write_data_file(data.storage()));
    written.and_then(|()| plan.write(image.storage())).map_err(|error| {
        image.remove();
        data.into_iter().for_each(NewFile::remove);
        CreateError::Engine(error)
    })
}

/// What the engine is asked for.
pub(crate) fn engine_options(
    size: u64,
    options: &CreateOptions,
) -> Result<cow_engine::CreateOptions, CreateError> {
    let CreateOptions { preallocation, qcow2, .. } = options;
    let found = qcow2.cluster_size;
    let bits = found.is_power_of_two().then(|| ClusterBits::new(found.trailing_zeros()).ok());
    let cluster_bits = bits.flatten().ok_or(CreateError::ClusterSize { found })?;
    let found = qcow2.refcount_bits;
    let order = found.is_power_of_two().then(|| RefcountOrder::new(found.trailing_zeros()).ok());
    let refcount_order = order.flatten().ok_or(CreateError::RefcountBits { found })?;
    Ok(cow_engine::CreateOptions {
        virtual_size: size,
        version: qcow2.version,
        cluster_bits,
        refcount_order,
        compression_type: qcow2.compression,
        lazy_refcounts: qcow2.lazy_refcounts,
        extended_l2: qcow2.extended_l2,
        preallocation: *preallocation,
        backing: qcow2.backing.clone(),
        base_pin: None,
        data_file: qcow2.data_file.clone(),
    })
}

/// Refuses names that lead to one file: what is made must not destroy what it is made on, however
/// deep that lies.
fn refuse_same_files(
    path: &Path,
    data: Option<&Path>,
    options: &CreateOptions,
) -> Result<(), CreateError> {
    let backing = options.qcow2.backing.as_ref();
    let is_of_backing = |file: &Path| {
        backing.is_some_and(|backing| {
            chain::resolve_name(path, &backing.name).is_ok_and(|below| is_same_file(file, &below))
                || is_below(file, path, backing)
        })
    };
    if is_of_backing(path) {
        return Err(CreateError::OwnBacking);
    }
    match data {
        Some(data) if is_same_file(path, data) => Err(CreateError::OwnDataFile),
        Some(data) if is_of_backing(data) => Err(CreateError::DataFileIsBacking),
        _ => Ok(()),
    }
}
