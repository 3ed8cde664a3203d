//! Traps of the format: places where independent implementations read or wrote wrong bytes. Each
//! test is named after what it guards and, where the real tools show an answer, compares with it.
//!
//! | trap | guarded by |
//! | --- | --- |
//! | the file ends early, sizes fill no sector, fields and extensions nobody knows | `header`, and `cow-engine/tests/engine`, `qcow2-format/src/header/tests` |
//! | entries that are absent, illegal, or bad among good ones | `entries`, and `cluster-map/tests` |
//! | streams that end early, late or not at all; packing | `compression`, and `cow-engine/tests` |
//! | counts that lie, places without an address | `refcounts`, and `refcount/tests`, `tests/check_reference` |
//! | what may not overtake what | `ordering`, and `cow-engine/tests/engine` (interleavings, crash, faults, plans) |
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod traps {
    mod compression;
    pub(crate) mod disk;
    mod entries;
    mod header;
    mod ordering;
    mod refcounts;
}
