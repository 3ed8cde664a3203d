//! The flags that say which image is meant and how it is opened: the same for every verb that
//! only reads one.

use std::ffi::OsStr;

use super::image::ImageArg;
use crate::failure::Failure;
use crate::open::{How, Opened, open_for_verb};

/// Which image is meant and how it is opened.
#[derive(Debug, clap::Args)]
pub struct SourceFlags {
    /// Format of the image (guessed when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The image argument is a list of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    image_opts: bool,
    /// Guess the format of backing files whose overlay does not name it (unsafe)
    #[arg(long)]
    pub probe_backing: bool,
    /// Open it although somebody may be writing to it
    #[arg(short = 'U', long)]
    pub force_share: bool,
}

impl SourceFlags {
    /// The image that an argument names under these flags.
    ///
    /// # Errors
    /// As for [`ImageArg::parse`].
    pub fn image(&self, file: &OsStr) -> Result<ImageArg, Failure> {
        ImageArg::parse(file, self.format.as_deref(), self.image_opts)
    }

    /// Whether they say how to read the image, so that there must be one.
    #[must_use]
    pub fn says_how(&self) -> bool {
        self.image_opts || self.format.is_some()
    }

    /// Opens the image that an argument names, for reading.
    ///
    /// # Errors
    /// As for [`ImageArg::parse`] and [`open_for_verb`].
    pub fn open(&self, file: &OsStr) -> Result<(ImageArg, Opened), Failure> {
        let image = self.image(file)?;
        let how = How::reading(self.force_share, self.probe_backing);
        let opened = open_for_verb(&image, &how)?;
        Ok((image, opened))
    }
}
