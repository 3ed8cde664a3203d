//! Internal snapshots: one entry of the snapshot table, and the table.

use alloc::vec::Vec;

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Structure};
use crate::geometry::Geometry;
use crate::header::TablePointer;
use crate::limit;
use crate::unit::HostOffset;

mod table;

pub use table::{SnapshotTable, SnapshotTableDecode};

/// Head of a snapshot table entry as it lies on disk; extra data, id and name follow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawSnapshotHead {
    /// Host offset of the snapshot's L1 table.
    pub l1_table_offset: U64,
    /// Entries of the snapshot's L1 table.
    pub l1_size: U32,
    /// Bytes of the id.
    pub id_str_size: U16,
    /// Bytes of the name.
    pub name_size: U16,
    /// Seconds since 1970.
    pub date_sec: U32,
    /// Nanoseconds on top.
    pub date_nsec: U32,
    /// Guest run time in nanoseconds.
    pub vm_clock_nsec: U64,
    /// Bytes of VM state, if they fit 32 bits.
    pub vm_state_size: U32,
    /// Bytes of extra data.
    pub extra_data_size: U32,
}
const_assert_eq!(size_of::<RawSnapshotHead>(), 40);
const_assert_eq!(align_of::<RawSnapshotHead>(), 1);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, l1_size), 8);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, id_str_size), 12);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, name_size), 14);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, date_sec), 16);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, date_nsec), 20);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, vm_clock_nsec), 24);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, vm_state_size), 32);
const_assert_eq!(core::mem::offset_of!(RawSnapshotHead, extra_data_size), 36);
assert_impl_all!(RawSnapshotHead: FromBytes, IntoBytes, Unaligned);

/// Extra data that version 3 requires: 64-bit VM state size and virtual size.
const EXTRA_BYTES_V3_MIN: usize = 16;
const TABLE: Structure = Structure::SnapshotTable;

impl RawSnapshotHead {
    /// Bytes of the whole entry, without the padding that follows it.
    #[must_use]
    pub const fn entry_bytes(&self) -> u64 {
        let strings = (self.id_str_size.get() as u64).saturating_add(self.name_size.get() as u64);
        let extra = self.extra_data_size.get() as u64;
        (size_of::<Self>() as u64).saturating_add(extra).saturating_add(strings)
    }
}

/// One internal snapshot. Extra data that nobody here knows is preserved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    head: RawSnapshotHead,
    extra: Vec<u8>,
    id: Vec<u8>,
    name: Vec<u8>,
    /// What fills the space to the next entry; zeros but for crafted images.
    padding: Vec<u8>,
}

/// What a new snapshot says about the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotState {
    /// Seconds since 1970.
    pub seconds: u32,
    /// Nanoseconds on top.
    pub nanoseconds: u32,
    /// Guest run time in nanoseconds.
    pub guest_clock_nanoseconds: u64,
    /// Bytes of VM state.
    pub vm_state_bytes: u64,
    /// Virtual size in bytes.
    pub virtual_size: u64,
    /// Guest instruction count.
    pub icount: Option<u64>,
}

impl Snapshot {
    /// Describes a new snapshot, with the extra data that the reference implementation writes.
    ///
    /// # Errors
    /// The id or name is longer than 65535 bytes.
    pub fn new(
        l1_table: TablePointer,
        id: &[u8],
        name: &[u8],
        state: SnapshotState,
    ) -> Result<Self, Error> {
        let string_bytes = |field, bytes: &[u8]| {
            let found = bytes.len() as u64;
            u16::try_from(found).map_err(|_| Error::number(TABLE, field, None, found, "0..=65535"))
        };
        let extra = [state.vm_state_bytes, state.virtual_size, state.icount.unwrap_or(u64::MAX)];
        let extra = extra.map(U64::new).as_bytes().to_vec();
        let head = RawSnapshotHead {
            l1_table_offset: U64::new(l1_table.offset.get()),
            l1_size: U32::new(l1_table.count),
            id_str_size: U16::new(string_bytes("id_str_size", id)?),
            name_size: U16::new(string_bytes("name_size", name)?),
            date_sec: U32::new(state.seconds),
            date_nsec: U32::new(state.nanoseconds),
            vm_clock_nsec: U64::new(state.guest_clock_nanoseconds),
            vm_state_size: U32::new(u32::try_from(state.vm_state_bytes).unwrap_or(0)),
            extra_data_size: U32::new(u32::try_from(extra.len()).unwrap_or(u32::MAX)),
        };
        Ok(Self { head, extra, id: id.to_vec(), name: name.to_vec(), padding: Vec::new() })
    }

