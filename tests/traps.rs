//! Traps of the format: places where independent implementations, or the real tools themselves,
//! read or wrote wrong bytes. Each test is named after what it guards and, where the real tools
//! show an answer, compares with it. What concerns one crate alone is guarded there.
//!
//! | trap | guarded here by | and in |
//! | --- | --- | --- |
//! | early ends of files, odd sizes, fields and extensions nobody knows, bits that must agree | `header` | `qcow2-format/src/header/tests`, `cow-engine/tests/engine` (traps, refused) |
//! | entries that are absent, illegal, or bad among good ones; host errors in the middle | `entries` | `cluster-map/tests`, `cow-engine/tests/engine` (traps, damaged) |
//! | subclusters: contradicting bitmaps, preallocated and transparent clusters, halved tables | `subclusters` | `cluster-map/tests` |
//! | streams that end early, late or not at all; distances, packing, sector counts | `compression` | `cow-engine/tests` (compressed write, deflate distance) |
//! | counts that lie, narrow counts, ceilings, places without an address | `refcounts` | `refcount/tests`, `tests/check_reference`, `cow-engine/tests/engine` (growth) |
//! | tables and clusters that snapshots share, stale flags | `snapshots` | `cow-engine/tests/guard` |
//! | zero writes and discards of whole clusters, parts and ends, in every dialect | `zero_discard` | `cow-engine/tests` (discard) |
//! | data files: the first cluster, whose name is meant, raw ones | `data_file` | `cow-engine/tests/engine` (external data) |
//! | lazy refcounts: killed writers, lost ends of files | `lazy` | `cow-engine/tests/engine` (power cuts) |
//! | sizes: longer backing files, old bytes behind the end, machine state | | `cow-engine/tests/resize` |
//! | entries that lead into metadata, marked images | `guard` | `cow-engine/tests/guard` |
//! | what may not overtake what | `ordering` | `cow-engine/tests/engine` (interleavings, crash, faults, plans) |
//! | bitmaps for writers that do not keep them | `bitmaps` | `qcow2-format/src/bitmap`, `tests/check_reference` |
//! | backing files: formats, ends, encrypted layers | `chains` | `chain/tests`, `block-io/tests` (locks) |
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod traps {
    mod bitmaps;
    mod chains;
    mod compression;
    mod data_file;
    pub(crate) mod disk;
    mod entries;
    mod guard;
    mod header;
    mod lazy;
    mod ordering;
    mod refcounts;
    mod snapshots;
    mod subclusters;
    mod zero_discard;
}
