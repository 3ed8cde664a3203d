//! What our side can do: the one table to change when a feature arrives.

use super::recipe::{DataFile, Preallocation, Recipe};

/// Subclusters can be read and written.
const EXTENDED_L2: bool = false;
/// Refcount widths that can be written.
const WRITTEN_WIDTHS: &[u32] = &[16];
/// External data files can be read and written.
const DATA_FILE: bool = false;
/// An image that a killed writer left dirty is repaired when it is opened for writing.
const REPAIRS_DIRTY: bool = false;
/// Images with internal snapshots can be written.
const BESIDE_SNAPSHOTS: bool = false;
/// Images can be resized.
const RESIZE: bool = false;
/// Refcount widths that can be created.
const CREATED_WIDTHS: &[u32] = &[16];
/// Subclusters can be created.
const CREATES_EXTENDED_L2: bool = false;
/// External data files can be created.
const CREATES_DATA_FILE: bool = false;
/// Images can be created with space reserved.
const CREATES_PREALLOCATED: bool = false;

/// Whether we can read such an image.
pub(crate) fn reads(recipe: &Recipe) -> bool {
    (EXTENDED_L2 || !recipe.extended_l2) && (DATA_FILE || recipe.data_file == DataFile::None)
}

/// Whether we can write such an image.
pub(crate) fn writes(recipe: &Recipe, has_snapshots: bool) -> bool {
    reads(recipe)
        && WRITTEN_WIDTHS.contains(&recipe.refcount_bits)
        && (BESIDE_SNAPSHOTS || !has_snapshots)
}

/// Whether we can open an image for writing that a killed writer left dirty.
pub(crate) fn repairs_dirty(recipe: &Recipe, has_snapshots: bool) -> bool {
    REPAIRS_DIRTY && writes(recipe, has_snapshots)
}

/// Whether we can resize such an image.
pub(crate) fn resizes(recipe: &Recipe, has_snapshots: bool) -> bool {
    RESIZE && writes(recipe, has_snapshots)
}

/// Whether we can create such an image.
pub(crate) fn creates(recipe: &Recipe) -> bool {
    CREATED_WIDTHS.contains(&recipe.refcount_bits)
        && (CREATES_EXTENDED_L2 || !recipe.extended_l2)
        && (CREATES_DATA_FILE || recipe.data_file == DataFile::None)
        && (CREATES_PREALLOCATED || recipe.preallocation == Preallocation::Off)
}
