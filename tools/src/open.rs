//! Opening what the user named, under the policy its flags ask for.

use std::io;
use std::path::Path;

use qimg::chain::{Chain, Format, OpenOptions};
use qimg::check::repair_on_open;
use qimg::engine::BackingReference;
use tempfile::TempDir;

use crate::args::cache::CacheMode;
use crate::args::everywhere;
use crate::args::image::ImageArg;
use crate::base;
use crate::called::{advice, called_as, stands_in};
use crate::failure::Failure;

/// Bytes of a file that a guess looks at.
const HEAD_BYTES: u64 = 8;
/// What helps a reader where somebody writes.
const SHARE: &str = " (-U reads it all the same)";

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Refuse writes.
    pub read_only: bool,
    /// `-U`: open although somebody may be writing.
    pub force_share: bool,
    /// Keep writers away from raw layers too, as a copy needs it.
    pub refuse_writers: bool,
    /// `--probe-backing`: guess formats that overlays do not name.
    pub probe_backing: bool,
    /// Open the layers below too.
    pub backing: bool,
    /// How the host's page cache is used for the image itself.
    pub cache: CacheMode,
    /// Requests to the image go through io_uring.
    pub ring: bool,
}

impl Default for How {
    fn default() -> Self {
        let cache = CacheMode::default();
        Self {
            read_only: false,
            force_share: false,
            refuse_writers: false,
            probe_backing: false,
            backing: true,
            cache,
            ring: false,
        }
    }
}

impl How {
    /// Read-only, with everything else as usual.
    #[must_use]
    pub fn reading(force_share: bool, probe_backing: bool) -> Self {
        Self { read_only: true, force_share, probe_backing, ..Self::default() }
    }
}

/// An open image.
#[derive(Debug)]
pub struct Opened {
    chain: Chain,
    format: Format,
    probed: bool,
    read_only: bool,
    /// The overlay that takes the writes and goes away, if there is one.
    _scratch: Option<TempDir>,
}

impl Opened {
    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The chain, to give it another size.
    pub fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    /// Gives the chain away.
    #[must_use]
    pub fn into_chain(self) -> Chain {
        self.chain
    }

    /// Format of the image the user named.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    fn guessed_raw(&self) -> bool {
        self.probed && self.format == Format::Raw
    }

    /// What to say when the format was guessed, and guessed raw, and writes are possible.
    #[must_use]
    pub fn warning(&self, name: &str) -> Option<String> {
        (self.guessed_raw() && !self.read_only).then(|| {
            format!(
                "WARNING: Image format was not specified for '{name}' and probing guessed raw.\n         \
                 Automatically detecting the format is dangerous for raw images, write operations \
                 on block 0 will be restricted.\n         \
                 Specify the 'raw' format explicitly to remove the restrictions.\n"
            )
        })
    }

    /// Whether this write would make the next guess come out differently.
    #[must_use]
    pub fn would_change_format(&self, offset: u64, bytes: &[u8]) -> bool {
        if !self.guessed_raw() || offset >= HEAD_BYTES {
            return false;
        }
        let mut head = [0; HEAD_BYTES as usize];
        let at = offset as usize; // within the head
        if self.chain.read_at(0, &mut head).is_err() {
            return true; // cannot be ruled out
        }
        let len = bytes.len().min(head.len() - at);
        head[at..at + len].copy_from_slice(&bytes[..len]);
        Format::probe(&head) != Format::Raw
    }
}

/// Opens an image. The error is the reason, without the name of the image.
///
/// # Errors
/// The file, one of the layers below it, or the format is not acceptable.
pub fn open(image: &ImageArg, how: &How) -> Result<Opened, String> {
    if (how.force_share || image.force_share) && !(how.read_only || image.read_only) {
        return Err("force-share=on can only be used with read-only images".into());
    }
    let (format, probed) = format_of(image)?;
    let read_only = how.read_only || image.read_only;
    let chain = Chain::open(&image.path, &chain_options(image, how, format, read_only))
        .map_err(|error| explain(&error))?;
    base::warn(&chain);
    if let Some(header) = chain.top().header() {
        image.runtime.check_image(header)?;
    }
    Ok(Opened { chain, format, probed, read_only, _scratch: None })
}

