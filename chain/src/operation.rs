//! Operations on whole chains: what they share.
//!
//! Each is planned first ([`Plan`]: what is read, written and switched, in which order) and then done.
//! While data moves, every layer shows the guest what it showed before; only when all of it is durable
//! does one header change, in a way that a power cut leaves old or new. Nobody's file is ever deleted:
//! what is no longer needed is named.

mod copy;
mod crew;
mod lineage;
mod plan;
mod refusal;
mod section;
mod siblings;
mod tally;
mod watch;

pub use lineage::LayerRef;
pub use plan::{Plan, Step};
pub use refusal::Refusal;
pub use watch::{Moved, Progress, Watch};

pub(crate) use copy::{Copy, Wanted};
pub(crate) use crew::{Action, Crew, Piece};
pub(crate) use lineage::{Lineage, Member};
pub(crate) use section::{Owner, Run, Section};
pub(crate) use siblings::refuse_shared;
pub(crate) use tally::Tally;
