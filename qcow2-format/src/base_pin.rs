//! The base pin: what an overlay remembers of its backing file, in a header extension of ours.
//!
//! An overlay is only right over the very bytes that it was made over, and its header names them by
//! nothing but a path. The pin records the identity of the backing file beside that name. Its magic,
//! `0x71696d67` ("qimg"), is ours and is in no specification: other programs skip the extension and
//! keep it when they rewrite the header. It is 96 bytes, numbers are big-endian:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | flags: bit 0 modification time, bit 1 inode, bit 2 content hash is there |
//! | 2 | 1 | format of the backing file: 0 raw, 1 qcow2 |
//! | 3 | 5 | zero |
//! | 8 | 8 | virtual size in bytes |
//! | 16 | 8 | length of the file in bytes |
//! | 24 | 8 | modification time, nanoseconds since 1970, signed |
//! | 32 | 8 | inode number, a hint |
//! | 40 | 16 | content mark: a hash of telling parts of the file |
//! | 56 | 8 | FNV-1a hash of the backing file name as it stands in the header |
//! | 64 | 32 | hash of the whole content |
//!
//! What has no flag is zero. Anything else (another version, length, format or flag) is no error: it
//! stays an unknown extension. A record whose hash of the name is not that of the name in the header
//! is about an earlier backing file, and means nothing.

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::{U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version of the record that is written.
const VERSION: u8 = 1;
const HAS_MODIFIED: u8 = 1;
const HAS_INODE: u8 = 2;
const HAS_CONTENT_HASH: u8 = 4;

/// The base pin as it lies on disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBasePin {
    /// Version of the record.
    pub version: u8,
    /// Which of the optional numbers are there.
    pub flags: u8,
    /// Format of the backing file.
    pub format: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// Virtual size of the backing file in bytes.
    pub virtual_size: U64,
    /// Length of the backing file in bytes.
    pub file_bytes: U64,
    /// Modification time in nanoseconds since 1970, in two's complement.
    pub modified: U64,
    /// Inode number.
    pub inode: U64,
    /// Content mark.
    pub mark: U128,
    /// Hash of the backing file name in the header.
    pub name_hash: U64,
    /// Hash of the whole content.
    pub content_hash: [u8; 32],
}
const_assert_eq!(size_of::<RawBasePin>(), 96);
const_assert_eq!(align_of::<RawBasePin>(), 1);
const_assert_eq!(core::mem::offset_of!(RawBasePin, virtual_size), 8);
const_assert_eq!(core::mem::offset_of!(RawBasePin, file_bytes), 16);
const_assert_eq!(core::mem::offset_of!(RawBasePin, modified), 24);
const_assert_eq!(core::mem::offset_of!(RawBasePin, inode), 32);
const_assert_eq!(core::mem::offset_of!(RawBasePin, mark), 40);
const_assert_eq!(core::mem::offset_of!(RawBasePin, name_hash), 56);
const_assert_eq!(core::mem::offset_of!(RawBasePin, content_hash), 64);
assert_impl_all!(RawBasePin: FromBytes, IntoBytes, Unaligned);

/// Format of a pinned backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinnedFormat {
    /// Guest bytes as they are.
    Raw,
    /// qcow2 of any version.
    Qcow2,
}

impl PinnedFormat {
    const fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Qcow2 => 1,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Qcow2),
            _ => None,
        }
    }
}

/// What an overlay remembers of its backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BasePin {
    /// Format of the backing file.
    pub format: PinnedFormat,
    /// Virtual size of the backing file in bytes.
    pub virtual_size: u64,
    /// Length of the backing file in bytes.
    pub file_bytes: u64,
    /// When it was last modified, in nanoseconds since 1970, if the host says.
    pub modified: Option<i64>,
    /// Its inode number, if it has one. A hint: a copy has another.
    pub inode: Option<u64>,
    /// A hash of telling parts of the file.
    pub mark: u128,
    /// Hash of the backing file name that the record is about; see [`BasePin::with_name`].
    pub name_hash: u64,
    /// A hash of the whole content, where somebody took the time.
    pub content_hash: Option<[u8; 32]>,
}

impl BasePin {
    /// The same record about a backing file that the header calls `name`.
    #[must_use]
    pub fn with_name(self, name: &[u8]) -> Self {
        Self { name_hash: hash_of_name(name), ..self }
    }

    /// Whether the record is about the backing file that the header calls `name`; if not, somebody
    /// has changed the name without knowing of the record.
    #[must_use]
    pub fn is_about(&self, name: &[u8]) -> bool {
        self.name_hash == hash_of_name(name)
    }

