//! New overlays: snapshots of one or several disks, and any number of clones of one.
//!
//! All of them or none: every overlay is complete and durable under a name of its own making before
//! the first one gets its real name. A name that is taken is never taken away.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use block_io::{Create, Files, HostFiles, Lock, MemoryStorage, Storage};
use cow_engine::{BackingReference, BasePin, CreateOptions, CreatePlan};

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::name;
use crate::operation::{Plan, Refusal, Step};
use crate::options::OpenOptions;
use crate::pin::pin_of;

/// Bytes of a new image that are copied at once.
const COPY_BYTES: usize = 64 << 10;

/// Overlays that are written before they are made durable, all at once: file systems that keep a
/// journal then do it in one go. Not more, since each keeps a file open.
const SYNCED_AT_ONCE: usize = 128;
/// Threads that wait for the host to make files durable.
const SYNC_THREADS: usize = 16;

/// Numbers for names; only uniqueness matters.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// New overlays, on one disk or on several, made together.
///
/// ```no_run
/// use chain::{Format, OpenOptions, Overlays};
///
/// let qcow2 = || OpenOptions::new().format(Format::Qcow2);
/// Overlays::new()
///     .on("system.qcow2", qcow2(), ["system-1.qcow2"])
///     .on("data.qcow2", qcow2(), ["data-1.qcow2"])
///     .create()?;
/// # Ok::<(), chain::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Overlays {
    disks: Vec<Disk>,
    /// What they are like; size and backing file come from the disk.
    like: CreateOptions,
}

/// A disk and the overlays that will rest on it.
#[derive(Clone, Debug)]
struct Disk {
    path: PathBuf,
    options: OpenOptions,
    overlays: Vec<PathBuf>,
    content_hash: Option<[u8; 32]>,
}

/// An overlay under way: complete, under a name of our making.
struct Pending<'f> {
    files: &'f dyn Files,
    made: PathBuf,
    wanted: PathBuf,
    /// Open until its bytes are durable.
    file: Option<Arc<dyn Storage>>,
}

impl Default for Overlays {
    fn default() -> Self {
        Self::new()
    }
}

impl Overlays {
    /// None yet, with the defaults of the reference implementation.
    #[must_use]
    pub const fn new() -> Self {
        Self { disks: Vec::new(), like: CreateOptions::new(0) }
    }

    /// Adds overlays on the disk at `path`, which is the top of a chain that these options open.
    #[must_use]
    pub fn on<P: Into<PathBuf>>(
        mut self,
        path: impl AsRef<Path>,
        options: OpenOptions,
        overlays: impl IntoIterator<Item = P>,
    ) -> Self {
        let overlays = overlays.into_iter().map(Into::into).collect();
        let (path, content_hash) = (path.as_ref().to_owned(), None);
        self.disks.push(Disk { path, options, overlays, content_hash });
        self
    }

    /// A hash of all that the disk added last shows, for its overlays to record: with it a deep look
    /// tells for sure whether their backing file still shows that.
    #[must_use]
    pub fn content_hash(mut self, hash: [u8; 32]) -> Self {
        if let Some(disk) = self.disks.last_mut() {
            disk.content_hash = Some(hash);
        }
        self
    }

    /// What the overlays are like: cluster size, version and the like. A size of 0 stands for that of
    /// the disk; backing file and data file are not looked at.
    #[must_use]
    pub fn like(mut self, like: CreateOptions) -> Self {
        self.like = like;
        self
    }

    /// What [`create`](Self::create) would do. Nothing changes.
    ///
    /// # Errors
    /// As for [`create`](Self::create), as far as can be known before.
    pub fn plan(&self) -> Result<Plan> {
        let mut steps = Vec::new();
        self.check_names()?;
        for disk in &self.disks {
            let chain = disk.open()?;
            for file in &disk.overlays {
                let new = self.options_for(&chain, disk, file)?;
                CreatePlan::new(&new).map_err(|source| image_error(file, source))?;
                let backing = new.backing.map(|backing| backing.name);
                steps.push(Step::Create { file: file.clone(), backing, size: new.virtual_size });
            }
        }
        Ok(Plan { operation: "snapshot", steps })
    }

