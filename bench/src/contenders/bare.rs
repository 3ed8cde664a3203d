//! `pread` and `pwrite`: what the host can do.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contender::{Disk, Handle};
use crate::failure::{Failure, Outcome};

struct Bare(File);

pub(super) fn open(path: &Path, writable: bool) -> Outcome<Handle> {
    let file =
        File::options().read(true).write(writable).open(path).map_err(Failure::file(path))?;
    Ok(Handle::Shared(Box::new(Bare(file))))
}

/// A file that clusters are copied to from a raw file below, each with the guest's bytes in it: what
/// has to be read and written for a first write, and nothing else.
struct Copying {
    file: File,
    below: File,
    next: AtomicU64,
}

const CLUSTER: u64 = 64 << 10;

pub(crate) fn open_over(path: &Path, below: &Path) -> Outcome<Handle> {
    let file = File::options().read(true).write(true).open(path).map_err(Failure::file(path))?;
    file.set_len(0).map_err(Failure::file(path))?;
    let below = File::open(below).map_err(Failure::file(below))?;
    Ok(Handle::Shared(Box::new(Copying { file, below, next: AtomicU64::new(0) })))
}

impl Disk for Copying {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Outcome {
        self.below.read_exact_at(buf, offset).map_err(failed)
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Outcome {
        thread_local! {
            static BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; CLUSTER as usize]);
        }
        BYTES.with_borrow_mut(|bytes| {
            let skip = (offset % CLUSTER) as usize;
            self.below.read_exact_at(bytes, offset - skip as u64).map_err(failed)?;
            bytes[skip..skip + buf.len()].copy_from_slice(buf);
            let host = self.next.fetch_add(CLUSTER, Ordering::Relaxed);
            self.file.write_all_at(bytes, host).map_err(failed)
        })
    }

    fn flush(&self) -> Outcome {
        self.file.sync_data().map_err(failed)
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Failure {
    Failure::of("bare")(&error)
}

impl Disk for Bare {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Outcome {
        self.0.read_exact_at(buf, offset).map_err(failed)
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Outcome {
        self.0.write_all_at(buf, offset).map_err(failed)
    }

    fn flush(&self) -> Outcome {
        self.0.sync_data().map_err(failed)
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(())
    }
}
