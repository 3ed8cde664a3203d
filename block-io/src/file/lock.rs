//! QEMU's byte-range locks on a file: which bytes are held, and the change from one set to
//! another.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use super::Locking;
use crate::lock::Conflict;
use crate::{Error, Lock, Operation, Result};

/// The locks of one handle. The mutex makes changes of one handle happen one after another.
#[derive(Debug)]
pub(super) struct HeldLock {
    locking: Locking,
    held: Mutex<Lock>,
}

impl HeldLock {
    pub(super) fn new(locking: Locking) -> Self {
        Self { locking, held: Mutex::new(Lock::none()) }
    }

    /// Goes from the bytes held to those of `wanted`, or leaves everything as it was.
    ///
    /// New bytes are taken first, then the opposite bytes are tested, and only then are old
    /// bytes dropped. Two openers that come at the same moment may both see each other and both
    /// fail, but never both succeed.
    pub(super) fn change(&self, file: &File, wanted: Lock) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if self.locking != Locking::Off {
            match exchange(file, *held, wanted) {
                Err(Failure::Unsupported(_)) if self.locking == Locking::Auto => {}
                Err(Failure::Unsupported(errno)) => return Err(host_error(errno)),
                Err(Failure::Other(error)) => return Err(error),
                Ok(()) => {}
            }
        }
        *held = wanted;
        Ok(())
    }
}

enum Failure {
    /// The file system has no such locks.
    Unsupported(Errno),
    Other(Error),
}

fn exchange(file: &File, held: Lock, wanted: Lock) -> Result<(), Failure> {
    let is_held = |byte: u64| held.bytes().any(|other| other == byte);
    let taken = take(file, wanted, is_held).and_then(|()| test(file, wanted));
    let (kept, dropped) = if taken.is_ok() { (wanted, held) } else { (held, wanted) };
    for byte in dropped.bytes() {
        if !kept.bytes().any(|other| other == byte) {
            // Dropping a lock fails only where taking one has failed before.
            let _ = host::unlock(file, byte);
        }
    }
    taken
}

/// Takes the bytes that are not held yet.
fn take(file: &File, wanted: Lock, is_held: impl Fn(u64) -> bool) -> Result<(), Failure> {
    for claim in wanted.claims().filter(|claim| !is_held(claim.byte)) {
        host::lock_shared(file, claim.byte).map_err(|errno| match errno {
            // Somebody holds the byte exclusively. QEMU never does that; another program may.
            Errno::AGAIN | Errno::ACCESS => locked(claim),
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK => {
                Failure::Unsupported(errno)
            }
            errno => Failure::Other(host_error(errno)),
        })?;
    }
    Ok(())
}

/// Looks for others who hold what `wanted` excludes.
fn test(file: &File, wanted: Lock) -> Result<(), Failure> {
    for conflict in wanted.conflicts() {
        match host::is_held_by_others(file, conflict.byte) {
            Ok(false) => {}
            Ok(true) => return Err(locked(conflict)),
            Err(errno) => return Err(Failure::Other(host_error(errno))),
        }
    }
    Ok(())
}

fn locked(Conflict { permission, shared, byte }: Conflict) -> Failure {
    Failure::Other(Error::Locked { permission, shared, byte })
}

fn host_error(errno: Errno) -> Error {
    Error::host(Operation::Lock, errno.into())
}

/// Locks of the open file description (`F_OFD_*`): they belong to the handle, not to the
/// process, so closing another handle on the same file does not drop them.
#[expect(unsafe_code, reason = "rustix has no open-file-description locks")]
mod host {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use rustix::io::Errno;

    /// Takes a shared lock on one byte, without waiting.
    pub(super) fn lock_shared(file: &File, byte: u64) -> Result<(), Errno> {
        call(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte).map(|_| ())
    }

    /// Drops the lock on one byte.
    pub(super) fn unlock(file: &File, byte: u64) -> Result<(), Errno> {
        call(file, libc::F_OFD_SETLK, libc::F_UNLCK, byte).map(|_| ())
    }

    /// Whether an exclusive lock on one byte would be refused because of somebody else.
    pub(super) fn is_held_by_others(file: &File, byte: u64) -> Result<bool, Errno> {
        let answer = call(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte)?;
        Ok(i32::from(answer.l_type) != libc::F_UNLCK)
    }

    fn call(file: &File, command: i32, kind: i32, byte: u64) -> Result<libc::flock64, Errno> {
        // SAFETY: `flock64` is a C struct of integers (and padding on some machines), for which
        // all bits zero is a valid value.
        let mut request: libc::flock64 = unsafe { core::mem::zeroed() };
        request.l_type = kind as libc::c_short;
        request.l_whence = libc::SEEK_SET as libc::c_short;
        request.l_start = byte.cast_signed();
        request.l_len = 1;
        loop {
            // SAFETY: the descriptor is open as long as `file` is borrowed; the command takes a
            // pointer to one `flock64`, which lives on this stack and is not aliased. `l_pid`
            // is zero, as these commands require.
            let status = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut request) };
            if status == 0 {
                return Ok(request);
            }
            match Errno::from_io_error(&std::io::Error::last_os_error()) {
                Some(Errno::INTR) => {}
                Some(errno) => return Err(errno),
                None => return Err(Errno::IO),
            }
        }
    }
}
