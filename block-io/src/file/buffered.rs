//! Host reads and writes that go on until everything is done: interrupted and partial calls are
//! retried here. Used as they are by buffered files, and by direct files on fitting requests.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};

use rustix::io::retry_on_intr;

use crate::{Error, Operation, Result};

/// Most buffers the host takes in one call (`IOV_MAX`).
const BUFFERS_MAX: usize = 1024;

/// Reads until `buf` is full or the file ends.
pub(super) fn read(file: &File, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let mut found = 0;
    while found < buf.len() {
        match read_once(file, offset + found as u64, &mut buf[found..])? {
            0 => break,
            count => found += count,
        }
    }
    Ok(found)
}

/// One host call, repeated only when it was interrupted.
pub(super) fn read_once(file: &File, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let len = buf.len() as u64;
    retry_on_intr(|| rustix::io::pread(file, &mut *buf, offset))
        .map_err(|errno| Error::io(Operation::Read, offset, len, errno.into()))
}

/// One host call for as many buffers as the host takes, repeated only when it was interrupted.
pub(super) fn read_vectored_once(
    file: &File,
    offset: u64,
    bufs: &mut [IoSliceMut<'_>],
) -> Result<usize> {
    let count = bufs.len().min(BUFFERS_MAX);
    let bufs = &mut bufs[..count];
    let len: usize = bufs.iter().map(|buf| buf.len()).sum();
    retry_on_intr(|| rustix::io::preadv(file, &mut *bufs, offset))
        .map_err(|errno| Error::io(Operation::Read, offset, len as u64, errno.into()))
}

/// Reads until all buffers are full or the file ends.
pub(super) fn read_vectored(
    file: &File,
    offset: u64,
    bufs: &mut [IoSliceMut<'_>],
) -> Result<usize> {
    let mut found = 0;
    for group in bufs.chunks_mut(BUFFERS_MAX) {
        let at = offset + found as u64;
        let wanted: usize = group.iter().map(|buf| buf.len()).sum();
        let count = match retry_on_intr(|| rustix::io::preadv(file, &mut *group, at)) {
            Ok(count) if count < wanted => finish_read(file, at, group, count)?,
            Ok(count) => count,
            Err(errno) => {
                return Err(Error::io(Operation::Read, at, wanted as u64, errno.into()));
            }
        };
        found += count;
        if count < wanted {
            break;
        }
    }
    Ok(found)
}

/// Goes on after a short vectored read, buffer by buffer. Rare: the file ends, or the request is
/// larger than the host takes at once.
fn finish_read(
    file: &File,
    offset: u64,
    bufs: &mut [IoSliceMut<'_>],
    done: usize,
) -> Result<usize> {
    let (mut found, mut skip) = (done, done);
    for buf in bufs {
        let Some(rest) = buf.get_mut(skip..).filter(|rest| !rest.is_empty()) else {
            skip -= buf.len();
            continue;
        };
        skip = 0;
        let count = read(file, offset + found as u64, rest)?;
        found += count;
        if count < rest.len() {
            break;
        }
    }
    Ok(found)
}

/// Writes until all of `buf` is written.
pub(super) fn write(file: &File, offset: u64, buf: &[u8]) -> Result<()> {
    let mut done = 0;
    while done < buf.len() {
        let (at, rest) = (offset + done as u64, &buf[done..]);
        let failed = |error| Error::io(Operation::Write, at, rest.len() as u64, error);
        match retry_on_intr(|| rustix::io::pwrite(file, rest, at)) {
            Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
            Ok(count) => done += count,
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    Ok(())
}

/// Writes until all buffers are written.
pub(super) fn write_vectored(file: &File, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
    let mut at = offset;
    for group in bufs.chunks(BUFFERS_MAX) {
        let wanted: usize = group.iter().map(|buf| buf.len()).sum();
        match retry_on_intr(|| rustix::io::pwritev(file, group, at)) {
            Ok(count) if count < wanted => finish_write(file, at, group, count)?,
            Ok(_) => {}
            Err(errno) => {
                return Err(Error::io(Operation::Write, at, wanted as u64, errno.into()));
            }
        }
        at += wanted as u64;
    }
    Ok(())
}

/// Goes on after a short vectored write, buffer by buffer.
fn finish_write(file: &File, offset: u64, bufs: &[IoSlice<'_>], done: usize) -> Result<()> {
    let (mut at, mut skip) = (offset + done as u64, done);
    for buf in bufs {
        let Some(rest) = buf.get(skip..).filter(|rest| !rest.is_empty()) else {
            skip -= buf.len();
            continue;
        };
        skip = 0;
        write(file, at, rest)?;
        at += rest.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the host would have left undone, for every possible count of bytes done.
    #[test]
    fn a_short_vectored_transfer_is_finished_from_any_point() {
        let text = b"0123456789abcdef";
        for done in 0..=text.len() {
            let file = tempfile::tempfile().unwrap();
            write(&file, 3, &text[..done]).unwrap();
            let bufs = [&text[..1], &text[1..1], &text[1..10], &text[10..]].map(IoSlice::new);
            finish_write(&file, 3, &bufs, done).unwrap();
            let mut whole = [0; 16];
            assert_eq!(read(&file, 3, &mut whole).unwrap(), 16);
            assert_eq!(&whole, text, "after {done} bytes");

            let (mut a, mut b, mut c, mut d) = ([0; 1], [0; 0], [0; 9], [0; 9]);
            a.copy_from_slice(&text[..1]);
            let taken = done.clamp(1, 10) - 1;
            c[..taken].copy_from_slice(&text[1..1 + taken]);
            let tail = done.saturating_sub(10);
            d[..tail].copy_from_slice(&text[10..10 + tail]);
            let mut bufs = [&mut a[..], &mut b, &mut c, &mut d].map(IoSliceMut::new);
            assert_eq!(finish_read(&file, 3, &mut bufs, done.max(1)).unwrap(), 16);
            assert_eq!([&a[..], &b, &c, &d[..6]].concat(), text, "after {done} bytes");
        }
    }

    #[test]
    fn more_buffers_than_the_host_takes_at_once() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
        let bufs: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
        write_vectored(&file, 1, &bufs).unwrap();
        let mut back = vec![0; 3000];
        let mut bufs: Vec<_> = back.chunks_mut(1).map(IoSliceMut::new).collect();
        assert_eq!(read_vectored(&file, 1, &mut bufs).unwrap(), 3000);
        assert_eq!(back, bytes);
    }
}
