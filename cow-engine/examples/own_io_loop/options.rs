//! What the example is asked for.

use std::path::PathBuf;

use super::Failure;

pub(crate) const HELP: &str = "\
own_io_loop [--requests N] [--depth N] [--seed N] [--direct] [--no-ring] [--folder PATH]

  --requests  guest requests to send (20000)
  --depth     most of them under way at once (64)
  --seed      which ones they are (1)
  --direct    open the image with O_DIRECT
  --no-ring   use pread and pwrite as if the host forbade io_uring
  --folder    where the images are made and removed again (the folder for temporary files)";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) requests: u64,
    pub(crate) depth: u32,
    pub(crate) seed: u64,
    pub(crate) direct: bool,
    pub(crate) no_ring: bool,
    pub(crate) folder: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        let folder = std::env::temp_dir();
        Self { requests: 20_000, depth: 64, seed: 1, direct: false, no_ring: false, folder }
    }
}

impl Options {
    /// `None` when help is asked for.
    pub(crate) fn from_arguments(
        mut words: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, Failure> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--requests" => options.requests = value()?.parse()?,
                "--depth" => options.depth = value()?.parse()?,
                "--seed" => options.seed = value()?.parse()?,
                "--folder" => options.folder = value()?.into(),
                "--direct" => options.direct = true,
                "--no-ring" => options.no_ring = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("{word}: unknown; see --help").into()),
            }
        }
        Ok(Some(options))
    }
}