/// Opens a temporary overlay on top of the image, for writes that nobody wants to keep.
///
/// # Errors
/// As for [`open`], or the overlay cannot be made.
pub fn open_scratch(image: &ImageArg, how: &How) -> Result<Opened, String> {
    let (format, probed) = format_of(image)?;
    let below = open(image, &How { read_only: true, ..*how })?;
    let size = below.chain.virtual_size();
    drop(below);
    let folder = TempDir::new().map_err(|error| os_text(&error))?;
    let path = folder.path().join("overlay.qcow2");
    let base = image.path.canonicalize().map_err(|error| os_text(&error))?;
    let base = base.to_str().ok_or("a temporary overlay needs a path in UTF-8")?.to_owned();
    let qcow2 = qimg::create::Qcow2Options {
        backing: Some(BackingReference { name: base, format: Some(format.to_string()) }),
        record_base: false,
        ..Default::default()
    };
    let new = qimg::create::CreateOptions::new(Format::Qcow2, size);
    let new = qimg::create::CreateOptions { qcow2, ..new };
    qimg::create::create(&path, &new).map_err(|error| error.to_string())?;
    // What was said of the image's data file does not hold for the overlay.
    let scratch =
        ImageArg { no_locks: image.no_locks, ..ImageArg::local(path, Some(Format::Qcow2)) };
    let how = How { read_only: false, force_share: false, ..*how };
    let chain = Chain::open(&scratch.path, &chain_options(&scratch, &how, Format::Qcow2, false))
        .map_err(|error| explain(&error))?;
    Ok(Opened { chain, format, probed, read_only: false, _scratch: Some(folder) })
}

/// The format of an image and whether it was guessed.
///
/// # Errors
/// The file cannot be read.
pub fn format_of(image: &ImageArg) -> Result<(Format, bool), String> {
    match image.format {
        Some(format) => Ok((format, false)),
        None => Ok((probe(&image.path)?, true)),
    }
}

fn probe(path: &Path) -> Result<Format, String> {
    qimg::probe::probe(path)
        .map_err(|error| format!("Could not open '{}': {}", path.display(), os_text(&error)))
}

/// How the chain of an image is opened under its flags.
pub(crate) fn chain_options(
    image: &ImageArg,
    how: &How,
    format: Format,
    read_only: bool,
) -> OpenOptions {
    let policy = everywhere::policy()
        .probe(how.probe_backing)
        .locking(!image.no_locks)
        .force_share(how.force_share || image.force_share)
        .refuse_writers(how.refuse_writers)
        .data_files(true);
    let mut options = OpenOptions::new();
    if let Some(path) = &image.data_file {
        options = options.data_file(path.clone());
    }
    if let Some(lazy) = image.lazy_refcounts {
        options = options.lazy_refcounts(lazy);
    }
    if let Some(bytes) = image.runtime.l2_cache_bytes() {
        options = options.l2_cache_bytes(bytes);
    }
    if let Some(bytes) = image.runtime.refcount_cache_bytes() {
        options = options.refcount_cache_bytes(bytes);
    }
    #[cfg(feature = "io-uring")]
    {
        options = options.io_uring(how.ring || image.ring);
    }
    options
        .record_bases(!stands_in())
        .repair_dirty(repair_on_open())
        .format(format)
        .read_only(read_only)
        .policy(policy)
        .backing(how.backing)
        .direct(how.cache.direct() || image.direct)
        .ignore_syncs(how.cache.ignores_flushes() || image.runtime.no_flush)
}

