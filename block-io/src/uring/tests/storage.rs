//! `UringStorage` beside a plain file.

use core::cell::Cell;

use super::*;
use crate::{Storage, conformance};

/// Makes files whose requests are cut into small pieces.
fn maker(folder: &TempDir, options: OpenOptions) -> impl Fn() -> UringStorage {
    let count = Cell::new(0);
    let path = folder.path().to_owned();
    move || {
        count.set(count.get() + 1);
        let file = options.open(path.join(format!("file-{}", count.get()))).unwrap();
        UringOptions::new().depth(3).piece_bytes(4096).rings(2).open(file).unwrap()
    }
}

#[test]
fn buffered_files_conform() {
    let folder = folder();
    conformance::all(maker(&folder, writable()));
}

#[test]
fn direct_files_conform() {
    let folder = folder();
    let make = maker(&folder, writable().direct(true));
    assert!(make().alignment().request() > 1, "a direct file must have an alignment");
    conformance::all(make);
}

#[test]
fn read_only_files_refuse_changes() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, pattern(50_000)).unwrap();
    let file = OpenOptions::new().open(&path).unwrap();
    let storage = UringOptions::new().piece_bytes(1).open(file).unwrap();
    conformance::read_only(&storage);
    let error = storage.write_at(0, &[0; 50_000]).unwrap_err();
    assert!(matches!(error, crate::Error::ReadOnly { .. }), "{error:?}");
    let request = WriteRequest { offset: 0, buf: &[1] };
    assert!(matches!(storage.write_batch(&[request]), Err(crate::Error::ReadOnly { .. })));
}

#[test]
fn batches_read_and_write_what_single_requests_would() {
    let folder = folder();
    for direct in [false, true] {
        let make = maker(&folder, writable().create(Create::Truncate).direct(direct));
        let storage = make();
        let bytes = pattern(64 << 10);
        // Aligned or not, in any order, with an end inside.
        for unit in [4096, 1000] {
            storage.set_len(0).unwrap();
            let requests: Vec<WriteRequest<'_>> = bytes
                .chunks(unit)
                .enumerate()
                .map(|(number, buf)| WriteRequest { offset: (number * unit) as u64, buf })
                .rev()
                .collect();
            storage.write_batch(&requests).unwrap();
            assert_eq!(storage.len().unwrap(), 64 << 10);
            let mut memory = vec![vec![0xee; unit]; (64 << 10) / unit + 3];
            let mut reads: Vec<ReadRequest<'_>> = memory
                .iter_mut()
                .enumerate()
                .map(|(number, buf)| ReadRequest { offset: (number * unit) as u64, buf })
                .collect();
            let counts = storage.read_batch(&mut reads).unwrap();
            assert_eq!(counts.iter().sum::<usize>(), 64 << 10);
            let found: Vec<u8> =
                memory.iter().zip(counts).flat_map(|(buf, count)| buf[..count].to_vec()).collect();
            assert!(found == bytes, "direct {direct}, requests of {unit} bytes");
        }
    }
    let storage = maker(&folder, writable().create(Create::Truncate))();
    storage.write_batch(&[]).unwrap();
    storage.write_batch(&[WriteRequest { offset: u64::MAX, buf: &[] }]).unwrap();
    assert_eq!((storage.len().unwrap(), storage.read_batch(&mut []).unwrap().len()), (0, 0));
    let mut buf = [1; 3];
    let mut beyond = [ReadRequest { offset: u64::MAX - 1, buf: &mut buf }];
    assert_eq!(storage.read_batch(&mut beyond).unwrap(), [0]);
    let refused = storage.write_batch(&[WriteRequest { offset: u64::MAX - 1, buf: &[1; 3] }]);
    assert!(matches!(refused, Err(crate::Error::OutOfRange { .. })));
}

#[test]
fn whole_blocks_in_memory_at_odd_addresses_go_through_the_ring() {
    let folder = folder();
    let file = writable().direct(true).open(folder.path().join("file")).unwrap();
    let storage = UringOptions::new().depth(4).open(file).unwrap();
    let len = (9 << 20) + 4096;
    let bytes = pattern(len + 1);
    let (a, b) = bytes[1..].split_at(1001);
    storage.write_vectored_at(4096, &[a, b].map(std::io::IoSlice::new)).unwrap();
    assert_eq!(storage.len().unwrap(), 4096 + len as u64);
    let mut back = vec![0; len + (1 << 20) + 1];
    let (a, b) = back[1..].split_at_mut(5000);
    let mut bufs = [a, b].map(std::io::IoSliceMut::new);
    assert_eq!(storage.read_vectored_at(4096, &mut bufs).unwrap(), len);
    assert!(back[1..=len] == bytes[1..]);
    // The file did none of it: it would have kept memory for the next bounce.
    assert_eq!(storage.file().bounces_kept(), 0);
}

/// More threads than rings, and each thread's bytes are its own.
#[test]
fn threads_share_rings() {
    let folder = folder();
    let storage = maker(&folder, writable())();
    std::thread::scope(|scope| {
        for thread in 0..6u8 {
            let storage = &storage;
            scope.spawn(move || {
                let offset = u64::from(thread) << 20;
                for round in 0..10u8 {
                    let bytes = vec![thread * 10 + round; 100_000];
                    storage.write_at(offset, &bytes).unwrap();
                    let mut back = vec![0; 100_000];
                    assert_eq!(storage.read_at(offset, &mut back).unwrap(), 100_000);
                    assert!(back == bytes);
                }
            });
        }
    });
}

/// A failure in the middle of a list ends the call, and nothing of it stays under way.
#[test]
fn a_failure_is_reported_and_the_ring_stays_usable() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, pattern(100_000)).unwrap();
    // Readable by its flags, not by its descriptor: the host refuses each piece.
    let make = |file: File| {
        let file = crate::FileStorage::from_file(file).unwrap();
        UringOptions::new().depth(2).piece_bytes(4096).rings(1).open(file).unwrap()
    };
    let storage = make(File::open(&path).unwrap());
    let mut back = vec![0; 100_000];
    assert_eq!(storage.read_at(0, &mut back).unwrap(), 100_000);
    assert!(back == pattern(100_000));
    let full = make(File::options().read(true).write(true).open(&path).unwrap());
    // Larger than any file may be.
    let error = full.write_at((1 << 63) - 200_000, &[7; 100_000]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error}");
    assert_eq!(full.read_at(0, &mut back).unwrap(), 100_000);
    assert!(back == pattern(100_000));
}
