//! The base image: an ext4 file system from files of the machine, or generated content.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::tool;
use crate::failure::Failure;
use crate::report::bytes;

/// Size of the disk.
const DISK_BYTES: u64 = 96 << 20;
/// Most bytes taken from the machine.
const FILES_BYTES_MAX: u64 = 32 << 20;
/// Where files are taken from; the first that is there.
const FOLDERS: [&str; 3] = ["/usr/share/doc", "/usr/share", "/etc"];
/// A file of blocks that can be recognised on the disk: changing them changes what a file
/// holds and nothing that the file system relies on.
const SCRATCH_BYTES: u64 = 24 << 20;
/// Unit in which the file system places files.
pub(super) const BLOCK: usize = 4096;
/// First bytes of each block of the scratch file; its number follows.
const MARK: &[u8; 16] = b"qimg demo block ";

/// The base image.
pub(super) struct Base {
    /// What it is, in one line.
    pub(super) description: String,
    /// Whether it holds a file system that can be checked.
    pub(super) file_system: bool,
    /// All of its bytes.
    pub(super) bytes: Vec<u8>,
    /// Offsets of blocks that may be changed freely.
    pub(super) blocks: Vec<u64>,
}

impl Base {
    /// Makes `base.raw` in a folder.
    pub(super) fn make(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("base.raw");
        let failed = |error: std::io::Error| {
            Failure::new(format!("cannot make '{}': {error}", path.display()))
        };
        let (description, file_system) = match file_system(&path).map_err(failed)? {
            Some(description) => (description, true),
            None => (generated(&path).map_err(failed)?, false),
        };
        let bytes = fs::read(&path).map_err(failed)?;
        let blocks = scratch_blocks(&bytes);
        if blocks.len() < 64 {
            return Err(Failure::new("the base image has too few blocks to write to"));
        }
        Ok(Self { description, file_system, bytes, blocks })
    }

    /// Size of the disk in bytes.
    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Makes an ext4 file system where `mke2fs` is there; `None` where it is not or fails.
fn file_system(path: &Path) -> std::io::Result<Option<String>> {
    if tool::find("mke2fs").is_none() {
        return Ok(None);
    }
    let stage = tempfile::tempdir()?;
    let mut taken = Taken::default();
    let source = FOLDERS.iter().map(Path::new).find(|folder| folder.is_dir());
    if let Some(source) = source {
        copy_some(source, &stage.path().join("files"), &mut taken);
    }
    write_scratch(&mut File::create(stage.path().join("scratch.bin"))?)?;
    File::create(path)?.set_len(DISK_BYTES)?;
    let (stage, image) = (stage.path().as_os_str(), path.as_os_str());
    let words = ["-q", "-F", "-t", "ext4", "-b", "4096", "-d"].map(std::ffi::OsStr::new);
    if tool::succeeds("mke2fs", words.into_iter().chain([stage, image])) != Some(true) {
        return Ok(None);
    }
    Ok(Some(format!(
        "base.raw: {}, ext4 with {} files ({}) from {}",
        bytes::human(DISK_BYTES),
        taken.files,
        bytes::human(taken.bytes),
        source.map_or_else(|| "nowhere".into(), |source| source.display().to_string()),
    )))
}

/// Content of our own, where no file system can be made.
fn generated(path: &Path) -> std::io::Result<String> {
    let mut file = File::create(path)?;
    file.set_len(DISK_BYTES)?;
    file.seek(SeekFrom::Start(1 << 20))?;
    write_scratch(&mut file)?;
    Ok(format!("base.raw: {}, generated content (mke2fs is not there)", bytes::human(DISK_BYTES)))
}

fn write_scratch(file: &mut File) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(file);
    for number in 0..SCRATCH_BYTES / BLOCK as u64 {
        let mut block = [0x5a; BLOCK];
        block[..MARK.len()].copy_from_slice(MARK);
        block[MARK.len()..MARK.len() + 8].copy_from_slice(&number.to_le_bytes());
        out.write_all(&block)?;
    }
    out.flush()
}

/// Where the blocks of the scratch file lie on the disk.
fn scratch_blocks(disk: &[u8]) -> Vec<u64> {
    let blocks = disk.chunks_exact(BLOCK).enumerate();
    let marked = blocks.filter(|(_, block)| block.starts_with(MARK));
    marked.map(|(index, _)| (index * BLOCK) as u64).collect()
}

/// What was taken from the machine.
#[derive(Default)]
struct Taken {
    files: u64,
    bytes: u64,
}

/// Copies regular files, as far as they are readable and the limit allows.
fn copy_some(from: &Path, to: &Path, taken: &mut Taken) {
    let Ok(entries) = fs::read_dir(from) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    if fs::create_dir_all(to).is_err() {
        return;
    }
    for path in paths {
        let (Ok(kind), Some(name)) = (fs::symlink_metadata(&path), path.file_name()) else {
            continue;
        };
        if kind.is_dir() {
            copy_some(&path, &to.join(name), taken);
        } else if kind.is_file()
            && taken.bytes + kind.len() <= FILES_BYTES_MAX
            && fs::copy(&path, to.join(name)).is_ok()
        {
            taken.files += 1;
            taken.bytes += kind.len();
        }
    }
}
