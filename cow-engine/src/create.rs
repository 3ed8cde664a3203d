//! Creating an image: the whole layout first, then everything but the header, then the header.
//!
//! Until the header is written the file is not a qcow2 image, so a crash in between leaves
//! nothing that could be taken for one.

mod layout;
mod plan;
mod refcount_blocks;
mod stream;
mod write;

use block_io::Storage;
use qcow2_format::Header;

use crate::error::{Error, Result};
use crate::options::CreateOptions;

pub use plan::{CreatePlan, PlannedArea};

/// Makes an empty image in `storage`, whose former content is lost.
///
/// # Errors
/// An option the format does not allow (nothing is touched then), an external data file, or a host
/// failure.
pub fn create(storage: &dyn Storage, options: &CreateOptions) -> Result<Header> {
    let plan = CreatePlan::new(options)?;
    if let Some(file) = &options.data_file {
        return Err(Error::Option {
            name: "data_file",
            found: file.name.clone(),
            allowed: "nothing without a storage for it",
        });
    }
    plan.write(storage)?;
    Ok(plan.into_header())
}

/// Makes an empty image in `storage` with its guest data in `data`, which gets the length of the
/// virtual disk. The former content of both is lost.
///
/// # Errors
/// An option the format does not allow, or none for a data file (nothing is touched then), or a
/// host failure.
pub fn create_with_data_file(
    storage: &dyn Storage,
    data: &dyn Storage,
    options: &CreateOptions,
) -> Result<Header> {
    let plan = CreatePlan::new(options)?;
    if options.data_file.is_none() {
        return Err(Error::Option {
            name: "data_file",
            found: "nothing".into(),
            allowed: "a name for the header",
        });
    }
    plan.write_data_file(data)?;
    plan.write(storage)?;
    Ok(plan.into_header())
}
