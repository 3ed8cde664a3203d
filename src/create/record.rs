//! What a new overlay remembers of its backing file.

use std::path::Path;

use block_io::{Locking, OpenOptions};
use chain::Format;
use cow_engine::{BackingReference, BasePin, CreateOptions, CreatePlan};

use super::Qcow2Options;

/// The plan with a record of the backing file. Without one where it is not wanted, the file cannot
/// be looked at, or the header has no room: an image is worth more than the record in it.
pub(super) fn with_base(
    plan: CreatePlan,
    engine: CreateOptions,
    path: &Path,
    options: &Qcow2Options,
) -> CreatePlan {
    let backing = options.backing.as_ref().filter(|_| options.record_base);
    let Some(pin) = backing.and_then(|backing| pin(path, backing)) else { return plan };
    CreatePlan::new(&CreateOptions { base_pin: Some(pin), ..engine }).unwrap_or(plan)
}

fn pin(overlay: &Path, backing: &BackingReference) -> Option<BasePin> {
    let format: Format = backing.format.as_ref()?.parse().ok()?;
    let path = chain::resolve_name(overlay, &backing.name).ok()?;
    // Somebody may be using it: it is only looked at.
    let storage = OpenOptions::new().locking(Locking::Off).open(&path).ok()?;
    chain::pin_of(&storage, format, &backing.name).ok()
}
