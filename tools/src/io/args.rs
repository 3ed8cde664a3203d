//! The command line of `qimg-io`.

use std::ffi::{OsStr, OsString};

use clap::Parser;

use crate::args::object;
use crate::failure::Failure;

/// Reads and writes images by commands, as qemu-io does.
#[derive(Debug, Parser)]
#[command(name = "qimg-io", version, args_override_self = true, infer_long_args = true)]
pub struct Args {
    /// Run one command (may be repeated); without any, commands come from standard input
    #[arg(short = 'c', long = "cmd", value_name = "COMMAND", allow_hyphen_values = true)]
    pub commands: Vec<String>,
    /// Format of the image (guessed when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    pub format: Option<String>,
    /// The image argument is a list of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    pub image_opts: bool,
    /// Open read-only
    #[arg(short, long)]
    pub read_only: bool,
    /// Write to a temporary overlay that is dropped at the end
    #[arg(short, long)]
    pub snapshot: bool,
    /// Short for -t none
    #[arg(short, long)]
    pub nocache: bool,
    /// Not offered: copy what is read from backing files into the image
    #[arg(short = 'C', long)]
    pub copy_on_read: bool,
    /// Accepted for compatibility, without effect
    #[arg(short, long)]
    pub misalign: bool,
    /// Accepted for compatibility, without effect
    #[arg(short = 'k', long)]
    pub native_aio: bool,
    /// How requests reach the host: threads, native (both plain calls) or io_uring (if built with it)
    #[arg(short = 'i', long, value_name = "MODE", allow_hyphen_values = true)]
    pub aio: Option<String>,
    /// Cache mode: writeback, writethrough (default), none, directsync, unsafe
    #[arg(short = 't', long, value_name = "MODE", allow_hyphen_values = true)]
    pub cache: Option<String>,
    /// Discard mode: ignore, off, unmap or on
    #[arg(short, long, value_name = "MODE", allow_hyphen_values = true)]
    pub discard: Option<String>,
    /// Open it although somebody may be writing to it (read-only)
    #[arg(short = 'U', long)]
    pub force_share: bool,
    /// Guess the format of backing files whose overlay does not name it (unsafe)
    #[arg(long)]
    pub probe_backing: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    pub object: Vec<String>,
    /// Not offered: tracing
    #[arg(short = 'T', long, value_name = "SPEC", allow_hyphen_values = true)]
    pub trace: Option<String>,
    /// Image file
    #[arg(value_name = "FILE")]
    pub files: Vec<OsString>,
}

impl Args {
    /// The image named on the command line, if any.
    ///
    /// # Errors
    /// More than one, or a flag that is not offered.
    pub fn file(&self) -> Result<Option<&OsStr>, Failure> {
        if self.image_opts && self.format.is_some() {
            return Err(Failure::new("--image-opts and -f are mutually exclusive"));
        }
        object::check_all(&self.object)?;
        if self.trace.is_some() {
            return Err(Failure::new("--trace is not offered; leave it out"));
        }
        match self.files.as_slice() {
            [] => Ok(None),
            [file] => Ok(Some(file)),
            _ => Err(Failure::usage("qimg-io", "", "Expecting at most one image file name")),
        }
    }
}
