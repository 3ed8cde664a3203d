//! `imago` with its blocking calls, which are its fastest.

use std::path::Path;

use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};

use crate::contender::{Disk, Handle};
use crate::failure::{Failure, Outcome};

struct Imago(FormatAccess<File>);

pub(super) fn open(path: &Path, writable: bool) -> Outcome<Handle> {
    let builder = Qcow2::<File>::builder_path(path).write(writable);
    let image = builder.open(PermissiveImplicitOpenGate::default()).map_err(failed)?;
    Ok(Handle::Shared(Box::new(Imago(FormatAccess::new(image)))))
}

fn failed(error: std::io::Error) -> Failure {
    Failure::of("imago")(&error)
}

impl Disk for Imago {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Outcome {
        self.0.read(buf, offset).map_err(failed)
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Outcome {
        self.0.write(buf, offset).map_err(failed)
    }

    fn flush(&self) -> Outcome {
        self.0.flush().map_err(failed)?;
        self.0.sync().map_err(failed)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.0.flush().map_err(failed)
    }
}
