//! Dialect: the three facts about an image on which the meaning of an L2 entry depends.

use qcow2_format::{Geometry, L2Bitmap, L2Entry, L2Layout};

use crate::mapping::Mapping;

/// How the entries of one image are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    geometry: Geometry,
    zero_flag: bool,
    external_data: bool,
}

impl Dialect {
    /// A version 3 image that holds its own data.
    #[must_use]
    #[inline]
    pub const fn version_3(geometry: Geometry) -> Self {
        Self { geometry, zero_flag: true, external_data: false }
    }

    /// A version 2 image: bit 0 of an entry is not a zero flag but damage.
    #[must_use]
    #[inline]
    pub const fn version_2(geometry: Geometry) -> Self {
        Self { geometry, zero_flag: false, external_data: false }
    }

    /// The same with the data in an external file: offset 0 with COPIED is then a data cluster.
    #[must_use]
    #[inline]
    pub const fn with_external_data(self) -> Self {
        Self { external_data: true, ..self }
    }

    /// Cluster size and table shapes.
    #[must_use]
    #[inline]
    pub const fn geometry(self) -> Geometry {
        self.geometry
    }

    /// Whether bit 0 of a standard entry means "reads as zeros" (version 3).
    #[must_use]
    #[inline]
    pub const fn has_zero_flag(self) -> bool {
        self.zero_flag
    }

    /// Whether data clusters lie in an external data file.
    #[must_use]
    #[inline]
    pub const fn has_external_data(self) -> bool {
        self.external_data
    }

    /// Whether entries are extended: a bitmap says for each subcluster what it is.
    #[must_use]
    #[inline]
    pub const fn has_subclusters(self) -> bool {
        matches!(self.geometry.l2_layout(), L2Layout::Extended)
    }

    /// The mapping that reads as zeros and owns no host cluster; only of use where there is a
    /// [zero flag](Self::has_zero_flag).
    #[must_use]
    #[inline]
    pub const fn zero_plain(self) -> Mapping {
        if self.has_subclusters() {
            Mapping::extended(L2Entry::UNALLOCATED, L2Bitmap::ALL_ZERO)
        } else {
            Mapping::standard(L2Entry::ZERO_PLAIN)
        }
    }
}
