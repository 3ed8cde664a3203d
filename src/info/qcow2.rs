//! What qcow2 adds to the description of an image.

use block_io::{Storage, StorageExt};
use qcow2_format::{
    AutoclearFeatures, BitmapFlags, CompatibleFeatures, CompressionType, CryptMethod, Header,
    IncompatibleFeatures, Snapshot, SnapshotTable, SnapshotTableDecode, Version,
    decode_bitmap_directory, limit,
};

use super::InfoError;

/// What the header of a qcow2 image says. Names are as stored; bytes that are not UTF-8 are
/// replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Qcow2Info {
    /// Size of the virtual disk in bytes.
    pub virtual_size: u64,
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// Bytes per cluster.
    pub cluster_size: u64,
    /// How compressed clusters are compressed.
    pub compression: CompressionType,
    /// Refcount updates may be postponed.
    pub lazy_refcounts: bool,
    /// Width of a refcount.
    pub refcount_bits: u32,
    /// Refcounts may be too low: the last writer did not finish.
    pub dirty: bool,
    /// Marked as damaged.
    pub corrupt: bool,
    /// L2 entries with subclusters.
    pub extended_l2: bool,
    /// Name of the external data file; empty when the header does not say it.
    pub data_file: Option<String>,
    /// The external data file is a valid raw image on its own.
    pub data_file_raw: bool,
    /// How guest data is encrypted.
    pub encryption: Option<EncryptionInfo>,
    /// Name of the backing file.
    pub backing_name: Option<String>,
    /// Format of the backing file.
    pub backing_format: Option<String>,
    /// Internal snapshots.
    pub snapshots: Vec<SnapshotInfo>,
    /// Persistent bitmaps.
    pub bitmaps: Vec<BitmapInfo>,
    /// Guest offset behind the disk where VM states are kept.
    pub vm_state_offset: u64,
    /// Bytes of the L1 tables of the disk and of all snapshots together.
    pub l1_table_bytes: u64,
}

/// How guest data is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionInfo {
    /// The old method, built into the format.
    Aes,
    /// LUKS.
    Luks,
}

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id, unique within the image.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Bytes of VM state.
    pub vm_state_bytes: u64,
    /// When it was taken: seconds since 1970.
    pub seconds: u32,
    /// And nanoseconds.
    pub nanoseconds: u32,
    /// Time the guest had run, in nanoseconds.
    pub guest_clock_nanoseconds: u64,
    /// Instructions the guest had run, if counted.
    pub instructions: Option<u64>,
}

/// A persistent bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// Bytes per bit.
    pub granularity: u64,
    /// Was not saved cleanly.
    pub in_use: bool,
    /// Records from the moment the image is opened.
    pub auto: bool,
}

/// Of a table whose length is not known yet.
const HEAD_BYTES: u64 = 512;

/// Of cluster 0: nearly always as much as there is to know.
const HEADER_BYTES: u64 = 4096;

pub(super) fn read(storage: &dyn Storage, file_length: u64) -> Result<Qcow2Info, InfoError> {
    let header = read_header(storage)?;
    let geometry = header.geometry();
    let features = header.features();
    let virtual_size = header.virtual_size();
    let data_file = header
        .requires(IncompatibleFeatures::EXTERNAL_DATA_FILE)
        .then(|| text(header.data_file_name().unwrap_or_default()));
    let snapshots = snapshots(storage, &header, file_length)?;
    let l1_entries = snapshots.iter().map(|snapshot| u64::from(snapshot.l1_table().count));
    Ok(Qcow2Info {
        virtual_size,
        version: if header.version() == Version::V2 { 2 } else { 3 },
        cluster_size: geometry.cluster_bytes(),
        compression: header.compression_type(),
        lazy_refcounts: features.compatible.contains(CompatibleFeatures::LAZY_REFCOUNTS),
        refcount_bits: geometry.refcount_order().bits(),
        dirty: header.requires(IncompatibleFeatures::DIRTY),
        corrupt: header.requires(IncompatibleFeatures::CORRUPT),
        extended_l2: header.requires(IncompatibleFeatures::EXTENDED_L2),
        data_file,
        data_file_raw: features.autoclear.contains(AutoclearFeatures::RAW_EXTERNAL_DATA),
        encryption: match header.crypt_method() {
            CryptMethod::None => None,
            CryptMethod::Aes => Some(EncryptionInfo::Aes),
            CryptMethod::Luks => Some(EncryptionInfo::Luks),
        },
        backing_name: header.backing_name().map(text),
        backing_format: header.backing_format().map(text),
        l1_table_bytes: l1_entries.fold(u64::from(header.l1_entry_count()), u64::saturating_add)
            * 8,
        snapshots: snapshots.iter().map(snapshot).collect(),
        bitmaps: bitmaps(storage, &header)?,
        vm_state_offset: geometry
            .l1_entries_for(virtual_size)
            .saturating_mul(geometry.l2_table_guest_bytes()),
    })
}

