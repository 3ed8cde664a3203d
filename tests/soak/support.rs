//! What our side can do: the one table to change when a feature arrives.

use super::recipe::Recipe;

/// Images with internal snapshots can be written.
const BESIDE_SNAPSHOTS: bool = true;

/// Whether we can write such an image; all can be created and read.
pub(crate) fn writes(_recipe: &Recipe, has_snapshots: bool) -> bool {
    BESIDE_SNAPSHOTS || !has_snapshots
}
