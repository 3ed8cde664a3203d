//! What the loop works on: a raw base, and an overlay with a bit of everything in it.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use block_io::{Create, FileStorage, Storage, StorageExt as _};
use cow_engine::{Backing, BackingReference, BelowError, CreateOptions, Image, OpenOptions};

use super::Failure;

pub(crate) const CLUSTER: u64 = 64 << 10;
const DISK_BYTES: usize = 16 << 20;
/// Shorter than the disk: zeros lie behind its end.
const BASE_BYTES: usize = 12 << 20;

/// The overlay, its base, and what its guest sees. Its folder vanishes with it.
pub(crate) struct Disk {
    folder: PathBuf,
    file: Arc<FileStorage>,
    base: Arc<Base>,
    content: Vec<u8>,
}

impl Disk {
    pub(crate) fn make(parent: &Path, name: &str, direct: bool) -> Result<Self, Failure> {
        let folder = parent.join(format!("own-io-loop-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let new = block_io::OpenOptions::new().write(true).create(Create::Truncate);
        let base = new.open(folder.join("base.raw"))?;
        let mut content = vec![0; DISK_BYTES];
        let below = &mut content[..BASE_BYTES];
        for (sector, bytes) in below.chunks_mut(512).enumerate() {
            // Some clusters below are holes.
            if sector / 128 % 5 != 0 {
                bytes.fill((sector % 255) as u8 + 1);
            }
        }
        base.write_at(0, below)?;
        let mut options = CreateOptions::new(DISK_BYTES as u64);
        let (name, format) = ("base.raw".to_owned(), Some("raw".to_owned()));
        options.backing = Some(BackingReference { name, format });
        let file = new.direct(direct).open(folder.join("overlay.qcow2"))?;
        cow_engine::create(&file, &options)?;
        let mut disk = Self { folder, file: Arc::new(file), base: Arc::new(Base(base)), content };
        disk.fill()?;
        Ok(disk)
    }

    /// Plain and compressed clusters, here and there.
    fn fill(&mut self) -> Result<(), Failure> {
        let image = self.open()?;
        let mut compressor = image.compressor()?;
        for number in 0..DISK_BYTES as u64 / CLUSTER {
            let at = (number * CLUSTER) as usize;
            let cluster = &mut self.content[at..at + CLUSTER as usize];
            match number % 4 {
                0 => {
                    cluster.fill(number as u8);
                    image.write_at(at as u64, cluster)?;
                }
                1 if number % 8 == 1 => {
                    cluster.fill(!(number as u8));
                    image.write_compressed_at(&mut compressor, at as u64, cluster)?;
                }
                _ => {}
            }
        }
        Ok(image.close()?)
    }

    /// The file of the overlay, for the loop and for the engine.
    pub(crate) fn file(&self) -> Arc<FileStorage> {
        Arc::clone(&self.file)
    }

    /// What the guest sees before its first request.
    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(crate) fn open(&self) -> Result<Image, Failure> {
        let storage: Arc<dyn Storage> = self.file();
        let base: Arc<dyn Backing> = Arc::clone(&self.base) as Arc<dyn Backing>;
        Ok(Image::open(storage, OpenOptions::new().backing(Some(base)))?)
    }

    /// Asks the real tool whether the overlay is in order, if there is one.
    pub(crate) fn qemu_check(&self) -> Result<QemuCheck, Failure> {
        let overlay = self.folder.join("overlay.qcow2");
        self.file.lock(block_io::Lock::none())?;
        match Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(overlay).output() {
            Ok(output) if output.status.success() => Ok(QemuCheck::Clean),
            Ok(output) => {
                let (out, err) = (output.stdout, output.stderr);
                Err(String::from_utf8_lossy(&[out, err].concat()).into_owned().into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(QemuCheck::Absent),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be removed lies in a folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the real tool said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QemuCheck {
    Clean,
    Absent,
}

impl fmt::Display for QemuCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Absent => "not asked, it is not installed",
        })
    }
}

/// The raw base, as the engine wants to see what lies below.
#[derive(Debug)]
struct Base(FileStorage);

impl Backing for Base {
    fn virtual_size(&self) -> u64 {
        BASE_BYTES as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        let failed = |error| Arc::new(error) as BelowError;
        self.0.read_zero_filled(offset, buf).map(drop).map_err(failed)
    }

    fn reads_as_zeros(&self, _: u64, _: u64) -> Result<bool, BelowError> {
        Ok(false) // Unknown.
    }
}
