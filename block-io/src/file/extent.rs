//! Where data and holes of a file lie.

use std::fs::File;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::{Error, Extent, Operation, Result};

/// What lies at `offset` of a file of `len` bytes.
pub(super) fn at(file: &File, offset: u64, len: u64) -> Result<Option<Extent>> {
    let Some(rest) = len.checked_sub(offset).filter(|&rest| rest > 0) else {
        return Ok(None);
    };
    // The answers are cut to `len`: somebody may move the end between two questions.
    let run = |end: u64| (end - offset).min(rest);
    let failed = |errno: Errno| Error::io(Operation::Extent, offset, rest, errno.into());
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data > offset => return Ok(Some(Extent::hole(run(data)))),
        Ok(_) => {}
        Err(Errno::NXIO) => return Ok(Some(Extent::hole(rest))),
        Err(errno) if is_unsupported(errno) => return Ok(Some(Extent::data(rest))),
        Err(errno) => return Err(failed(errno)),
    }
    match seek(file, SeekFrom::Hole(offset)) {
        Ok(hole) if hole > offset => Ok(Some(Extent::data(run(hole)))),
        // The data was punched out between the two questions. Data is always a safe answer.
        Ok(_) | Err(Errno::NXIO) => Ok(Some(Extent::data(rest))),
        Err(errno) if is_unsupported(errno) => Ok(Some(Extent::data(rest))),
        Err(errno) => Err(failed(errno)),
    }
}

fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)
}