/// Opens an image for a verb, with its words for failure.
///
/// # Errors
/// As for [`open`].
pub fn open_for_verb(image: &ImageArg, how: &How) -> Result<Opened, Failure> {
    open(image, how)
        .map_err(|reason| Failure::new(format!("Could not open '{}': {reason}", image.name)))
}

/// Why a chain did not open, in the words qemu-img has for it where it has any, with the flag
/// that helps where there is one.
#[must_use]
pub fn explain(error: &qimg::chain::Error) -> String {
    explain_with(error, SHARE)
}

/// The same where opening beside a writer is no way out.
#[must_use]
pub fn explain_without_sharing(error: &qimg::chain::Error) -> String {
    explain_with(error, "")
}

fn explain_with(error: &qimg::chain::Error, share: &str) -> String {
    use qimg::chain::{Error, Missing};
    let storage_words = |path: &Path, source| storage_words_with(path, source, share);
    match error {
        Error::Storage { layer, source } => storage_words(layer, source),
        Error::Backing { path, named_by, source } => {
            let words = format!("Could not open backing file: {}", storage_words(path, source));
            match source.kind() {
                std::io::ErrorKind::NotFound if !stands_in() => format!(
                    "{words}; '{0}' names it, name another one with \
                     'qimg rebase -u -b FILE -F FMT {0}'",
                    named_by.display()
                ),
                _ => words,
            }
        }
        Error::DataFile { path, source, .. } => storage_words(path, source),
        Error::Missing { what: Missing::BackingFormat, layer, name } => format!(
            // Without -b the image would lose its backing file.
            "{error:#}; record it with '{} rebase -u -b {} -F FMT {}', or let it be guessed with \
             --probe-backing",
            called_as("qimg"),
            name.as_deref().unwrap_or("FILE"),
            layer.display()
        ),
        Error::Forbidden { path, .. } | Error::ForbiddenDataFile { path, .. } => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).display();
            format!("{error:#}{}", advice(&format!("; --allow-dir={folder} allows it")))
        }
        Error::TooDeep { .. } => {
            format!("{error:#}{}", advice("; --depth-max=LAYERS allows more"))
        }
        Error::Protocol { .. } => {
            format!(
                "{error:#}{}",
                advice("; bring the file here, and name it with 'qimg rebase -u'")
            )
        }
        _ => format!("{error:#}"),
    }
}

/// Why a file could not be used.
#[must_use]
pub fn storage_words(path: &Path, error: &qimg::io::Error) -> String {
    storage_words_with(path, error, SHARE)
}

fn storage_words_with(path: &Path, error: &qimg::io::Error, share: &str) -> String {
    let name = path.display();
    match error {
        qimg::io::Error::Open { source, .. } => {
            format!("Could not open '{name}': {}", os_text(source))
        }
        qimg::io::Error::Locked { permission, shared, .. } => {
            // Only a reader is helped by -U: whoever wants to write must stay out.
            let (shared, help) = if *shared { ("shared ", advice(share)) } else { ("", "") };
            format!(
                "Failed to get {shared}\"{permission}\" lock: is another process using the image \
                 [{name}]?{help}"
            )
        }
        other => other.to_string(),
    }
}

/// The deepest reason of a failure: the host's words where the host failed, as qemu-io prints
/// them, otherwise the error itself.
#[must_use]
pub fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    if stands_in() && is_damage(error) {
        return "Input/output error".into();
    }
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(host) = error.downcast_ref::<io::Error>() {
            return os_text(host);
        }
        next = error.source();
    }
    error.to_string()
}

/// Whether the image is damaged, or was given up earlier: the real tools have one word for both.
pub fn is_damage(error: &(dyn std::error::Error + 'static)) -> bool {
    use qimg::chain::Error;
    use qimg::engine::Class;
    matches!(
        error.downcast_ref(),
        Some(Error::Image { source, .. })
            if matches!(source.class(), Class::Corrupt | Class::Poisoned)
    )
}

/// The host's words for an error, without the number behind them.
#[must_use]
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
