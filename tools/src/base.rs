//! What programs record of backing files, and what they say about those that have changed.

use std::io::Write;

use qimg::chain::{BaseFinding, Chain};

use crate::called;
use crate::program::one_line;

/// Warns, one line each, of backing files that were modified or replaced since their overlays were
/// made. Whoever stands in for a program of QEMU writes to standard error what that one does.
pub fn warn(chain: &Chain) {
    if called::stands_in() {
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
