//! Opening a chain: from the top down by names, then the images from the bottom up.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_io::{FileId, Lock, Locking, Storage, StorageExt};
use cow_engine::Image;
use qcow2_format::{Header, IncompatibleFeatures};

use crate::chain::Chain;
use crate::data_file::{self, Wanted};
use crate::error::{Error, Missing, Result};
use crate::format::Format;
use crate::handler::Handled;
use crate::layer::{Disk, Layer};
use crate::lower::LowerLayers;
use crate::name;
use crate::options::OpenOptions;
use crate::pin::{BaseFinding, Pair, judge};
use crate::raw::RawDisk;

/// A file of the chain, opened and locked, not yet interpreted.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    storage: Arc<dyn Storage>,
    format: Format,
    /// Read once the file is locked; only qcow2 has one.
    pub(crate) header: Option<Header>,
    data_file: Option<Arc<dyn Storage>>,
}

impl Chain {
    /// Opens the image at `path` with everything it rests on.
    ///
    /// # Errors
    /// A file is missing, locked or not what it should be; a format is missing; the policy does
    /// not allow something. No file has changed then.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        // Two writers would destroy the image: who shares by force only reads.
        let options = &options.clone().read_only(options.read_only || options.policy.force_share);
        let mut top = open_top(path, options)?;
        top.read_header()?;
        let writable = !options.read_only;
        let wanted = Wanted { given: options.data_file.as_deref(), writable };
        top.data_file = data_file::open(&top, wanted, options)?;
        let lower = if options.backing { open_lower(&top, options)? } else { Vec::new() };
        refuse_shared_data_files(&top, &lower)?;
        let bases = judge_bases(&top, &lower, options)?;
        let l2_cache_bytes = lower_l2_cache_bytes(lower.len(), options);
        let mut layers = Vec::with_capacity(lower.len());
        for found in lower {
            let engine =
                cow_engine::OpenOptions::new().read_only(true).l2_cache_bytes(l2_cache_bytes);
            layers.push(Arc::new(interpret(found, engine)?));
        }
        let lower = LowerLayers::new(layers, options.chain_index_bytes);
        let mut engine = cow_engine::OpenOptions::new()
            .read_only(options.read_only)
            .l2_cache_bytes(options.l2_cache_bytes)
            .refcount_cache_bytes(options.refcount_cache_bytes);
        if let Some(lazy) = options.lazy_refcounts {
            engine = engine.lazy_refcounts(lazy);
        }
        if !lower.layers().is_empty() {
            engine = engine.backing(Some(Arc::new(lower.clone())));
        }
        // Only now: as long as a file is missing, or not allowed, nothing changes.
        if repair_dirty(&top, options)? {
            top.read_header()?;
        }
        Ok(Self::new(interpret(top, engine)?, lower, options.read_only).with_bases(bases))
    }
}

/// Memory for L2 tables of each lower layer. What the index remembers is not looked up in tables again.
fn lower_l2_cache_bytes(layers: usize, options: &OpenOptions) -> u64 {
    match layers {
        0 | 1 => options.l2_cache_bytes,
        _ if options.chain_index_bytes == 0 => options.l2_cache_bytes,
        layers => options.l2_cache_bytes / layers as u64,
    }
}

fn open_top(path: &Path, options: &OpenOptions) -> Result<Found> {
    let policy = &options.policy;
    let refuse = |source| Error::Storage { layer: path.to_owned(), source };
    let storage =
        options.host().open(path, &host_options(options, !options.read_only)).map_err(refuse)?;
    let format = match options.format {
        Some(format) => format,
        None if policy.probe => probe(&*storage).map_err(refuse)?,
        None => {
            let (what, layer) = (Missing::TopFormat, path.to_owned());
            return Err(Error::Missing { what, layer, name: None });
        }
    };
    let lock = match (format, options.read_only) {
        _ if policy.force_share => Lock::shared_reader(),
        (Format::Qcow2, false) => Lock::qcow2_writer(),
        (Format::Qcow2, true) => Lock::qcow2_reader(),
        (Format::Raw, false) => Lock::raw_writer(),
        (Format::Raw, true) if policy.refuse_writers => Lock::still_reader(),
        (Format::Raw, true) => Lock::raw_reader(),
    };
    storage.lock(lock).map_err(refuse)?;
    Ok(Found::new(path.to_owned(), storage, format))
}

/// How the host opens a file that is used as the top layer is.
pub(crate) fn host_options(options: &OpenOptions, writable: bool) -> block_io::OpenOptions {
    let host = block_io::OpenOptions::new()
        .write(writable)
        .direct(options.direct)
        .ignore_syncs(options.ignore_syncs)
        .locking(locking(options.policy.locking));
    #[cfg(feature = "io-uring")]
    let host = host.ring(options.io_uring);
    debug_assert!(
        host.wants_ring() == options.io_uring,
        "only the feature has a way to ask for it"
    );
    host
}