    /// The record as it stands on disk.
    #[must_use]
    pub fn to_raw(self) -> RawBasePin {
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        RawBasePin {
            version: VERSION,
            flags: flag(self.modified.is_some(), HAS_MODIFIED)
                | flag(self.inode.is_some(), HAS_INODE)
                | flag(self.content_hash.is_some(), HAS_CONTENT_HASH),
            format: self.format.number(),
            reserved: [0; 5],
            virtual_size: U64::new(self.virtual_size),
            file_bytes: U64::new(self.file_bytes),
            modified: U64::new(self.modified.unwrap_or(0).cast_unsigned()),
            inode: U64::new(self.inode.unwrap_or(0)),
            mark: U128::new(self.mark),
            name_hash: U64::new(self.name_hash),
            content_hash: self.content_hash.unwrap_or_default(),
        }
    }

    /// Understands a record; `None` for one that a later version has written.
    #[must_use]
    pub fn from_raw(raw: RawBasePin) -> Option<Self> {
        let has = |flag: u8| raw.flags & flag != 0;
        let pin = Self {
            format: PinnedFormat::from_number(raw.format)?,
            virtual_size: raw.virtual_size.get(),
            file_bytes: raw.file_bytes.get(),
            modified: has(HAS_MODIFIED).then(|| raw.modified.get().cast_signed()),
            inode: has(HAS_INODE).then(|| raw.inode.get()),
            mark: raw.mark.get(),
            name_hash: raw.name_hash.get(),
            content_hash: has(HAS_CONTENT_HASH).then_some(raw.content_hash),
        };
        // What is not understood to the last bit could not be written back as it was.
        (pin.to_raw() == raw).then_some(pin)
    }

    /// Understands the data of the extension; `None` for anything but a record of this version.
    pub(crate) fn from_bytes(data: &[u8]) -> Option<Self> {
        RawBasePin::read_from_bytes(data).ok().and_then(Self::from_raw)
    }
}

/// FNV-1a, 64 bits: tells names apart, and resists nobody.
fn hash_of_name(name: &[u8]) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    name.iter().fold(START, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pin() -> BasePin {
        BasePin {
            format: PinnedFormat::Qcow2,
            virtual_size: 1 << 30,
            file_bytes: 196_616,
            modified: Some(-1),
            inode: None,
            mark: 7 << 120 | 9,
            name_hash: 0,
            content_hash: None,
        }
    }

    #[test]
    fn a_record_lies_on_disk_like_this() {
        let bytes = pin().with_name(b"base.qcow2").to_raw();
        insta::assert_snapshot!(format!("{:02x?}", bytes.as_bytes()));
    }

    #[test]
    fn hashes_of_names_are_those_of_the_published_function() {
        assert_eq!(hash_of_name(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash_of_name(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash_of_name(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_record_is_about_one_name() {
        let pin = pin().with_name(b"base.qcow2");
        assert!(pin.is_about(b"base.qcow2"));
        assert!(!pin.is_about(b"./base.qcow2"));
    }

    #[test]
    fn what_is_not_of_this_version_is_not_understood() {
        let good = pin().to_raw();
        assert_eq!(BasePin::from_raw(good), Some(pin()));
        for other in [
            RawBasePin { version: 2, ..good },
            RawBasePin { flags: good.flags | 8, ..good },
            RawBasePin { format: 2, ..good },
            RawBasePin { reserved: [0, 0, 0, 0, 1], ..good },
            // A number whose flag is missing.
            RawBasePin { inode: U64::new(1), ..good },
        ] {
            assert_eq!(BasePin::from_raw(other), None, "{other:?}");
        }
        assert_eq!(BasePin::from_bytes(&good.as_bytes()[..95]), None);
        assert_eq!(BasePin::from_bytes(&[good.as_bytes(), &[0]].concat()), None);
    }

    proptest! {
        #[test]
        fn what_is_understood_is_written_back_as_it_was(
            flags in 0..16_u8,
            format in 0..3_u8,
            rest in proptest::collection::vec(any::<u8>(), 88),
        ) {
            let mut bytes = [1, flags, format, 0, 0, 0, 0, 0].to_vec();
            bytes.extend(rest);
            if let Some(pin) = BasePin::from_bytes(&bytes) {
                let raw = pin.to_raw();
                prop_assert_eq!(raw.as_bytes(), &bytes[..]);
            }
        }
    }
}