    /// Makes all overlays, durably, or none.
    ///
    /// The disks are open for reading meanwhile: whoever writes to one, here or elsewhere, keeps the
    /// overlays from being made.
    ///
    /// # Errors
    /// A chain cannot be opened, an overlay is impossible, a name is taken ([`Error::Refused`]), or the
    /// host failed. No overlay is there then.
    pub fn create(&self) -> Result<()> {
        self.check_names()?;
        let chains = self.disks.iter().map(Disk::open).collect::<Result<Vec<_>>>()?;
        let mut pending = Vec::new();
        let made = self.make_all(&chains, &mut pending);
        let named = made.and_then(|()| name_all(&mut pending));
        if named.is_err() {
            // They were made here, moments ago.
            pending.iter().for_each(|overlay| drop(overlay.files.remove(&overlay.made)));
        }
        named
    }

    fn make_all<'f>(&'f self, chains: &[Chain], pending: &mut Vec<Pending<'f>>) -> Result<()> {
        for (disk, chain) in self.disks.iter().zip(chains) {
            // Names differ only in what they resolve against: one image serves one folder.
            let mut image: Option<(Option<&Path>, MemoryStorage)> = None;
            for wanted in &disk.overlays {
                let folder = wanted.parent();
                if image.as_ref().is_none_or(|(of, _)| *of != folder) {
                    image = Some((folder, self.image_for(chain, disk, wanted)?));
                }
                let Some((_, image)) = &image else { continue };
                pending.push(disk.make(wanted, image)?);
                if pending.len().is_multiple_of(SYNCED_AT_ONCE) {
                    sync_all(pending)?;
                }
            }
        }
        sync_all(pending)
    }

    /// Refuses names that are taken, before anything is made. Whoever takes one later is noticed when
    /// the overlay is to get it.
    pub(crate) fn check_names(&self) -> Result<()> {
        let mut seen: HashSet<&Path> = HashSet::new();
        for disk in &self.disks {
            let host = block_io::OpenOptions::new().locking(block_io::Locking::Off);
            for path in &disk.overlays {
                if !seen.insert(path) {
                    return Err(Error::Refused(Refusal::Twice { path: path.clone() }));
                }
                if disk.files().open(path, &host).is_ok() {
                    return Err(Error::Refused(Refusal::Exists { path: path.clone() }));
                }
            }
        }
        Ok(())
    }

    fn image_for(&self, chain: &Chain, disk: &Disk, overlay: &Path) -> Result<MemoryStorage> {
        let image = MemoryStorage::new();
        cow_engine::create(&image, &self.options_for(chain, disk, overlay)?)
            .map_err(|source| image_error(overlay, source))?;
        Ok(image)
    }

    fn options_for(&self, chain: &Chain, disk: &Disk, overlay: &Path) -> Result<CreateOptions> {
        let top = chain.top();
        let name = name::of_file(overlay, top.path())?;
        let size = self.like.virtual_size;
        let virtual_size = if size == 0 { chain.virtual_size() } else { size };
        let base_pin = disk
            .options
            .record_bases
            .then(|| pin_of(&**top.storage(), top.format(), &name))
            .transpose()?
            .map(|pin| BasePin { content_hash: disk.content_hash, ..pin });
        let format = Some(top.format().name().to_owned());
        let backing = Some(BackingReference { name, format });
        let like = self.like.clone();
        Ok(CreateOptions { virtual_size, backing, base_pin, data_file: None, ..like })
    }
}

fn image_error(path: &Path, source: cow_engine::Error) -> Error {
    Error::Image { layer: path.to_owned(), source }
}

impl Disk {
    fn files(&self) -> &dyn Files {
        self.options.files.as_deref().unwrap_or(&HostFiles)
    }

    /// Opens the disk as it must be for an overlay: readable, and held still.
    fn open(&self) -> Result<Chain> {
        let options = self.options.clone().read_only(true);
        Chain::open(&self.path, &options.map_policy(|policy| policy.refuse_writers(true)))
    }

