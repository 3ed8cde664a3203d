//! Opening an image: what is read, what is compared with what, and what is refused by name.
//!
//! Nothing in the file changes unless everything else has succeeded; then only autoclear bits
//! that nobody here keeps true are cleared, as the format demands of a writer.

use std::sync::Arc;

use block_io::{Storage, StorageExt};
use cluster_map::Dialect;
use qcow2_format::{
    AutoclearFeatures, CompatibleFeatures, CryptMethod, FieldUpdate, Header, HostOffset,
    IncompatibleFeatures, L1Entry, RefcountTableEntry, Version,
};
use refcount::Ledger;

use crate::allocator::Allocator;
use crate::claims::{check_for_reading, claim_metadata};
use crate::compression::ClusterCache;
use crate::data_file::DataFile;
use crate::error::{Error, Feature, Purpose, Result};
use crate::flush::FlushQueue;
use crate::image::{Image, Writer};
use crate::in_flight::InFlight;
use crate::l1_table::L1Table;
use crate::marks::Marks;
use crate::options::OpenOptions;
use crate::pins::Pins;
use crate::poison::Poison;
use crate::slice_cache::SliceCache;
use crate::sync::atomic::AtomicBool;

/// Bytes of L2 entries that are cached as one piece.
const SLICE_BYTES: u64 = 4096;

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// Not a qcow2 image, a damaged one, or one that uses what is not supported; the message
    /// names it. The file is then unchanged.
    pub fn open(storage: Arc<dyn Storage>, options: OpenOptions) -> Result<Self> {
        let header = read_header(&*storage)?;
        Self::open_with_header(storage, header, options)
    }

    /// Opens an image whose header was [read](read_header) before, and has not changed since.
    ///
    /// # Errors
    /// As for [`open`](Image::open).
    pub fn open_with_header(
        storage: Arc<dyn Storage>,
        header: Header,
        options: OpenOptions,
    ) -> Result<Self> {
        let writable = !options.read_only;
        check_supported(&header, writable)?;
        if writable && header.requires(IncompatibleFeatures::DIRTY) {
            return Err(Error::MarkedDirty);
        }
        if writable && storage.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let geometry = header.geometry();
        let data_file = open_data_file(&header, &options)?;
        let mut l1 = read_l1(&*storage, &header)?;
        let poison = Arc::new(Poison::default());
        let writer = match writable {
            true => Some(open_writer(&storage, &header, &mut l1, &poison, &options)?),
            false => {
                check_for_reading(&*storage, &header, &l1)?;
                None
            }
        };
        let header = match writable {
            true => clear_autoclear(&*storage, header)?,
            false => header,
        };
        let dialect = match header.version() {
            Version::V2 => Dialect::version_2(geometry),
            Version::V3 => Dialect::version_3(geometry),
        };
        let dialect = match &data_file {
            Some(_) => dialect.with_external_data(),
            None => dialect,
        };
        let slice_bytes = SLICE_BYTES.min(geometry.cluster_bytes());
        // Both are powers of two.
        let slice_entry_bits = (slice_bytes / geometry.l2_entry_bytes()).trailing_zeros();
        let disk_slices =
            geometry.clusters_for(header.virtual_size()).div_ceil(1 << slice_entry_bits);
        let l2_budget = options.l2_cache_bytes;
        let slices = match writable {
            true => SliceCache::new(l2_budget, slice_bytes, disk_slices),
            false => SliceCache::for_reading(l2_budget, slice_bytes, disk_slices),
        };
        Ok(Self {
            storage,
            data_file,
            header,
            dialect,
            backing: options.backing,
            l1: L1Table::new(l1.into_iter()),
            slices,
            slice_entry_bits,
            decompressed: ClusterCache::default(),
            in_flight: InFlight::default(),
            pins: Pins::default(),
            poison,
            flushes: FlushQueue::default(),
            unsynced: AtomicBool::new(false),
            data_unsynced: AtomicBool::new(false),
            writer,
        })
    }
}

/// Reads and checks the header of an image, and nothing else.
///
/// # Errors
/// Not a qcow2 image, or a header the format does not allow.
pub fn read_header(storage: &dyn Storage) -> Result<Header> {
    // Most images are small or have 64 KiB clusters; the first bytes say how much is needed.
    let mut prefix = [0; 512];
    let found = storage.read_at(0, &mut prefix).map_err(Error::storage(Purpose::Header))?;
    let cluster_bits = Header::peek_cluster_bits(prefix.get(..found).unwrap_or(&prefix))?;
    let mut cluster = vec![0; 1 << cluster_bits.get()];
    let found = storage.read_at(0, &mut cluster).map_err(Error::storage(Purpose::Header))?;
    cluster.truncate(found);
    Ok(Header::decode(&cluster)?)
}

/// Reads and checks the header of an image that is only read. What cluster 0 holds behind all that the
/// format knows of may be left out: most of a deep chain would be spent on zeros.
///
/// # Errors
/// As for [`read_header`].
pub fn read_header_for_reading(storage: &dyn Storage) -> Result<Header> {
    let mut start = [0; 4096];
    let found = storage.read_at(0, &mut start).map_err(Error::storage(Purpose::Header))?;
    match start.get(..found).and_then(Header::decode_start) {
        Some(header) => Ok(header),
        None => read_header(storage),
    }
}

