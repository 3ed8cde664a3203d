//! The few header fields that are updated in place, without rewriting cluster 0.

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

use super::TablePointer;
use crate::feature::{AutoclearFeatures, CompatibleFeatures, IncompatibleFeatures};

/// Bytes to write at an offset of the image file, so small that one sector write does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldUpdate {
    offset: u64,
    bytes: [u8; 12],
    len: usize,
}

impl FieldUpdate {
    /// Host offset of the first byte.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes: 8 or 12 of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    /// Switches to another active L1 table: 12 bytes at 36.
    #[must_use]
    pub fn l1_table(table: TablePointer) -> Self {
        Self::from_parts(36, &[U32::new(table.count)], U64::new(table.offset.get()), &[])
    }

    /// Switches to another refcount table: 12 bytes at 48.
    #[must_use]
    pub fn refcount_table(table: TablePointer) -> Self {
        Self::from_parts(48, &[], U64::new(table.offset.get()), &[U32::new(table.count)])
    }

    /// Switches to another snapshot table: 12 bytes at 60.
    #[must_use]
    pub fn snapshot_table(table: TablePointer) -> Self {
        Self::from_parts(60, &[U32::new(table.count)], U64::new(table.offset.get()), &[])
    }

    /// Changes the virtual size: 8 bytes at 24.
    #[must_use]
    pub fn virtual_size(bytes: u64) -> Self {
        Self::from_parts(24, &[], U64::new(bytes), &[])
    }

    /// Changes the incompatible feature word: 8 bytes at 72, version 3 only.
    #[must_use]
    pub fn incompatible_features(features: IncompatibleFeatures) -> Self {
        Self::from_parts(72, &[], U64::new(features.bits()), &[])
    }

    /// Changes the compatible feature word: 8 bytes at 80, version 3 only.
    #[must_use]
    pub fn compatible_features(features: CompatibleFeatures) -> Self {
        Self::from_parts(80, &[], U64::new(features.bits()), &[])
    }

    /// Changes the autoclear feature word: 8 bytes at 88, version 3 only.
    #[must_use]
    pub fn autoclear_features(features: AutoclearFeatures) -> Self {
        Self::from_parts(88, &[], U64::new(features.bits()), &[])
    }

    fn from_parts(offset: u64, before: &[U32], word: U64, after: &[U32]) -> Self {
        let parts = [before.as_bytes(), word.as_bytes(), after.as_bytes()];
        let mut bytes = [0; 12];
        let mut len = 0_usize;
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
            len = len.saturating_add(1);
        }
        Self { offset, bytes, len }
    }
}
