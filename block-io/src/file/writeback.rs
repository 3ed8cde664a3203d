//! Writing back ahead of a sync, so that the medium works while more is being written.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Hands all dirty pages of a file to the medium, without waiting for it.
#[expect(unsafe_code, reason = "rustix has no sync_file_range")]
pub(super) fn begin(file: &File) {
    // SAFETY: the descriptor is open as long as the borrow lives, and the call takes no pointers.
    let status =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    // A host that cannot do it leaves all the work to the sync, which also tells what failed.
    let _ = status;
}
