//! This house, as its users have it: a chain opened through the facade.

use std::path::Path;

use qimg::chain::{Chain, Format, OpenOptions};

use crate::contender::{Disk, Handle};
use crate::failure::{Failure, Outcome};

struct Ours(Chain);

pub(super) fn open(path: &Path, writable: bool) -> Outcome<Handle> {
    let options = OpenOptions::new().format(Format::Qcow2).read_only(!writable);
    let chain = Chain::open(path, &options).map_err(failed)?;
    Ok(Handle::Shared(Box::new(Ours(chain))))
}

fn failed(error: qimg::chain::Error) -> Failure {
    Failure::of("qimg")(&error)
}

impl Disk for Ours {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Outcome {
        self.0.read_at(offset, buf).map_err(failed)
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Outcome {
        self.0.write_at(offset, buf).map_err(failed)
    }

    fn flush(&self) -> Outcome {
        self.0.flush().map_err(failed)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.0.close().map_err(failed)
    }
}
