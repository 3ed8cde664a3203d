//! The verbs of `qimg`, one file each.

pub mod audit;
pub mod chain;
pub mod check;
pub mod compare;
pub mod convert;
pub mod create;
pub mod demo;
pub mod explain;
pub mod hash;
pub mod info;
pub mod map;
pub mod resize;
pub mod view;

use std::ffi::{OsStr, OsString};

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

/// Refuses `--object`: it carries keys, and encrypted images are not opened yet.
///
/// # Errors
/// It was given.
pub(crate) fn refuse_objects(objects: &[String]) -> Result<(), Failure> {
    match objects {
        [] => Ok(()),
        _ => Err(Failure::new("--object is not offered yet: encrypted images are not opened")),
    }
}
