//! `HostFiles`: the files of this host, by path.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::OpenOptions;
use crate::{Error, Files, Operation, Result, Storage};

/// The files of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFiles;

/// The folder that holds the last part of a path.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Files for HostFiles {
    fn open(&self, path: &Path, options: &OpenOptions) -> Result<Arc<dyn Storage>> {
        let file = options.open(path)?;
        #[cfg(feature = "io-uring")]
        if options.wants_ring() {
            return Ok(Arc::new(crate::UringStorage::new(file)?));
        }
        Ok(Arc::new(file))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        let renamed = rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
        match renamed {
            // Not every file system knows the flag; a second link does the same in two steps.
            Err(Errno::INVAL | Errno::NOSYS) => link_then_unlink(from, to),
            renamed => renamed.map_err(|errno| Error::open(to, errno.into())),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| Error::open(path, error))
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        let folder = folder_of(path);
        let file = File::open(folder).map_err(|error| Error::open(folder, error))?;
        match file.sync_all() {
            // A file system that cannot sync a folder has no more to promise.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced.map_err(|error| Error::host(Operation::Sync, error)),
        }
    }

    fn neighbours(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let folder = folder_of(path);
        let refuse = |error| Error::open(folder, error);
        let prefix = path.parent().unwrap_or(Path::new(""));
        let entry = |entry: io::Result<std::fs::DirEntry>| match entry {
            Ok(entry) => Some(Ok(prefix.join(entry.file_name()))).filter(|_| may_be_image(&entry)),
            Err(error) => Some(Err(refuse(error))),
        };
        std::fs::read_dir(folder).map_err(refuse)?.filter_map(entry).collect()
    }
}

/// Whether a name leads to a regular file or a block device. Others are not to be opened out of mere
/// curiosity: in `/dev` that alone may start a watchdog or wind a tape.
fn may_be_image(entry: &std::fs::DirEntry) -> bool {
    let kind = std::fs::metadata(entry.path()).map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_file() || kind.is_block_device())
}

fn link_then_unlink(from: &Path, to: &Path) -> Result<()> {
    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())
        .map_err(|errno| Error::open(to, errno.into()))?;
    std::fs::remove_file(from).map_err(|error| Error::open(from, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Create;

    #[test]
    fn only_what_may_be_an_image_is_a_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), b"").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for (name, to) in [("link", "file"), ("device", "/dev/null"), ("dangling", "nowhere")] {
            std::os::unix::fs::symlink(to, path(name)).unwrap();
        }
        let mut found = HostFiles.neighbours(&path("file")).unwrap();
        found.sort();
        assert_eq!(found, [path("file"), path("link")]);
    }

    #[test]
    fn a_name_that_is_taken_stays_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, b"a").unwrap();
        std::fs::write(&b, b"b").unwrap();
        let refused = HostFiles.rename_new(&a, &b).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(link_then_unlink(&a, &b).is_err());
        assert_eq!(std::fs::read(&b).unwrap(), b"b");
        HostFiles.remove(&b).unwrap();
        HostFiles.rename_new(&a, &b).unwrap();
        HostFiles.sync_folder(&b).unwrap();
        assert_eq!((std::fs::read(&b).unwrap(), a.exists()), (b"a".to_vec(), false));
        link_then_unlink(&b, &a).unwrap();
        assert_eq!(HostFiles.neighbours(&b).unwrap(), std::slice::from_ref(&a));
        let new = OpenOptions::new().write(true).create(Create::New);
        assert!(HostFiles.open(&a, &new).is_err());
        HostFiles.open(&b, &new).unwrap().write_at(0, b"new").unwrap();
        assert_eq!(std::fs::read(&b).unwrap(), b"new");
    }
}