    /// Makes one overlay under a name of our own.
    fn make(&self, wanted: &Path, image: &MemoryStorage) -> Result<Pending<'_>> {
        let made = name_beside(wanted);
        let storage_error = |source| Error::Storage { layer: wanted.to_owned(), source };
        let host = block_io::OpenOptions::new().write(true).create(Create::New);
        let file = self.files().open(&made, &host).map_err(storage_error)?;
        let wanted = wanted.to_owned();
        let pending = Pending { files: self.files(), made, wanted, file: Some(Arc::clone(&file)) };
        let written = file.lock(Lock::creating()).and_then(|()| copy(image, &*file));
        match written {
            Ok(()) => Ok(pending),
            Err(source) => {
                // It was made here, moments ago.
                let _ = pending.files.remove(&pending.made);
                Err(Error::Storage { layer: pending.wanted, source })
            }
        }
    }
}

/// A name that nobody else uses, in the same folder.
pub(crate) fn name_beside(wanted: &Path) -> PathBuf {
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = wanted.file_name().unwrap_or_default().to_string_lossy();
    // The name of the overlay may have the length of the longest one.
    let name: String = name.chars().take(40).collect();
    wanted.with_file_name(format!(".{name}.{}-{number}.new", std::process::id()))
}

/// Makes all overlays durable that are not yet, and closes them.
fn sync_all(pending: &mut [Pending<'_>]) -> Result<()> {
    let open: Vec<_> = pending.iter_mut().filter(|overlay| overlay.file.is_some()).collect();
    let share = open.len().div_ceil(SYNC_THREADS).max(1);
    let mut open = open.into_iter();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        loop {
            let part: Vec<_> = open.by_ref().take(share).collect();
            if part.is_empty() {
                break;
            }
            threads.push(scope.spawn(move || part.into_iter().try_for_each(sync)));
        }
        // A thread that panicked has not made its files durable.
        let ended = |thread: thread::ScopedJoinHandle<'_, Result<()>>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(ended).fold(Ok(()), Result::and)
    })
}

fn sync(overlay: &mut Pending<'_>) -> Result<()> {
    let Some(file) = overlay.file.take() else { return Ok(()) };
    file.sync().map_err(|source| Error::Storage { layer: overlay.wanted.clone(), source })
}

/// Copies a new image, which is small and mostly holes.
fn copy(image: &MemoryStorage, file: &dyn Storage) -> block_io::Result<()> {
    let len = image.len()?;
    file.set_len(len)?;
    let (mut at, mut buf) = (0, vec![0; COPY_BYTES]);
    while let Some(extent) = image.extent_at(at)? {
        let end = at + extent.len;
        while !extent.is_hole() && at < end {
            let part = (end - at).min(COPY_BYTES as u64) as usize;
            let found = image.read_at(at, &mut buf[..part])?;
            file.write_at(at, &buf[..found])?;
            at += found.max(1) as u64;
        }
        at = end;
    }
    Ok(())
}

/// Gives all overlays their names, or takes those back that were given.
fn name_all(pending: &mut [Pending<'_>]) -> Result<()> {
    for at in 0..pending.len() {
        let overlay = &pending[at];
        if let Err(source) = overlay.files.rename_new(&overlay.made, &overlay.wanted) {
            let taken = source.kind() == std::io::ErrorKind::AlreadyExists;
            let path = overlay.wanted.clone();
            // What has its name already is still known by it.
            pending[..at].iter_mut().for_each(|named| named.made.clone_from(&named.wanted));
            return Err(match taken {
                true => Error::Refused(Refusal::Exists { path }),
                false => Error::Storage { layer: path, source },
            });
        }
    }
    let mut synced: Vec<Option<&Path>> = Vec::new();
    for at in 0..pending.len() {
        let overlay = &pending[at];
        if synced.contains(&overlay.wanted.parent()) {
            continue;
        }
        if let Err(source) = overlay.files.sync_folder(&overlay.wanted) {
            let layer = overlay.wanted.clone();
            pending.iter_mut().for_each(|named| named.made.clone_from(&named.wanted));
            return Err(Error::Storage { layer, source });
        }
        synced.push(overlay.wanted.parent());
    }
    Ok(())
}
