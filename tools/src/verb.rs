//! The verbs of `qimg`, one file each.

pub mod amend;
pub mod audit;
pub mod bench;
pub mod chain;
pub mod check;
pub mod commit;
pub mod compare;
pub mod convert;
pub mod create;
pub mod dd;
pub mod demo;
pub mod explain;
pub mod hash;
pub mod info;
pub mod map;
pub mod measure;
mod operation;
pub mod rebase;
pub mod resize;
pub mod snapshot;
pub mod view;

use std::ffi::{OsStr, OsString};

use crate::args::object;
use crate::failure::Failure;

/// The one file a verb works on.
///
/// # Errors
/// None or several were named.
pub(crate) fn one_file<'a>(verb: &str, files: &'a [OsString]) -> Result<&'a OsStr, Failure> {
    match files {
        [file] => Ok(file),
        _ => Err(Failure::usage("qimg", verb, "Expecting one image file name")),
    }
}

/// Refuses every `--object` that is not a secret.
///
/// # Errors
/// One is none, or is not complete.
pub(crate) fn refuse_objects(objects: &[String]) -> Result<(), Failure> {
    object::check_all(objects)
}