/// The header. What lies in cluster 0 behind all that the format knows of is not looked at, where that
/// can be told: most of a chain would be spent on zeros.
fn read_header(storage: &dyn Storage) -> Result<Header, InfoError> {
    let head = read_at_most(storage, 0, HEADER_BYTES)?;
    if let Some(header) = Header::decode_start(&head) {
        return Ok(header);
    }
    let cluster_bits = Header::peek_cluster_bits(&head)?;
    Ok(Header::decode(&read_at_most(storage, 0, 1 << cluster_bits.get())?)?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the file has of a range; the callers know a limit for its length.
fn read_at_most(storage: &dyn Storage, offset: u64, len: u64) -> Result<Vec<u8>, InfoError> {
    let mut bytes = vec![0; len as usize];
    let read = storage.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn snapshots(
    storage: &dyn Storage,
    header: &Header,
    file_length: u64,
) -> Result<Vec<Snapshot>, InfoError> {
    let table = header.snapshot_table();
    if table.count == 0 {
        return Ok(Vec::new());
    }
    let offset = table.offset.get();
    let available = file_length.saturating_sub(offset).min(limit::SNAPSHOT_TABLE_BYTES_MAX);
    let mut len = HEAD_BYTES.min(available);
    loop {
        let bytes = read_at_most(storage, offset, len)?;
        match SnapshotTable::decode(&bytes, table.count)? {
            SnapshotTableDecode::Complete(table) => {
                return Ok(table.snapshots().to_vec());
            }
            SnapshotTableDecode::NeedsBytes(needed) if needed <= available && needed > len => {
                // At least doubled, so that many small entries take few rounds.
                len = needed.max(len.saturating_mul(2)).min(available);
            }
            SnapshotTableDecode::NeedsBytes(needed) => {
                return Err(block_io::Error::ShortRead {
                    offset,
                    wanted: needed,
                    found: available,
                }
                .into());
            }
        }
    }
}

fn snapshot(snapshot: &Snapshot) -> SnapshotInfo {
    SnapshotInfo {
        id: text(snapshot.id()),
        name: text(snapshot.name()),
        vm_state_bytes: snapshot.vm_state_bytes(),
        seconds: snapshot.seconds(),
        nanoseconds: snapshot.nanoseconds(),
        guest_clock_nanoseconds: snapshot.guest_clock_nanoseconds(),
        instructions: snapshot.icount(),
    }
}

fn bitmaps(storage: &dyn Storage, header: &Header) -> Result<Vec<BitmapInfo>, InfoError> {
    let valid = header.features().autoclear.contains(AutoclearFeatures::BITMAPS);
    let Some(extension) = header.bitmaps().filter(|_| valid) else { return Ok(Vec::new()) };
    let found = extension.directory_bytes();
    if found > limit::BITMAP_DIRECTORY_BYTES_MAX {
        let allowed = limit::BITMAP_DIRECTORY_BYTES_MAX;
        return Err(InfoError::TooLarge { table: "bitmap directory", found, allowed });
    }
    let offset = extension.directory_offset().get();
    let available = storage.len()?.saturating_sub(offset);
    if found > available {
        let short = block_io::Error::ShortRead { offset, wanted: found, found: available };
        return Err(short.into());
    }
    let mut bytes = vec![0; found as usize];
    storage.read_exact_at(offset, &mut bytes)?;
    let entries = decode_bitmap_directory(header.geometry(), &bytes, extension.count())?;
    let info = |entry: &qcow2_format::BitmapDirectoryEntry| BitmapInfo {
        name: text(entry.name()),
        granularity: 1 << entry.granularity_bits().min(63),
        in_use: entry.flags().contains(BitmapFlags::IN_USE),
        auto: entry.flags().contains(BitmapFlags::AUTO),
    };
    Ok(entries.iter().map(info).collect())
}
