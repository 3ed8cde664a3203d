//! The engine as its users see it: plans, contents, crashes, races, refusals. One binary, because
//! all of it needs the same few images.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod bounded;
mod census_notices;
mod chronicle;
mod concurrency;
mod contention;
mod count_traps;
mod crash;
mod damaged;
mod damaged_kinds;
mod entry_table;
mod external_data;
mod fault_history;
mod fault_kinds;
mod faults;
mod flush_plans;
mod group_commit;
mod growth;
mod growth_kinds;
mod host_space;
mod images;
mod interleavings;
mod interleavings_of_parts;
mod kinds;
mod model;
mod nothing_waits;
mod power;
mod power_cuts;
mod read_plans;
mod refused;
mod sparse;
mod stress;
mod subcluster_plans;
mod subcluster_traps;
mod survey;
mod test_backing;
mod traps;
mod write_plans;

use testkit::{census, stamps};