impl Found {
    fn new(path: PathBuf, storage: Arc<dyn Storage>, format: Format) -> Self {
        Self { path, storage, format, header: None, data_file: None }
    }

    /// All of the header: it may be written back.
    fn read_header(&mut self) -> Result<()> {
        self.read_header_by(cow_engine::read_header)
    }

    fn read_header_by(
        &mut self,
        read: fn(&dyn Storage) -> cow_engine::Result<Header>,
    ) -> Result<()> {
        if self.format == Format::Qcow2 {
            let header = read(&*self.storage)
                .map_err(|source| Error::Image { layer: self.path.clone(), source })?;
            self.header = Some(header);
        }
        Ok(())
    }
}

/// Repairs a top layer that was not closed cleanly, if it is to be written and somebody can. Says
/// whether that was so.
fn repair_dirty(top: &Found, options: &OpenOptions) -> Result<bool> {
    let Some(header) = top.header.as_ref() else { return Ok(false) };
    let dirty = header.requires(IncompatibleFeatures::DIRTY);
    let Some(repair) = options.repair.as_ref().filter(|_| dirty && !options.read_only) else {
        return Ok(false);
    };
    // What is refused for another reason stays as it is.
    cow_engine::check_supported(header, true)
        .map_err(|source| Error::Image { layer: top.path.clone(), source })?;
    repair
        .run(&*top.storage)
        .map_err(|source| Error::Repair { layer: top.path.clone(), source: source.into() })?;
    Ok(true)
}

/// Compares each backing file with what its overlay remembers of it.
fn judge_bases(top: &Found, lower: &[Found], options: &OpenOptions) -> Result<Vec<BaseFinding>> {
    let overlays = core::iter::once(top).chain(lower);
    let mut findings = Vec::with_capacity(lower.len());
    for (overlay, base) in overlays.zip(lower) {
        // Who has a backing file has a header.
        let Some(header) = &overlay.header else { continue };
        let finding = judge(Pair {
            overlay: &overlay.path,
            header,
            base: &base.path,
            storage: &*base.storage,
            format: base.format,
        });
        if options.policy.same_base && !finding.verdict.is_harmless() {
            return Err(Error::ChangedBase(Box::new(finding)));
        }
        findings.push(finding);
    }
    Ok(findings)
}

/// A data file that is also a layer would be written through one and read through the other.
fn refuse_shared_data_files(top: &Found, lower: &[Found]) -> Result<()> {
    let layers = || core::iter::once(top).chain(lower);
    if layers().all(|layer| layer.data_file.is_none()) {
        return Ok(());
    }
    let mut seen: HashSet<FileId> = HashSet::new();
    for layer in layers() {
        seen.extend(identity(layer)?);
    }
    for layer in layers() {
        let Some(data) = &layer.data_file else { continue };
        let refuse = |source| Error::Storage { layer: layer.path.clone(), source };
        let Some(id) = data.identity().map_err(refuse)? else { continue };
        if !seen.insert(id) {
            let name = layer.header.as_ref().and_then(Header::data_file_name).unwrap_or_default();
            let path = PathBuf::from(String::from_utf8_lossy(name).into_owned());
            return Err(Error::DataFileInChain { layer: layer.path.clone(), path });
        }
    }
    Ok(())
}

/// Follows the names from `top` down and returns what they lead to, nearest first.
fn open_lower(top: &Found, options: &OpenOptions) -> Result<Vec<Found>> {
    let mut seen: HashSet<FileId> = identity(top)?.into_iter().collect();
    let mut lower: Vec<Found> = Vec::new();
    loop {
        let above = lower.last().unwrap_or(top);
        if lower.len() + 1 >= options.layers_max {
            return Ok(lower);
        }
        let Some(mut found) = open_backing(above, options)? else { return Ok(lower) };
        if identity(&found)?.is_some_and(|id| !seen.insert(id)) {
            return Err(Error::Loop { layer: above.path.clone(), path: found.path });
        }
        if lower.len() + 2 > options.policy.depth_max {
            let allowed = options.policy.depth_max;
            return Err(Error::TooDeep { layer: above.path.clone(), allowed });
        }
        // After the search for loops: on its own top the lock would only say "in use".
        lock_backing(&found, &above.path, options)?;
        found.read_header_by(cow_engine::read_header_for_reading)?;
        let wanted = Wanted { given: None, writable: false };
        found.data_file = data_file::open(&found, wanted, options)?;
        lower.push(found);
    }
}

/// Locks a backing file as the reference implementation does.
fn lock_backing(found: &Found, named_by: &Path, options: &OpenOptions) -> Result<()> {
    let lock = match found.format {
        _ if options.policy.force_share => Lock::shared_reader(),
        // Its tables must hold still as long as somebody reads through them.
        Format::Qcow2 => Lock::qcow2_reader(),
        Format::Raw if options.policy.refuse_writers => Lock::still_reader(),
        Format::Raw => Lock::backing(),
    };
    found.storage.lock(lock).map_err(|source| Error::Backing {
        path: found.path.clone(),
        named_by: named_by.to_owned(),
        source,
    })
}

