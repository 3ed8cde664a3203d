//! What the new image is like: any combination of options that the format allows.

use qimg::engine::{BackingReference, CreateOptions, DataFileReference, Preallocation};
use qimg::format::{ClusterBits, CompressionType, RefcountOrder, Version};

use crate::input::Input;

/// What lies below the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Below {
    Nothing,
    Shorter,
    Longer,
}

/// A new image.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) options: CreateOptions,
    pub(super) below: Below,
    /// Instead of a new image, one with internal snapshots.
    pub(super) with_snapshots: bool,
}

impl Shape {
    /// Takes six bytes.
    pub(super) fn take(input: &mut Input<'_>) -> Self {
        let (flags, bits, width, more) = (input.u8(), input.u8(), input.u8(), input.u8());
        let sectors = u64::from(input.u16()) % 1024 + 1;
        // 512 bytes to 128 KiB, small ones more often.
        let bits = [9, 9, 10, 12, 12, 14, 16, 17][usize::from(bits % 8)];
        let mut options = CreateOptions::new(sectors * 512);
        options.cluster_bits = ClusterBits::new(bits).expect("9..=21");
        let below = match flags >> 6 {
            0 | 1 => Below::Nothing,
            2 => Below::Shorter,
            _ => Below::Longer,
        };
        if flags & 1 != 0 {
            options.version = Version::V2;
        } else {
            options.refcount_order = RefcountOrder::new(u32::from(width % 7)).expect("0..=6");
            options.extended_l2 = flags & 2 != 0 && bits >= 14;
            options.lazy_refcounts = flags & 4 != 0;
            if flags & 8 != 0 {
                options.compression_type = CompressionType::Zstd;
            }
            if flags & 16 != 0 {
                let raw = flags & 32 != 0 && below == Below::Nothing;
                options.data_file = Some(DataFileReference { name: "data".into(), raw });
            }
        }
        if below == Below::Nothing || options.extended_l2 {
            options.preallocation = match more % 8 {
                1 => Preallocation::Metadata,
                2 => Preallocation::Falloc,
                3 => Preallocation::Full,
                _ => Preallocation::Off,
            };
        }
        if below != Below::Nothing {
            options.backing =
                Some(BackingReference { name: "below".into(), format: Some("raw".into()) });
        }
        Self { options, below, with_snapshots: more >= 224 }
    }

    /// The bytes below the image: a pattern with a run of zeros.
    pub(super) fn below(&self) -> Option<Vec<u8>> {
        let size = self.options.virtual_size;
        let len = match self.below {
            Below::Nothing => return None,
            Below::Shorter => size / 2 + 77,
            Below::Longer => size + 5000,
        };
        let byte = |at: u64| if at / 8192 % 4 == 1 { 0 } else { (at / 3 % 251) as u8 };
        Some((0..len).map(byte).collect())
    }
}
