//! What is bounced on a real file, and what is not.

use std::io::{IoSlice, IoSliceMut};

use tempfile::TempDir;

use crate::{AlignedBuffer, Alignment, Create, FileStorage, OpenOptions, Storage};

/// Beside the build, on a file system with direct I/O; `/tmp` may be one without.
fn direct_file() -> (TempDir, FileStorage) {
    let program = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let options = OpenOptions::new().write(true).create(Create::New).direct(true);
    let file = options.open(folder.path().join("file")).unwrap();
    assert!(file.alignment().request() > 1, "a direct file must have an alignment");
    (folder, file)
}

fn bounces(file: &FileStorage) -> usize {
    file.direct.as_ref().unwrap().bounces.kept()
}

fn pattern(alignment: Alignment, len: usize) -> AlignedBuffer {
    let mut bytes = AlignedBuffer::zeroed(alignment, len);
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = (i % 251) as u8;
    }
    bytes
}

#[test]
fn fitting_requests_are_not_copied() {
    let (_folder, file) = direct_file();
    let bytes = pattern(file.alignment(), 1 << 20);
    file.write_at(0, &bytes).unwrap();
    let (a, b) = bytes.split_at(64 << 10);
    file.write_vectored_at(1 << 20, &[IoSlice::new(a), IoSlice::new(b)]).unwrap();
    let mut back = AlignedBuffer::zeroed(file.alignment(), 1 << 20);
    assert_eq!(file.read_at(0, &mut back).unwrap(), 1 << 20);
    assert!(*back == *bytes);
    let (a, b) = back.split_at_mut(4096);
    a.fill(0);
    let mut bufs = [IoSliceMut::new(a), IoSliceMut::new(b)];
    assert_eq!(file.read_vectored_at(1 << 20, &mut bufs).unwrap(), 1 << 20);
    assert!(*back == *bytes);
    // The end of the file within a fitting request is no reason either.
    assert_eq!(file.read_at((2 << 20) - 4096, &mut back).unwrap(), 4096);
    assert_eq!(bounces(&file), 0, "something was bounced");
}

#[test]
fn only_edges_of_large_requests_are_copied() {
    let (_folder, file) = direct_file();
    let unit = file.alignment().request() as usize;
    let memory = pattern(file.alignment(), (1 << 20) + 2 * unit);
    let request = &memory[100..100 + (1 << 20)];
    file.write_at(100, request).unwrap();
    assert_eq!(file.len().unwrap(), 100 + (1 << 20));
    let mut back = AlignedBuffer::zeroed(file.alignment(), (1 << 20) + 2 * unit);
    assert_eq!(file.read_at(100, &mut back[100..100 + (1 << 20)]).unwrap(), 1 << 20);
    assert!(back[100..100 + (1 << 20)] == *request);
    let kept = file.direct.as_ref().unwrap().bounces.take(unit);
    drop(kept);
    assert_eq!(bounces(&file), 1, "one small buffer serves both edges");
}

/// Every way to lie across blocks and buffers, against a plain vector.
#[test]
fn any_cut_reads_and_writes_what_it_should() {
    let (_folder, file) = direct_file();
    let alignment = Alignment::new(512, 512).unwrap();
    let mut expected = vec![0u8; 400 << 10];
    file.set_len(400 << 10).unwrap();
    let mut seed = 0x9e37_79b9_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let memory = pattern(alignment, 400 << 10);
    for round in 0..200 {
        let unit = [1, 256, 512, 4096][random(4)];
        let offset = random((100 << 10) / unit) * unit;
        let lens: Vec<usize> = (0..=random(4)).map(|_| random((50 << 10) / unit) * unit).collect();
        let parts: Vec<&[u8]> =
            lens.iter().map(|len| &memory[random(100) * [1, 512][random(2)]..][..*len]).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_vectored_at(offset as u64, &slices).unwrap();
        let joined = parts.concat();
        expected[offset..offset + joined.len()].copy_from_slice(&joined);

        let shift = [0, 1, 512][random(3)];
        let mut back = AlignedBuffer::zeroed(alignment, joined.len() + 1024);
        let mut rest = &mut back[shift..shift + joined.len()];
        let mut bufs = Vec::new();
        for len in lens.iter().rev() {
            let (head, tail) = rest.split_at_mut(*len);
            bufs.push(IoSliceMut::new(head));
            rest = tail;
        }
        assert_eq!(file.read_vectored_at(offset as u64, &mut bufs).unwrap(), joined.len());
        assert!(
            back[shift..shift + joined.len()] == *joined,
            "round {round}: {lens:?} at {offset}"
        );
    }
    let mut whole = vec![0; expected.len()];
    assert_eq!(file.read_at(0, &mut whole).unwrap(), expected.len());
    assert!(whole == expected, "bytes around a write have changed");
}
