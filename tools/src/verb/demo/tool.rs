//! Programs of the machine that the demo uses where they are.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Folders of system programs that an ordinary user's search path lacks.
const MORE: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Finds a program.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Runs a program without input; `Some(true)` when it succeeded, `None` when it is not there.
pub(super) fn succeeds<A: AsRef<OsStr>>(
    name: &str,
    args: impl IntoIterator<Item = A>,
) -> Option<bool> {
    let mut command = Command::new(find(name)?);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Some(command.status().is_ok_and(|status| status.success()))
}
