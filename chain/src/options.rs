//! How to open a chain.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use block_io::{Files, HostFiles, Storage};

use crate::format::Format;
use crate::handler::NameHandler;
use crate::policy::Policy;

/// Memory for the index of the lower layers unless the caller says otherwise: when every cluster of
/// 64 KiB lies somewhere else, it covers 64 GiB.
pub const CHAIN_INDEX_BYTES_DEFAULT: u64 = 16 << 20;

/// How to open a chain.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub(crate) format: Option<Format>,
    pub(crate) backing_format: Option<Format>,
    pub(crate) read_only: bool,
    pub(crate) backing: bool,
    pub(crate) direct: bool,
    pub(crate) io_uring: bool,
    pub(crate) ignore_syncs: bool,
    pub(crate) l2_cache_bytes: u64,
    pub(crate) chain_index_bytes: u64,
    pub(crate) refcount_cache_bytes: u64,
    pub(crate) data_file: Option<PathBuf>,
    pub(crate) lazy_refcounts: Option<bool>,
    pub(crate) repair: Option<Repair>,
    pub(crate) policy: Policy,
    /// `None` stands for the files of this host.
    pub(crate) files: Option<Arc<dyn Files>>,
    pub(crate) handler: Option<Arc<dyn NameHandler>>,
    pub(crate) record_bases: bool,
    /// Layers that are opened, from the top; what lies below is left alone.
    pub(crate) layers_max: usize,
}

/// Repairs the counts of an image that was not closed cleanly.
#[derive(Clone)]
pub struct Repair(Arc<RepairFn>);

type RepairFn = dyn Fn(&dyn Storage) -> Result<(), RepairError> + Send + Sync;
type RepairError = Box<dyn core::error::Error + Send + Sync>;

impl Repair {
    /// Wraps what repairs. It is handed the storage of the image, locked for writing, and must leave
    /// an image whose dirty bit is clear, or fail.
    pub fn new(
        repair: impl Fn(&dyn Storage) -> Result<(), RepairError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(repair))
    }

    pub(crate) fn run(&self, storage: &dyn Storage) -> Result<(), RepairError> {
        (self.0)(storage)
    }
}

impl fmt::Debug for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repair")
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Writable, with backing files, strict policy; the format of the top layer must be given
    /// (or probing allowed).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            format: None,
            backing_format: None,
            read_only: false,
            backing: true,
            direct: false,
            io_uring: false,
            ignore_syncs: false,
            l2_cache_bytes: cow_engine::L2_CACHE_BYTES_DEFAULT,
            chain_index_bytes: CHAIN_INDEX_BYTES_DEFAULT,
            refcount_cache_bytes: cow_engine::REFCOUNT_CACHE_BYTES_DEFAULT,
            data_file: None,
            lazy_refcounts: None,
            repair: None,
            policy: Policy::new(),
            files: None,
            handler: None,
            record_bases: true,
            layers_max: usize::MAX,
        }
    }

    /// Format of the top layer.
    #[must_use]
    pub const fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Format of a backing file whose overlay does not record one.
    #[must_use]
    pub const fn backing_format(mut self, format: Format) -> Self {
        self.backing_format = Some(format);
        self
    }

    /// Whether writes are refused; the files then stay exactly as they are.
    #[must_use]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether backing files are opened. Without them, what the top layer does not own reads as
    /// zeros; only looking at the top layer makes sense then.
    #[must_use]
    pub const fn backing(mut self, backing: bool) -> Self {
        self.backing = backing;
        self
    }

    /// Whether the top layer goes around the host's page cache.
    #[must_use]
    pub const fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Whether large requests to the top layer, and to external data files, become many that are
    /// under way at once. Opening fails with [`block_io::Error::NoRing`] where the host has no
    /// io_uring or forbids it.
    #[cfg(feature = "io-uring")]
    #[must_use]
    pub const fn io_uring(mut self, io_uring: bool) -> Self {
        self.io_uring = io_uring;
        self
    }

    /// Promises no durability for the top layer: flushes write everything but wait for nothing.
    /// For images that are made anew if the host goes down before they are complete.
    #[must_use]
    pub const fn ignore_syncs(mut self, ignore: bool) -> Self {
        self.ignore_syncs = ignore;
        self
    }

    /// Memory for L2 tables, in bytes: so much for the top layer, and so much for all lower ones
    /// together, which hardly need it beside the [index](OpenOptions::chain_index_bytes). Without an
    /// index each layer gets so much.
    #[must_use]
    pub const fn l2_cache_bytes(mut self, bytes: u64) -> Self {
        self.l2_cache_bytes = bytes;
        self
    }

    /// Memory for the index of the lower layers, in bytes: which of them answers each range, and from
    /// where, so that a read costs the same however deep the chain is. It is filled by what is read,
    /// 16 bytes for each run; what falls out is asked of the layers again, which costs a small read of
    /// each. 0 asks the layers every time. With less than two layers below the top there is none.
    #[must_use]
    pub const fn chain_index_bytes(mut self, bytes: u64) -> Self {
        self.chain_index_bytes = bytes;
        self
    }

    /// Memory for refcount blocks of the top layer when it is written, in bytes.
    #[must_use]
    pub const fn refcount_cache_bytes(mut self, bytes: u64) -> Self {
        self.refcount_cache_bytes = bytes;
        self
    }

    /// The external data file of the top layer, whatever its header says about it. Without this
    /// the header's name is followed if the [`Policy`] allows it.
    #[must_use]
    pub fn data_file(mut self, path: PathBuf) -> Self {
        self.data_file = Some(path);
        self
    }

    /// Whether refcounts of the top layer reach the disk only when it is closed, instead of what
    /// its header says. After a crash it must be repaired before it is written again.
    #[must_use]
    pub const fn lazy_refcounts(mut self, lazy: bool) -> Self {
        self.lazy_refcounts = Some(lazy);
        self
    }

    /// What repairs a top layer that was not closed cleanly before it is opened for writing.
    /// Without it, opening such an image for writing fails.
    #[must_use]
    pub fn repair_dirty(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }

    /// What opening may do because an image says so.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether operations record in a header which backing file they put the image on, so that whoever
    /// opens it learns when that file has changed ([`base_findings`](crate::Chain::base_findings)).
    #[must_use]
    pub const fn record_bases(mut self, record: bool) -> Self {
        self.record_bases = record;
        self
    }

    /// Changes the policy.
    pub(crate) fn map_policy(mut self, change: impl FnOnce(Policy) -> Policy) -> Self {
        self.policy = change(self.policy);
        self
    }

    /// Where files come from, instead of the host's own: those that the caller has opened
    /// ([`GivenFiles`](block_io::GivenFiles)), for instance.
    #[must_use]
    pub fn files(mut self, files: Arc<dyn Files>) -> Self {
        self.files = Some(files);
        self
    }

    /// Who opens backing files whose names have a protocol. Without one they are refused.
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn NameHandler>) -> Self {
        self.handler = Some(handler);
        self
    }

    /// For a layer below the top: what was said about the top alone does not hold.
    pub(crate) fn for_lower(mut self) -> Self {
        (self.data_file, self.lazy_refcounts) = (None, None);
        self
    }

    /// Only so many layers, from the top; 1 is the top alone.
    pub(crate) fn layers_max(mut self, layers: usize) -> Self {
        self.layers_max = layers;
        self
    }

    /// Where files come from.
    pub(crate) fn host(&self) -> &dyn Files {
        self.files.as_deref().unwrap_or(&HostFiles)
    }
}
