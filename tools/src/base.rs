//! What programs record of backing files, and what they say about those that have changed.

use std::io::Write;
use std::path::Path;

use qimg::chain::{BaseFinding, Chain};

use crate::program::one_line;

/// Whether this process was called by the name of a program of QEMU. Then images are made, and
/// standard error is written, as that program does it: without records and without warnings about
/// them.
#[must_use]
pub fn is_qemu_name() -> bool {
    let first = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&first).file_name().unwrap_or_default();
    name.to_str().is_some_and(|name| name.starts_with("qemu-"))
}

/// Warns, one line each, of backing files that were modified or replaced since their overlays were
/// made.
pub fn warn(chain: &Chain) {
    if is_qemu_name() {
        return;
    }
    for finding in chain.base_findings().filter(|finding| finding.verdict.is_change()) {
        // Nothing can be done when even standard error is gone.
        let _ = writeln!(std::io::stderr(), "{}", warning(finding));
    }
}

fn warning(finding: &BaseFinding) -> String {
    one_line(&format!("warning: {finding}: what the overlay does not own may be wrong"))
}
