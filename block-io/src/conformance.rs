//! Public tests that every [`Storage`] must pass, wrappers included.
//!
//! Each function panics with the broken rule. Except for [`read_only`] they want an empty object
//! that can be written and can grow; [`all`] makes a fresh one for each.
//!
//! ```
//! # #[cfg(feature = "conformance")]
//! block_io::conformance::all(block_io::MemoryStorage::new);
//! ```
#![expect(clippy::unwrap_used, reason = "these are tests; a panic is their way to speak")]

use std::io::{IoSlice, IoSliceMut};

use crate::range::POSITION_MAX;
use crate::{Error, Lock, Storage, StorageExt};

#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod forbidden;
mod model;

#[cfg(all(target_os = "linux", feature = "io-uring"))]
pub use self::forbidden::without_io_uring;
pub use self::model::random_operations_match_a_byte_vector;

/// Runs every test that wants an empty object, each on a fresh one from `make`.
pub fn all<S: Storage>(make: impl Fn() -> S) {
    let tests: [fn(&dyn Storage); 16] = [
        empty_requests_change_nothing,
        reads_end_where_the_object_ends,
        writes_grow_and_leave_zeros_before,
        vectored_requests_equal_flat_ones,
        unaligned_writes_keep_their_neighbours,
        zeroes_read_as_zeros_and_grow,
        punching_never_grows,
        allocation_keeps_bytes_and_grows,
        a_cut_tail_comes_back_as_zeros,
        extents_cover_the_object,
        ranges_beyond_every_position_are_refused,
        large_sparse_objects_are_cheap,
        parallel_writes_keep_out_of_each_other,
        parallel_growth_loses_nothing,
        attributes_are_answered,
        random_operations_match_a_byte_vector,
    ];
    for test in tests {
        test(&make());
    }
    // Once more through a pointer, which is how engines hold their storage.
    let pointer: std::sync::Arc<dyn Storage> = std::sync::Arc::from(boxed(make()));
    writes_grow_and_leave_zeros_before(&pointer);
}

fn boxed<'a, S: Storage + 'a>(storage: S) -> Box<dyn Storage + 'a> {
    Box::new(storage)
}

/// Bytes that differ from their neighbours and are never zero.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 + 1).collect()
}

fn whole(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(storage.len().unwrap()).unwrap()];
    storage.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// A request for no bytes succeeds anywhere and does not even change the length.
pub fn empty_requests_change_nothing(storage: &dyn Storage) {
    storage.write_at(0, b"abc").unwrap();
    for offset in [0, 2, 3, 1 << 40, POSITION_MAX] {
        storage.write_at(offset, &[]).unwrap();
        storage.write_vectored_at(offset, &[]).unwrap();
        storage.write_vectored_at(offset, &[IoSlice::new(&[])]).unwrap();
        storage.write_zeroes_at(offset, 0).unwrap();
        storage.punch_hole(offset, 0).unwrap();
        storage.allocate(offset, 0).unwrap();
        assert_eq!(storage.read_at(offset, &mut []).unwrap(), 0);
        assert_eq!(storage.read_vectored_at(offset, &mut []).unwrap(), 0);
    }
    assert_eq!(whole(storage), b"abc", "an empty request changed the object");
}

/// Reads are short at the end and find nothing beyond it.
pub fn reads_end_where_the_object_ends(storage: &dyn Storage) {
    let mut buf = [0xee; 1000];
    assert_eq!(storage.read_at(0, &mut buf).unwrap(), 0, "an empty object has no bytes");
    let bytes = pattern(1300);
    storage.write_at(0, &bytes).unwrap();
    assert_eq!(storage.read_at(700, &mut buf).unwrap(), 600);
    assert_eq!(buf[..600], bytes[700..]);
    assert_eq!(storage.read_at(300, &mut buf).unwrap(), 1000);
    assert_eq!(buf[..], bytes[300..]);
    for offset in [1300, 1301, 4096, 1 << 50, POSITION_MAX, u64::MAX] {
        assert_eq!(storage.read_at(offset, &mut buf).unwrap(), 0, "read at {offset}");
        let mut bufs = [IoSliceMut::new(&mut buf)];
        assert_eq!(storage.read_vectored_at(offset, &mut bufs).unwrap(), 0, "read at {offset}");
    }
    let short = storage.read_exact_at(1299, &mut buf).unwrap_err();
    let expected = (1299, 1000, 1);
    assert!(
        matches!(short, Error::ShortRead { offset, wanted, found } if (offset, wanted, found) == expected),
        "an exact read past the end said {short:?}"
    );
    assert_eq!(storage.read_zero_filled(1200, &mut buf).unwrap(), 100);
    assert_eq!(buf[..100], bytes[1200..]);
    assert_eq!(buf[100..], [0; 900]);
}