/// Refuses by name what this engine cannot serve, whatever else the image holds. That an image for
/// writing was not closed cleanly is left to [`Image::open`]: a repair may come in between.
///
/// # Errors
/// The header asks for something that is not supported, or says that the image is damaged.
pub fn check_supported(header: &Header, writable: bool) -> Result<()> {
    let never = |feature| Err(Error::Unsupported { feature, readable: false });
    let read_only = |feature| Err(Error::Unsupported { feature, readable: true });
    if header.crypt_method() != CryptMethod::None {
        return never(Feature::Encryption);
    }
    if is_raw_external(header) && !header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE) {
        return never(Feature::RawExternalData);
    }
    if !writable {
        return Ok(());
    }
    if header.requires(IncompatibleFeatures::CORRUPT) {
        return Err(Error::MarkedCorrupt);
    }
    if header.bitmaps().is_some() && vouches_for_bitmaps(header) {
        return read_only(Feature::Bitmaps);
    }
    Ok(())
}

/// Whether every writer so far has kept the bitmaps true. Otherwise there are none any more: what
/// is left of them leaks, and the extension stays, so that the real tools say what has happened.
fn vouches_for_bitmaps(header: &Header) -> bool {
    header.features().autoclear.contains(AutoclearFeatures::BITMAPS)
}

/// Whether the header promises that the external data file is a raw image of its own.
fn is_raw_external(header: &Header) -> bool {
    header.features().autoclear.contains(AutoclearFeatures::RAW_EXTERNAL_DATA)
}

/// The external data file, if the image has one: given when it is needed, and only then.
fn open_data_file(header: &Header, options: &OpenOptions) -> Result<Option<DataFile>> {
    let needed = header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE);
    match (needed, &options.data_file) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Error::DataFileUnexpected),
        (true, None) => {
            let name = header.data_file_name();
            let name = name.map(|name| String::from_utf8_lossy(name).into_owned());
            Err(Error::DataFileMissing { name })
        }
        (true, Some(data)) if !options.read_only && data.is_read_only() => Err(Error::ReadOnly),
        (true, Some(data)) => Ok(Some(DataFile::new(Arc::clone(data), is_raw_external(header)))),
    }
}

/// Reads the active L1 table. What lies past the end of the file reads as unallocated.
fn read_l1(storage: &dyn Storage, header: &Header) -> Result<Vec<L1Entry>> {
    let words = read_table(
        storage,
        Purpose::L1Table,
        header.l1_table_offset(),
        u64::from(header.l1_entry_count()),
    )?;
    Ok(words.into_iter().map(L1Entry::from_bits).collect())
}

/// Reads a table of 8-byte entries whose size the header check has bounded.
fn read_table(
    storage: &dyn Storage,
    during: Purpose,
    offset: HostOffset,
    entries: u64,
) -> Result<Vec<u64>> {
    // A table far past the end of the file costs no memory: it is all zeros and left short.
    let len = storage.len().map_err(Error::storage(Purpose::Length))?;
    let there = len.saturating_sub(offset.get()).div_ceil(8).min(entries);
    let mut bytes = vec![0; (there * 8) as usize];
    storage.read_zero_filled(offset.get(), &mut bytes).map_err(Error::storage(during))?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
    words.resize(entries as usize, 0);
    Ok(words)
}

/// Prepares writing: the refcount table, and which clusters hold metadata.
fn open_writer(
    storage: &Arc<dyn Storage>,
    header: &Header,
    l1: &mut [L1Entry],
    poison: &Arc<Poison>,
    options: &OpenOptions,
) -> Result<Writer> {
    let geometry = header.geometry();
    let len = storage.len().map_err(Error::storage(Purpose::Length))?;
    header.validate_against_file_len(len)?;
    let table = header.refcount_table();
    let entries = u64::from(table.count) * geometry.table_entries_per_cluster();
    let words = read_table(&**storage, Purpose::RefcountTable, table.offset, entries)?;
    let words: Vec<RefcountTableEntry> =
        words.into_iter().map(RefcountTableEntry::from_bits).collect();
    let map = claim_metadata(&**storage, header, l1, &words)?;
    let ledger = Ledger::new(geometry, table.offset, words, len);
    let cache_bytes = options.refcount_cache_bytes;
    let (storage, poison) = (Arc::clone(storage), Arc::clone(poison));
    let allocator = Allocator::new(storage, geometry, ledger, poison, cache_bytes);
    let marks = Marks::new(header.version(), header.features().incompatible);
    let wanted = header.features().compatible.contains(CompatibleFeatures::LAZY_REFCOUNTS);
    let possible = header.version() == Version::V3;
    let lazy_refcounts = possible && options.lazy_refcounts.unwrap_or(wanted);
    Ok(Writer { allocator, map, marks, lazy_refcounts })
}

/// Clears the autoclear bits that promise something no writer here keeps.
fn clear_autoclear(storage: &dyn Storage, header: Header) -> Result<Header> {
    let mut cleared = header.features();
    // The bitmaps bit may be set without any bitmap; with bitmaps the open was refused. What is
    // kept true here is that a raw data file stays one.
    let kept = if is_raw_external(&header) {
        AutoclearFeatures::RAW_EXTERNAL_DATA
    } else {
        AutoclearFeatures::NONE
    };
    if cleared.autoclear == kept {
        return Ok(header);
    }
    cleared.autoclear = kept;
    let header = header.with_features(cleared)?;
    let update = FieldUpdate::autoclear_features(kept);
    storage.write_at(update.offset(), update.bytes()).map_err(Error::storage(Purpose::Header))?;
    storage.sync().map_err(Error::storage(Purpose::Sync))?;
    Ok(header)
}
