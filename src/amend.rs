//! Amending: the options of an existing image, as far as they can change.
//!
//! Everything new (refcount blocks, their table, the snapshot table) is written behind the end of
//! the file, where nothing leads. Then one write of the first sector switches the header: a power
//! cut leaves the old image or the new one.

mod error;
mod header;
mod recount;

use std::sync::Arc;

use block_io::Storage;
use chain::Chain;
use qcow2_format::{
    AutoclearFeatures, CompatibleFeatures, Header, IncompatibleFeatures, RefcountOrder, Version,
};

pub use error::AmendError;

/// What is to change; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmendOptions {
    /// Version of the format.
    pub version: Option<Version>,
    /// Width of a refcount: a power of two up to 64.
    pub refcount_bits: Option<u64>,
    /// Refcount updates may be postponed.
    pub lazy_refcounts: Option<bool>,
    /// Name of the external data file; the empty name is none. The file itself stays where it is.
    pub data_file: Option<String>,
    /// The external data file is a valid raw image on its own. It can only cease to be one.
    pub data_file_raw: Option<bool>,
    /// Name and format of the backing file, which must be what they are.
    pub backing: Option<(Option<String>, Option<String>)>,
}

/// Changes the options of the top layer of a chain that is open for writing, and closes it. `report`
/// is told how much of how much is done.
///
/// # Errors
/// A change that is not possible: nothing has changed then, but that zero clusters may have become
/// data before version 2 was refused. Or the host failed: the image has its old options, or, if the
/// last sync failed, possibly the new ones.
pub fn amend(
    chain: Chain,
    options: &AmendOptions,
    report: &mut dyn FnMut(u64, u64),
) -> Result<(), AmendError> {
    let image = chain.top().image().ok_or(AmendError::NotQcow2)?;
    let old = image.header().clone();
    let wanted = Wanted::new(&old, options)?;
    if wanted.version == Version::V2 && old.version() == Version::V3 {
        check_downgrade(&old, image)?;
        let total = image.virtual_size();
        image.expand_zeroes(&mut |behind| report(behind, total)).map_err(AmendError::Engine)?;
    }
    let storage = Arc::clone(chain.top().storage());
    chain.close().map_err(AmendError::Chain)?;
    // The header on disk is the one that counts now: the dirty bit is down, bits may have been
    // cleared. The storage keeps its locks.
    let old = cow_engine::read_header(storage.as_ref()).map_err(AmendError::Engine)?;
    wanted.apply(storage.as_ref(), &old, report)
}

/// What the image is to be, complete and possible as far as the header tells.
struct Wanted<'a> {
    version: Version,
    order: RefcountOrder,
    lazy_refcounts: bool,
    data_file_raw: bool,
    options: &'a AmendOptions,
}

impl<'a> Wanted<'a> {
    fn new(header: &Header, options: &'a AmendOptions) -> Result<Self, AmendError> {
        let features = header.features();
        let was_lazy = features.compatible.contains(CompatibleFeatures::LAZY_REFCOUNTS);
        let was_raw = features.autoclear.contains(AutoclearFeatures::RAW_EXTERNAL_DATA);
        let version = options.version.unwrap_or(header.version());
        let order = match options.refcount_bits {
            None => header.geometry().refcount_order(),
            Some(bits) => order_of(bits)?,
        };
        // A version 2 image that stays one has no lazy refcounts; one that becomes one loses them.
        let lazy_refcounts = options.lazy_refcounts.unwrap_or(was_lazy && version == Version::V3);
        let wanted = Self {
            version,
            order,
            lazy_refcounts,
            data_file_raw: was_raw && options.data_file_raw != Some(false),
            options,
        };
        wanted.check(header, was_raw)?;
        Ok(wanted)
    }