/// A write past the end grows the object; what lies between reads as zeros.
pub fn writes_grow_and_leave_zeros_before(storage: &dyn Storage) {
    assert_eq!(storage.len().unwrap(), 0, "conformance wants an empty object");
    storage.write_at(10_000, b"tail").unwrap();
    assert_eq!(storage.len().unwrap(), 10_004);
    storage.write_at(3, b"head").unwrap();
    assert_eq!(storage.len().unwrap(), 10_004, "a write before the end moved the end");
    let mut expected = vec![0; 10_004];
    expected[3..7].copy_from_slice(b"head");
    expected[10_000..].copy_from_slice(b"tail");
    assert_eq!(whole(storage), expected);
}

/// Vectored requests of any shape do what one flat request would.
pub fn vectored_requests_equal_flat_ones(storage: &dyn Storage) {
    let bytes = pattern(9000);
    for cuts in [vec![0, 9000], vec![0, 0, 1, 1, 513, 4096, 9000, 9000], (0..=9000).collect()] {
        let parts = cuts.windows(2).map(|cut| IoSlice::new(&bytes[cut[0]..cut[1]]));
        storage.set_len(0).unwrap();
        storage.write_vectored_at(100, &parts.collect::<Vec<_>>()).unwrap();
        assert_eq!(storage.len().unwrap(), 9100);
        assert_eq!(whole(storage)[100..], bytes);

        let mut back = vec![0xee; 9200];
        let mut rest = &mut back[..];
        let mut parts = Vec::new();
        for cut in cuts.windows(2) {
            let (head, tail) = rest.split_at_mut(cut[1] - cut[0]);
            parts.push(IoSliceMut::new(head));
            rest = tail;
        }
        parts.push(IoSliceMut::new(rest));
        assert_eq!(storage.read_vectored_at(100, &mut parts).unwrap(), 9000);
        assert_eq!(back[..9000], bytes);
    }
    let (mut a, mut b, mut c) = ([1; 50], [1; 100], [1; 30]);
    let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b), IoSliceMut::new(&mut c)];
    assert_eq!(storage.read_zero_filled_vectored(9000, &mut bufs).unwrap(), 100);
    assert_eq!([&a[..], &b[..50]].concat(), bytes[8900..]);
    assert_eq!((&b[50..], c), (&[0; 50][..], [0; 30]));
}

/// Bytes around a write stay, whatever the block size of the host.
pub fn unaligned_writes_keep_their_neighbours(storage: &dyn Storage) {
    let mut expected = pattern(20_000);
    storage.write_at(0, &expected).unwrap();
    let cases = [(1, 1), (511, 2), (4095, 4098), (5000, 1), (8192, 4096), (19_999, 1), (4096, 7)];
    for (offset, len) in cases {
        let bytes = vec![0xff; len];
        storage.write_at(offset as u64, &bytes).unwrap();
        expected[offset..offset + len].copy_from_slice(&bytes);
        assert_eq!(storage.len().unwrap(), 20_000, "{len} bytes at {offset} moved the end");
        assert_eq!(whole(storage), expected, "{len} bytes at {offset}");
    }
}

/// Zeroed ranges read as zeros, their neighbours stay, and the end moves if it must.
pub fn zeroes_read_as_zeros_and_grow(storage: &dyn Storage) {
    let mut expected = pattern(30_000);
    storage.write_at(0, &expected).unwrap();
    for (offset, len) in [(1, 1), (4095, 2), (4096, 8192), (20_000, 5), (29_999, 1)] {
        storage.write_zeroes_at(offset as u64, len as u64).unwrap();
        expected[offset..offset + len].fill(0);
        assert_eq!(whole(storage), expected, "{len} zeros at {offset}");
    }
    storage.write_at(0, &pattern(30_000)).unwrap();
    storage.write_zeroes_at(29_000, 5001).unwrap();
    let mut expected = pattern(29_000);
    expected.resize(34_001, 0);
    assert_eq!(whole(storage), expected);
    storage.write_zeroes_at(50_000, 10).unwrap();
    assert_eq!(storage.len().unwrap(), 50_010, "zeros past the end did not move it");
}