/// The backing file that a layer names, opened; `None` when it names none.
fn open_backing(above: &Found, options: &OpenOptions) -> Result<Option<Found>> {
    let Some(header) = &above.header else { return Ok(None) };
    let Some(name) = backing_name(&above.path, header)? else { return Ok(None) };
    let path = match name::resolve(&above.path, &name) {
        Ok(path) => path,
        Err(refused) => return handled(above, header, &name, refused, options).map(Some),
    };
    if !options.policy.allows(&path) {
        return Err(Error::Forbidden { layer: above.path.clone(), path });
    }
    let refuse =
        |source| Error::Backing { path: path.clone(), named_by: above.path.clone(), source };
    let format = backing_format(&above.path, header, &name, options)?;
    let host = block_io::OpenOptions::new().locking(locking(options.policy.locking));
    let storage = options.host().open(&path, &host).map_err(refuse)?;
    let format = match format {
        Some(format) => format,
        None => probe(&*storage).map_err(refuse)?,
    };
    Ok(Some(Found::new(path, storage, format)))
}

/// What the caller's handler makes of a name that is not local.
fn handled(
    above: &Found,
    header: &Header,
    name: &str,
    refused: Error,
    options: &OpenOptions,
) -> Result<Found> {
    let handler = options.handler.as_ref();
    let Some(answer) = handler.and_then(|handler| handler.open(&above.path, name)) else {
        return Err(refused);
    };
    let Handled { path, storage, format } = answer.map_err(|source| Error::Handler {
        layer: above.path.clone(),
        name: name.to_owned(),
        source,
    })?;
    let format = match format {
        Some(format) => Some(format),
        None => backing_format(&above.path, header, name, options)?,
    };
    let format = match format {
        Some(format) => format,
        None => {
            probe(&*storage).map_err(|source| Error::Storage { layer: path.clone(), source })?
        }
    };
    Ok(Found::new(path, storage, format))
}

fn backing_name(layer: &Path, header: &Header) -> Result<Option<String>> {
    match header.backing_name() {
        None | Some(b"") => Ok(None),
        Some(name) => match core::str::from_utf8(name) {
            Ok(name) => Ok(Some(name.to_owned())),
            Err(_) => Err(Error::Name { layer: layer.to_owned() }),
        },
    }
}

/// CH-3: the format that the header or the caller says; `None` when it is to be probed.
fn backing_format(
    layer: &Path,
    header: &Header,
    name: &str,
    options: &OpenOptions,
) -> Result<Option<Format>> {
    if let Some(format) = header.backing_format() {
        let format = String::from_utf8_lossy(format);
        return match format.parse() {
            Ok(format) => Ok(Some(format)),
            Err(source) => Err(Error::Format { layer: layer.to_owned(), source }),
        };
    }
    match options.backing_format {
        Some(format) => Ok(Some(format)),
        None if options.policy.probe => Ok(None),
        None => Err(Error::Missing {
            what: Missing::BackingFormat,
            layer: layer.to_owned(),
            name: Some(name.to_owned()),
        }),
    }
}

fn interpret(found: Found, engine: cow_engine::OpenOptions) -> Result<Layer> {
    let Found { path, storage, format, header, data_file } = found;
    let engine = engine.data_file(data_file);
    let disk = match format {
        Format::Raw => match RawDisk::new(storage) {
            Ok(raw) => Disk::Raw(raw),
            Err(source) => return Err(Error::Storage { layer: path, source }),
        },
        Format::Qcow2 => match open_image(storage, header, engine) {
            Ok(image) => Disk::Qcow2(Box::new(image)),
            Err(source) => return Err(Error::Image { layer: path, source }),
        },
    };
    Ok(Layer::new(path, disk))
}

fn open_image(
    storage: Arc<dyn Storage>,
    header: Option<Header>,
    engine: cow_engine::OpenOptions,
) -> cow_engine::Result<Image> {
    match header {
        // Nobody has written since it was read.
        Some(header) => Image::open_with_header(storage, header, engine),
        None => Image::open(storage, engine),
    }
}

fn probe(storage: &dyn Storage) -> block_io::Result<Format> {
    let mut first = [0; 8];
    storage.read_zero_filled(0, &mut first)?;
    Ok(Format::probe(&first))
}

fn identity(found: &Found) -> Result<Option<FileId>> {
    found.storage.identity().map_err(|source| Error::Storage { layer: found.path.clone(), source })
}

pub(crate) const fn locking(on: bool) -> Locking {
    if on { Locking::Auto } else { Locking::Off }
}
