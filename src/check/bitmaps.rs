//! References of persistent bitmaps: directory, tables, data.

use std::collections::HashSet;

use qcow2_format::{
    AutoclearFeatures, BitmapCluster, BitmapDirectoryEntry, BitmapFlags, BitmapTableEntry,
    decode_bitmap_directory,
};

use super::image::Image;
use super::pass::Count;
use super::{CheckError, FindingKind};

/// Counts what the bitmaps refer to, if they can be trusted.
pub(super) fn count(image: &Image<'_>, count: &mut Count) -> Result<(), CheckError> {
    let trusted = image.header.features().autoclear.contains(AutoclearFeatures::BITMAPS);
    let Some(extension) = image.header.bitmaps().filter(|_| trusted) else { return Ok(()) };
    let offset = extension.directory_offset().get();
    count.refer(image.layout, offset, extension.directory_bytes(), 1);
    let directory = image.read(offset, extension.directory_bytes())?;
    let entries = decode_bitmap_directory(image.layout.geometry, &directory, extension.count())?;
    let mut seen = HashSet::new();
    for entry in &entries {
        // A crafted directory could name one large table ten thousands of times.
        let first_time = seen.insert((entry.table_offset(), entry.table_entry_count()));
        count_bitmap(image, entry, count, first_time)?;
    }
    Ok(())
}

fn count_bitmap(
    image: &Image<'_>,
    bitmap: &BitmapDirectoryEntry,
    count: &mut Count,
    first_time: bool,
) -> Result<(), CheckError> {
    let (offset, entries) = (bitmap.table_offset().get(), u64::from(bitmap.table_entry_count()));
    count.refer(image.layout, offset, entries * 8, 1);
    let in_use = bitmap.flags().contains(BitmapFlags::IN_USE);
    if !in_use {
        validate_length(image, bitmap)?;
    }
    if !first_time {
        // Its table is counted twice now, which is an error already.
        return Ok(());
    }
    for (index, word) in image.read_words(offset, entries)?.into_iter().enumerate() {
        let at = offset.saturating_add(index as u64 * 8);
        match BitmapTableEntry::from_bits(word).decode(image.layout.geometry, at) {
            Ok(BitmapCluster::Stored(cluster)) => {
                count.refer(image.layout, cluster.get(), image.layout.cluster_bytes(), 1);
            }
            Ok(_) => {}
            Err(_) if in_use => {
                let name = String::from_utf8_lossy(bitmap.name()).into_owned();
                count.tally.error(FindingKind::BitmapTableEntry { name, entry: word });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Only a bitmap that was not saved cleanly may be of another size than the disk.
fn validate_length(image: &Image<'_>, bitmap: &BitmapDirectoryEntry) -> Result<(), CheckError> {
    let bits = image.header.virtual_size().div_ceil(1 << bitmap.granularity_bits());
    let allowed = image.layout.geometry.clusters_for(bits.div_ceil(8));
    let found = u64::from(bitmap.table_entry_count());
    if found != allowed {
        let name = String::from_utf8_lossy(bitmap.name()).into_owned();
        return Err(CheckError::BitmapTableLength { name, found, allowed });
    }
    Ok(())
}