/// Punched ranges read as zeros, or nothing happened at all; the length stays.
pub fn punching_never_grows(storage: &dyn Storage) {
    let mut expected = pattern(30_000);
    storage.write_at(0, &expected).unwrap();
    for (offset, len) in [(5000, 100), (4096, 8192), (29_000, 50_000), (40_000, 4096)] {
        if storage.punch_hole(offset as u64, len as u64).unwrap() {
            let end = (offset + len).min(expected.len());
            expected[offset.min(end)..end].fill(0);
        }
        assert_eq!(storage.len().unwrap(), 30_000, "a punch moved the end");
        assert_eq!(whole(storage), expected, "{len} bytes punched at {offset}");
    }
}

/// Reserving space changes no bytes, and moves the end where the range ends later.
pub fn allocation_keeps_bytes_and_grows(storage: &dyn Storage) {
    let mut expected = pattern(5000);
    storage.write_at(0, &expected).unwrap();
    storage.allocate(1000, 2000).unwrap();
    assert_eq!(whole(storage), expected);
    storage.allocate(4000, 6001).unwrap();
    expected.resize(10_001, 0);
    assert_eq!(whole(storage), expected);
}

/// What was cut off does not come back.
pub fn a_cut_tail_comes_back_as_zeros(storage: &dyn Storage) {
    for (cut, grown) in [(4097, 30_000), (1, 8192), (0, 5000)] {
        storage.write_at(0, &pattern(20_000)).unwrap();
        storage.set_len(cut).unwrap();
        assert_eq!(storage.len().unwrap(), cut);
        storage.set_len(grown).unwrap();
        let mut expected = pattern(usize::try_from(cut).unwrap());
        expected.resize(usize::try_from(grown).unwrap(), 0);
        assert_eq!(whole(storage), expected, "cut to {cut}, grown to {grown}");
    }
    storage.set_len(0).unwrap();
    storage.write_at(0, &pattern(100)).unwrap();
    storage.set_len(50).unwrap();
    storage.write_at(80, b"x").unwrap();
    assert_eq!(whole(storage)[50..80], [0; 30], "a write past a cut brought old bytes back");
}

/// Extents lie end to end up to the end of the object; holes read as zeros.
pub fn extents_cover_the_object(storage: &dyn Storage) {
    assert_eq!(storage.extent_at(0).unwrap(), None, "an empty object has no extents");
    storage.write_at(1 << 20, &pattern(70_000)).unwrap();
    storage.write_at((3 << 20) + 5, &pattern(10)).unwrap();
    storage.set_len((4 << 20) + 1).unwrap();
    storage.punch_hole((1 << 20) + 8192, 16_384).unwrap();
    let end = storage.len().unwrap();
    let bytes = whole(storage);
    let mut offset = 0;
    while offset < end {
        let extent = storage.extent_at(offset).unwrap().unwrap();
        assert!(extent.len > 0, "an empty extent at {offset} would never end");
        let next = offset + extent.len;
        assert!(next <= end, "the extent at {offset} reaches past the end");
        let inside = &bytes[usize::try_from(offset).unwrap()..usize::try_from(next).unwrap()];
        assert!(
            !extent.is_hole() || inside.iter().all(|&byte| byte == 0),
            "the hole at {offset} has bytes in it"
        );
        offset = next;
    }
    let last = storage.extent_at(end - 1).unwrap();
    assert_eq!(last.map(|extent| extent.len), Some(1), "an extent does not stop at the end");
    for beyond in [end, end + 1, POSITION_MAX, u64::MAX] {
        assert_eq!(storage.extent_at(beyond).unwrap(), None, "an extent beyond the end");
    }
}

/// Changes whose range ends past the last position are refused before anything happens.
pub fn ranges_beyond_every_position_are_refused(storage: &dyn Storage) {
    storage.write_at(0, b"abc").unwrap();
    for offset in [POSITION_MAX - 1, POSITION_MAX, POSITION_MAX + 1, u64::MAX] {
        let refused = [
            storage.write_at(offset, b"xyz").unwrap_err(),
            storage
                .write_vectored_at(offset, &[IoSlice::new(b"x"), IoSlice::new(b"yz")])
                .unwrap_err(),
            storage.write_zeroes_at(offset, 3).unwrap_err(),
            storage.punch_hole(offset, 3).unwrap_err(),
            storage.allocate(offset, 3).unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(error, Error::OutOfRange { .. }), "at {offset}: {error:?}");
        }
    }
    let error = storage.set_len(POSITION_MAX + 1).unwrap_err();
    assert!(matches!(error, Error::OutOfRange { .. }), "a length past every position: {error:?}");
    assert_eq!(whole(storage), b"abc", "a refused request changed the object");
}

