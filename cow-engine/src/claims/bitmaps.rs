//! Claims of persistent bitmaps: directory, tables, bits. Without the autoclear bit that vouches
//! for them there are none, only clusters that leak.

use block_io::StorageExt;
use qcow2_format::{
    AutoclearFeatures, BitmapCluster, BitmapDirectoryEntry, BitmapFlags, BitmapTableEntry, Header,
    decode_bitmap_directory,
};

use super::Claims;
use crate::error::{Area, Error, Purpose, Result};

impl Claims<'_> {
    pub(super) fn bitmaps(&mut self, header: &Header) -> Result<()> {
        let trusted = header.features().autoclear.contains(AutoclearFeatures::BITMAPS);
        let Some(extension) = header.bitmaps().filter(|_| trusted) else { return Ok(()) };
        let (offset, len) = (extension.directory_offset(), extension.directory_bytes());
        self.check_place("bitmaps extension", 0, offset)?;
        self.claim(Area::BitmapDirectory, offset, len)?;
        let mut directory = vec![0; usize::try_from(len).unwrap_or(0)];
        self.storage
            .read_zero_filled(offset.get(), &mut directory)
            .map_err(Error::storage(Purpose::BitmapDirectory))?;
        let bitmaps = decode_bitmap_directory(self.geometry, &directory, extension.count())?;
        for (index, bitmap) in bitmaps.iter().enumerate() {
            let (table, entries) = (bitmap.table_offset(), u64::from(bitmap.table_entry_count()));
            self.check_place("bitmap directory", index as u64, table)?;
            self.claim(Area::BitmapTable, table, entries * 8)?;
        }
        bitmaps.iter().try_for_each(|bitmap| self.bitmap_data(bitmap))
    }

    fn bitmap_data(&mut self, bitmap: &BitmapDirectoryEntry) -> Result<()> {
        let (table, entries) = (bitmap.table_offset(), u64::from(bitmap.table_entry_count()));
        let in_use = bitmap.flags().contains(BitmapFlags::IN_USE);
        self.table_words(Purpose::BitmapTable, table, entries, |claims, index, word| {
            let at = table.get().saturating_add(index * 8);
            match BitmapTableEntry::from_bits(word).decode(claims.geometry, at) {
                Ok(BitmapCluster::Stored(cluster)) => {
                    claims.claim_table(Area::BitmapData, "bitmap table", index, cluster)
                }
                Ok(_) => Ok(()),
                // Not saved cleanly: what its entries say is nobody's claim.
                Err(_) if in_use => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }
}
