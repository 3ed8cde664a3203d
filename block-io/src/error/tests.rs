//! Texts and accessors of every error.

use core::error::Error as _;

use super::*;

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

#[test]
fn every_error_has_its_text() {
    let locked = |shared| Error::Locked { permission: Permission::Write, shared, byte: 101 };
    let cases = [
        (
            Error::open(Path::new("a/b"), io::Error::from_raw_os_error(2)),
            "cannot open 'a/b': No such file or directory (os error 2)",
        ),
        (
            Error::io(Operation::Write, 7, 512, no_space()),
            "cannot write 512 bytes at offset 7: No space left on device (os error 28)",
        ),
        (
            Error::host(Operation::Sync, io::Error::from_raw_os_error(5)),
            "cannot make the file durable: Input/output error (os error 5)",
        ),
        (
            Error::io(Operation::SetLen, 0, 512, no_space()),
            "cannot set the length to 512 bytes: No space left on device (os error 28)",
        ),
        (locked(false), "Failed to get \"write\" lock"),
        (locked(true), "Failed to get shared \"write\" lock"),
        (Error::ReadOnly { operation: Operation::Write }, "cannot write: opened read-only"),
        (
            Error::OutOfRange { operation: Operation::PunchHole, offset: 1, len: u64::MAX },
            "cannot punch out 18446744073709551615 bytes at offset 1: \
             the range ends past the largest file position",
        ),
        (
            Error::ShortRead { offset: 4, wanted: 8, found: 3 },
            "cannot read 8 bytes at offset 4: only 3 are there",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn the_host_error_stays_reachable() {
    let error = Error::io(Operation::Write, 0, 1, no_space()).clone();
    assert_eq!(error.raw_os_error(), Some(28));
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(error.host_text().as_deref(), Some("No space left on device"));
    assert!(error.source().is_some_and(<dyn core::error::Error>::is::<io::Error>));

    let refused = Error::ReadOnly { operation: Operation::Write };
    assert_eq!((refused.raw_os_error(), refused.host_text()), (None, None));
    assert!(refused.source().is_none());
    assert_eq!(io::Error::from(refused).kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_host_error_without_a_number_keeps_its_words() {
    let error = Error::host(Operation::Sync, io::Error::other("the cable is out"));
    assert_eq!(error.host_text().as_deref(), Some("the cable is out"));
}