/// A length of a TiB costs neither time nor space.
pub fn large_sparse_objects_are_cheap(storage: &dyn Storage) {
    storage.set_len(1 << 40).unwrap();
    storage.write_at(1 << 39, b"halfway").unwrap();
    let mut buf = [0xee; 16];
    assert_eq!(storage.read_at((1 << 39) - 4, &mut buf).unwrap(), 16);
    assert_eq!(&buf, b"\0\0\0\0halfway\0\0\0\0\0");
    storage.punch_hole(0, 1 << 40).unwrap();
    assert_eq!(storage.len().unwrap(), 1 << 40);
    storage.set_len(0).unwrap();
    assert_eq!(storage.len().unwrap(), 0);
}

/// Threads that write next to each other do not disturb each other, even inside one block.
pub fn parallel_writes_keep_out_of_each_other(storage: &dyn Storage) {
    const STRIPE: usize = 100;
    const ROUNDS: usize = 40;
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let offset = (round * 4 + thread) * STRIPE;
                    storage.write_at(offset as u64, &[thread as u8 + 1; STRIPE]).unwrap();
                }
            });
        }
    });
    let expected: Vec<u8> = (0..ROUNDS * 4 * STRIPE).map(|i| (i / STRIPE % 4) as u8 + 1).collect();
    assert_eq!(whole(storage), expected);
}

/// Threads that move the end, each in its own way, do not undo each other.
pub fn parallel_growth_loses_nothing(storage: &dyn Storage) {
    const ROUNDS: u64 = 300;
    const STRIPE: u64 = 1000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for start in (0..ROUNDS).map(|round| round * STRIPE) {
                storage.write_at(start + 500, &[1; 500]).unwrap();
            }
        });
        scope.spawn(|| {
            for start in (0..ROUNDS).map(|round| round * STRIPE) {
                storage.allocate(start, 300).unwrap();
            }
        });
        scope.spawn(|| {
            for start in (0..ROUNDS).map(|round| round * STRIPE) {
                storage.write_zeroes_at(start + 300, 200).unwrap();
            }
        });
    });
    let bytes = whole(storage);
    assert_eq!(bytes.len() as u64, ROUNDS * STRIPE);
    for (round, stripe) in bytes.chunks(1000).enumerate() {
        let (zeros, ones) = stripe.split_at(500);
        assert!(zeros == [0; 500] && ones == [1; 500], "stripe {round} was damaged");
    }
}

/// Identity is stable, space in use is counted, locks of one holder go from role to role.
pub fn attributes_are_answered(storage: &dyn Storage) {
    storage.write_at(0, &pattern(1 << 16)).unwrap();
    storage.sync().unwrap();
    assert!(storage.allocated_bytes().unwrap() >= 1 << 16, "written bytes are not counted");
    assert_eq!(storage.identity().unwrap(), storage.identity().unwrap());
    // A hint: nothing is told, and nothing is different.
    storage.begin_sync();
    storage.forget_cached(0, 1);
    assert_eq!(storage.modified().unwrap(), storage.modified().unwrap());
    assert!(!storage.is_read_only(), "conformance wants an object that can be written");
    let unit = u64::from(storage.alignment().request());
    storage.write_at(unit, &vec![7; usize::try_from(unit).unwrap()]).unwrap();
    for lock in [Lock::creating(), Lock::qcow2_writer(), Lock::qcow2_reader(), Lock::none()] {
        storage.lock(lock).unwrap();
    }
}

/// An object opened read-only that holds at least one byte refuses every change and still reads.
pub fn read_only(storage: &dyn Storage) {
    assert!(storage.is_read_only(), "the object says that it can be written");
    let before = whole(storage);
    assert!(!before.is_empty(), "this test wants at least one byte");
    let refused = [
        storage.write_at(0, b"x").unwrap_err(),
        storage.write_vectored_at(0, &[IoSlice::new(b"x")]).unwrap_err(),
        storage.write_zeroes_at(0, 1).unwrap_err(),
        storage.punch_hole(0, 1).unwrap_err(),
        storage.allocate(0, 1).unwrap_err(),
        storage.set_len(0).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::ReadOnly { .. }), "a change was refused with {error:?}");
    }
    storage.sync().unwrap();
    assert_eq!(whole(storage), before);
}
