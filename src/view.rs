//! A chain measured for people to look at: who owns which part of the disk, and what each layer keeps.
//!
//! The disk is walked once through the whole chain, each layer once alone, and each qcow2 layer is
//! checked. Nothing is written.

mod error;
mod layer;
mod map;

use chain::Chain;

pub use error::ViewError;
pub use layer::LayerView;
pub use map::{Cell, GuestMap, Share};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewOptions {
    /// Most cells that the map of the disk is divided into; 0 counts as 1.
    pub cells: u64,
    /// Whether the metadata of each layer are checked.
    pub check: bool,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self { cells: 2048, check: true }
    }
}

/// A chain, measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct View {
    /// Size of the virtual disk in bytes.
    pub virtual_size: u64,
    /// Who owns which part of it.
    pub map: GuestMap,
    /// Top first.
    pub layers: Vec<LayerView>,
}

/// Measures a chain.
///
/// ```
/// use qimg::chain::{Chain, Format, OpenOptions};
/// use qimg::create::{CreateOptions, create};
/// use qimg::view::{ViewOptions, view};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("disk.qcow2");
/// create(&path, &CreateOptions::new(Format::Qcow2, 1 << 20))?;
/// let chain = Chain::open(&path, &OpenOptions::new().format(Format::Qcow2))?;
/// chain.write_at(0, &[1; 65536])?;
/// chain.flush()?;
/// let view = view(&chain, ViewOptions::default())?;
/// assert_eq!(view.layers[0].visible_data, 65536);
/// assert_eq!(view.layers[0].hidden, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A table cannot be read, or the host fails.
pub fn view(chain: &Chain, options: ViewOptions) -> Result<View, ViewError> {
    let map = GuestMap::of(chain, options.cells)?;
    let layers = chain.layers().enumerate();
    let layers = layers
        .map(|(depth, layer)| LayerView::of(chain, depth, layer, &map, options))
        .collect::<Result<Vec<_>, ViewError>>()?;
    Ok(View { virtual_size: chain.virtual_size(), map, layers })
}

#[cfg(test)]
mod tests;
