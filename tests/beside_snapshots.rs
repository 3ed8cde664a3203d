//! Writing beside internal snapshots: what they keep stays what it was, whatever is written to the
//! disk, and whenever the power goes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod beside_snapshots {
    mod image;
    mod power_cut;
    mod real_tools;
    mod vm_state;
}
