//! Queues and storages on real rings. A host without io_uring fails these tests: what is not run is
//! not proven.

mod early_end;
mod queue;
mod storage;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::{Alignment, Create, OpenOptions};

/// Beside the build, on a file system with direct I/O; `/tmp` may be one without.
fn folder() -> TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

fn writable() -> OpenOptions {
    OpenOptions::new().write(true).create(Create::New)
}

/// A pipe: its two ends, reading first. A read of it stays under way until somebody writes.
fn pipe() -> (Arc<File>, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Arc::new(OwnedFd::from(reader).into()), OwnedFd::from(writer).into())
}

fn buffer(len: usize) -> Buffer {
    let mut buffer = Buffer::zeroed(Alignment::NONE, len);
    buffer.fill(0xcc);
    buffer
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn errno(result: &crate::Result<usize>) -> Option<i32> {
    result.as_ref().err().and_then(crate::Error::raw_os_error)
}

const CANCELED: Option<i32> = Some(libc::ECANCELED);

/// The bytes a pipe holds right now.
fn pipe_content(reader: &File, writer: File) -> Vec<u8> {
    drop(writer);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &*reader, &mut bytes).unwrap();
    bytes
}

fn send(writer: &mut File, bytes: &[u8]) {
    writer.write_all(bytes).unwrap();
}
