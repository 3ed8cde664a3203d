//! The image under check: its header, its file, and the only way to write to it.

use block_io::{Storage, StorageExt};
use qcow2_format::{
    AutoclearFeatures, FieldUpdate, Geometry, Header, IncompatibleFeatures, TablePointer, Version,
    limit, table_words,
};

use super::CheckError;

/// The most host clusters that a check counts: 2^31, as in the reference implementation. With
/// 64 KiB clusters that is a file of 128 TiB.
pub const CLUSTERS_MAX: u64 = 1 << 31;

/// What the meaning of an entry depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    /// Length of the file, rounded up to sectors as hosts present it.
    pub(super) file_bytes: u64,
    /// Data clusters lie in another file and have no counts.
    pub(super) has_data_file: bool,
}

/// The image under check.
#[derive(Debug)]
pub(super) struct Image<'a> {
    storage: &'a dyn Storage,
    pub(super) header: Header,
    pub(super) layout: Layout,
    /// The refcount table, as large as the header says.
    pub(super) refcount_table: Vec<u64>,
    written: bool,
}

impl<'a> Image<'a> {
    pub(super) fn open(storage: &'a dyn Storage) -> Result<Self, CheckError> {
        let len = storage.len()?;
        let first_bytes = read_up_to(storage, 0, 512.min(len))?;
        let cluster_bits = Header::peek_cluster_bits(&first_bytes)?;
        let cluster_0 = read_up_to(storage, 0, len.min(1 << cluster_bits.get()))?;
        let header = Header::decode_for_check(&cluster_0)?;
        let geometry = header.geometry();
        let file_bytes = len.checked_next_multiple_of(limit::SECTOR_BYTES).unwrap_or(len);
        let layout = Layout {
            geometry,
            file_bytes,
            has_data_file: header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE),
        };
        let found = layout.clusters_in_file();
        if found > CLUSTERS_MAX {
            return Err(CheckError::TooManyClusters { found, allowed: CLUSTERS_MAX });
        }
        let mut image =
            Self { storage, header, layout, refcount_table: Vec::new(), written: false };
        let table = image.header.refcount_table();
        let entries = u64::from(table.count) * geometry.table_entries_per_cluster();
        image.refcount_table = image.read_words(table.offset.get(), entries)?;
        Ok(image)
    }

    /// Bytes of the file, zeros past its end. The caller has a limit for `len`.
    pub(super) fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, CheckError> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Like [`Image::read`], into a buffer.
    pub(super) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckError> {
        self.storage.read_zero_filled(offset, bytes)?;
        Ok(())
    }

    /// Table entries, zeros past the end of the file.
    pub(super) fn read_words(&self, offset: u64, count: u64) -> Result<Vec<u64>, CheckError> {
        let bytes = self.read(offset, count * 8)?;
        Ok(table_words(&bytes).iter().map(|word| word.get()).collect())
    }

    /// Writes into the file. The first write is preceded by what any writer owes to features
    /// that it does not know: their autoclear bits go.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), CheckError> {
        if !self.written {
            self.clear_unknown_autoclear()?;
            self.written = true;
        }
        self.storage.write_at(offset, bytes)?;
        Ok(())
    }

    fn clear_unknown_autoclear(&mut self) -> Result<(), CheckError> {
        let mut features = self.header.features();
        if features.autoclear.unknown().is_empty() {
            return Ok(());
        }
        let known = features.autoclear.bits() & AutoclearFeatures::KNOWN.bits();
        features.autoclear = AutoclearFeatures::from_bits(known);
        let update = FieldUpdate::autoclear_features(features.autoclear);
        self.storage.write_at(update.offset(), update.bytes())?;
        self.storage.sync()?;
        self.header = self.header.clone().with_features(features)?;
        Ok(())
    }

    /// Makes all writes so far durable.
    pub(super) fn sync(&self) -> Result<(), CheckError> {
        self.storage.sync()?;
        Ok(())
    }

    /// Switches to another refcount table by one write, durable before and after.
    pub(super) fn switch_refcount_table(
        &mut self,
        table: TablePointer,
        entries: Vec<u64>,
    ) -> Result<(), CheckError> {
        let header = self.header.clone().with_refcount_table(table)?;
        self.sync()?;
        let update = FieldUpdate::refcount_table(table);
        self.write(update.offset(), update.bytes())?;
        self.sync()?;
        self.header = header;
        self.refcount_table = entries;
        self.layout.file_bytes = self.storage.len()?.next_multiple_of(limit::SECTOR_BYTES);
        Ok(())
    }

    /// Takes the dirty and corrupt marks away, if there are any.
    pub(super) fn clear_marks(&mut self) -> Result<(), CheckError> {
        let marks = IncompatibleFeatures::DIRTY.with(IncompatibleFeatures::CORRUPT);
        let mut features = self.header.features();
        let without = features.incompatible.without(marks);
        if self.header.version() == Version::V2 || without == features.incompatible {
            return Ok(());
        }
        self.sync()?;
        let update = FieldUpdate::incompatible_features(without);
        self.write(update.offset(), update.bytes())?;
        self.sync()?;
        features.incompatible = without;
        self.header = self.header.clone().with_features(features)?;
        Ok(())
    }
}

impl Layout {
    /// Clusters that the file fills or starts.
    pub(super) const fn clusters_in_file(self) -> u64 {
        self.geometry.clusters_for(self.file_bytes)
    }

    pub(super) const fn cluster_bytes(self) -> u64 {
        self.geometry.cluster_bytes()
    }
}

fn read_up_to(storage: &dyn Storage, offset: u64, len: u64) -> Result<Vec<u8>, CheckError> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let found = storage.read_at(offset, &mut bytes)?;
    bytes.truncate(found);
    Ok(bytes)
}