    fn check(&self, header: &Header, was_raw: bool) -> Result<(), AmendError> {
        let has_data_file = header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE);
        let options = self.options;
        if let Some((name, format)) = &options.backing {
            let text = |bytes: Option<&[u8]>| {
                bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            };
            if *name != text(header.backing_name()) || *format != text(header.backing_format()) {
                return Err(AmendError::Backing);
            }
        }
        let is_old = self.version == Version::V2;
        match () {
            () if is_old && self.order != RefcountOrder::DEFAULT => {
                Err(match options.refcount_bits {
                    Some(_) => AmendError::Version2RefcountBits,
                    None => AmendError::DowngradeRefcountBits,
                })
            }
            () if options.data_file.is_some() && !has_data_file => Err(AmendError::NoDataFile),
            () if options.data_file_raw == Some(true) && !was_raw => Err(AmendError::DataFileRaw),
            () if is_old && self.lazy_refcounts => Err(AmendError::Version2Lazy),
            () => Ok(()),
        }
    }

    fn apply(
        &self,
        storage: &dyn Storage,
        old: &Header,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<(), AmendError> {
        let mut new = old.clone();
        if self.version == Version::V3 && old.version() == Version::V2 {
            new = new.with_version(Version::V3)?;
        }
        let snapshots = recount::completed_snapshots(storage, &new)?;
        if self.order != old.geometry().refcount_order() || snapshots.is_some() {
            let (refcounts, snapshots) =
                recount::write(storage, &new, self.order, snapshots, report)?;
            new = new.with_refcounts(self.order, refcounts)?;
            if let Some(table) = snapshots {
                new = new.with_snapshot_table(table)?;
            }
        }
        if let Some(name) = &self.options.data_file {
            new = new.with_data_file_name(Some(name.as_bytes()).filter(|name| !name.is_empty()))?;
        }
        if new.version() == Version::V3 {
            new = self.with_features(new)?;
        }
        if self.version == Version::V2 && new.version() == Version::V3 {
            new = new.with_version(Version::V2)?;
        }
        header::switch(storage, old, &new)
    }

    fn with_features(&self, header: Header) -> Result<Header, AmendError> {
        let mut features = header.features();
        let (lazy, raw) =
            (CompatibleFeatures::LAZY_REFCOUNTS, AutoclearFeatures::RAW_EXTERNAL_DATA);
        features.compatible = match self.lazy_refcounts {
            true => features.compatible.with(lazy),
            false => features.compatible.without(lazy),
        };
        if !self.data_file_raw {
            features.autoclear = features.autoclear.without(raw);
        }
        Ok(header.with_features(features)?)
    }
}

fn order_of(bits: u64) -> Result<RefcountOrder, AmendError> {
    let refused = AmendError::RefcountBits { found: bits };
    if !bits.is_power_of_two() {
        return Err(refused);
    }
    RefcountOrder::new(bits.trailing_zeros()).map_err(|_| refused)
}

/// What version 2 cannot have.
fn check_downgrade(header: &Header, image: &cow_engine::Image) -> Result<(), AmendError> {
    let zstd = IncompatibleFeatures::COMPRESSION_TYPE;
    let rest = header.features().incompatible.without(zstd).without(IncompatibleFeatures::DIRTY);
    if rest.contains(IncompatibleFeatures::EXTERNAL_DATA_FILE) {
        return Err(AmendError::DowngradeDataFile);
    }
    if !rest.is_empty() {
        return Err(AmendError::DowngradeFeatures { found: rest.bits() });
    }
    if header.snapshot_count() > 0 {
        return Err(AmendError::DowngradeSnapshots);
    }
    if header.requires(zstd) && has_compressed(image)? {
        return Err(AmendError::DowngradeCompression);
    }
    Ok(())
}

fn has_compressed(image: &cow_engine::Image) -> Result<bool, AmendError> {
    let (mut at, end) = (0, image.virtual_size());
    while at < end {
        let Some(run) = image.first_run(at, end - at).map_err(AmendError::Engine)? else { break };
        if let cow_engine::RunKind::Compressed { .. } = run.kind {
            return Ok(true);
        }
        at += run.len.max(1);
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