    /// The snapshot's L1 table. Not checked when the table is decoded, because an image whose
    /// snapshot is broken still serves its active tables: see [`Snapshot::validate_l1_table`].
    #[must_use]
    pub const fn l1_table(&self) -> TablePointer {
        TablePointer {
            offset: HostOffset::new(self.head.l1_table_offset.get()),
            count: self.head.l1_size.get(),
        }
    }

    /// Id, a decimal number as text in images of the reference implementation.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// Name; may be empty, and need not be unique.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn seconds(&self) -> u32 {
        self.head.date_sec.get()
    }

    /// Nanoseconds on top of the seconds.
    #[must_use]
    pub const fn nanoseconds(&self) -> u32 {
        self.head.date_nsec.get()
    }

    /// Guest run time in nanoseconds.
    #[must_use]
    pub const fn guest_clock_nanoseconds(&self) -> u64 {
        self.head.vm_clock_nsec.get()
    }

    /// Bytes of VM state; 0 without one.
    #[must_use]
    pub fn vm_state_bytes(&self) -> u64 {
        self.extra_word(0).unwrap_or_else(|| u64::from(self.head.vm_state_size.get()))
    }

    /// Virtual size at that time; `None` in old entries that leave it to the current size.
    #[must_use]
    pub fn virtual_size(&self) -> Option<u64> {
        self.extra_word(1)
    }

    /// Guest instruction count, where one was recorded.
    #[must_use]
    pub fn icount(&self) -> Option<u64> {
        self.extra_word(2).filter(|&icount| icount != u64::MAX)
    }

    /// All extra data, understood or not.
    #[must_use]
    pub fn extra_data(&self) -> &[u8] {
        &self.extra
    }

    /// Whether the entry carries less extra data than version 3 requires.
    #[must_use]
    pub fn lacks_extra_data(&self) -> bool {
        self.extra.len() < EXTRA_BYTES_V3_MIN
    }

    /// The same snapshot with the extra data that version 3 requires, `current_size` taken for a
    /// virtual size that was not recorded.
    #[must_use]
    pub fn with_required_extra_data(mut self, current_size: u64) -> Self {
        if self.lacks_extra_data() {
            let words = [self.vm_state_bytes(), current_size].map(U64::new);
            self.extra = words.as_bytes().to_vec();
            self.head.extra_data_size = U32::new(EXTRA_BYTES_V3_MIN as u32);
            self.padding.clear();
        }
        self
    }

    /// Checks the snapshot's L1 table against the limits.
    ///
    /// # Errors
    /// Too large, unaligned, or ending past the largest file position.
    pub fn validate_l1_table(&self, geometry: Geometry) -> Result<(), Error> {
        let TablePointer { offset, count } = self.l1_table();
        let bytes = u64::from(count).saturating_mul(8);
        if bytes > limit::L1_TABLE_BYTES_MAX {
            let allowed = "0..=4194304";
            return Err(Error::number(TABLE, "l1_size", None, u64::from(count), allowed));
        }
        let end = offset.get().checked_add(bytes).and_then(|end| i64::try_from(end).ok());
        if end.is_none() || !geometry.is_cluster_aligned(offset.get()) {
            let allowed = "a multiple of the cluster size whose table ends below 2^63";
            return Err(Error::hex(TABLE, "l1_table_offset", None, offset.get(), allowed));
        }
        Ok(())
    }

    /// The 64-bit word of extra data at `index`, if the entry is long enough.
    fn extra_word(&self, index: usize) -> Option<u64> {
        crate::table::table_words(&self.extra).get(index).map(|word| word.get())
    }

    fn entry_bytes(&self) -> usize {
        usize::try_from(self.head.entry_bytes()).unwrap_or(usize::MAX)
    }

    fn encode_into(&self, table: &mut Vec<u8>) {
        table.extend_from_slice(self.head.as_bytes());
        table.extend_from_slice(&self.extra);
        table.extend_from_slice(&self.id);
        table.extend_from_slice(&self.name);
    }
}

#[cfg(test)]
mod tests;
