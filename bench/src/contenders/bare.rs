//! `pread` and `pwrite` on a raw file: what the host can do.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::contender::{Disk, Handle};
use crate::failure::{Failure, Outcome};

struct Bare(File);

pub(super) fn open(path: &Path, writable: bool) -> Outcome<Handle> {
    let file = File::options().read(true).write(writable).open(path).map_err(Failure::file(path))?;
    Ok(Handle::Shared(Box::new(Bare(file))))
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
