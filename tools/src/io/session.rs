//! What `qimg-io` keeps between commands: the open image, its settings, the output.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;

use qimg::chain::Format;
use qimg::engine::ResizeOptions;
use qimg::format::Version;

use super::args::Args;
use super::command::{self, Invocation, Problem};
use crate::args::aio::wants_ring;
use crate::args::cache::CacheMode;
use crate::args::image::ImageArg;
use crate::args::runtime::DetectZeroes;
use crate::args::tree::Flat;
use crate::called::{called_as, stands_in};
use crate::failure::Failure;
use crate::open::{self, How, Opened};

/// How an image is opened, as the flags of the program and of `open` and `reopen` say.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `-r`
    pub read_only: bool,
    /// `-s`
    pub snapshot: bool,
    /// `-U`
    pub force_share: bool,
    /// `--probe-backing`
    pub probe_backing: bool,
    /// `-t`
    pub cache: CacheMode,
    /// `-d`: whether discards and the hint to give space back are obeyed.
    pub unmap: bool,
    /// `-i io_uring`
    pub ring: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            read_only: false,
            snapshot: false,
            force_share: false,
            probe_backing: false,
            cache: CacheMode::Writethrough,
            unmap: true,
            ring: false,
        }
    }
}

/// Reads the value of `-d`: whether discards are obeyed.
///
/// # Errors
/// An unknown mode.
pub fn discard_mode(mode: Option<&str>) -> Result<bool, String> {
    match mode {
        None | Some("unmap" | "on") => Ok(true),
        Some("ignore" | "off") => Ok(false),
        Some(other) => Err(format!("Invalid discard option: {other}")),
    }
}

/// Reads the value of `-t`.
///
/// # Errors
/// An unknown mode.
pub fn cache_mode(mode: &str) -> Result<CacheMode, String> {
    CacheMode::parse(mode).ok_or_else(|| format!("Invalid cache option: {mode}"))
}

/// The words for `-C`.
pub const COPY_ON_READ: &str = "copy-on-read is not offered; leave out -C";

impl Settings {
    /// Takes the flags of the program.
    ///
    /// # Errors
    /// An unknown mode, or a flag that is not offered.
    pub fn from_args(args: &Args) -> Result<Self, Failure> {
        let unmap = discard_mode(args.discard.as_deref()).map_err(Failure::new)?;
        let ring = args.aio.as_deref().map(wants_ring).transpose().map_err(Failure::new)?;
        if args.copy_on_read {
            return Err(Failure::new(COPY_ON_READ));
        }
        let cache = match &args.cache {
            Some(mode) => cache_mode(mode).map_err(Failure::new)?,
            None if args.nocache => CacheMode::None,
            None => CacheMode::Writethrough,
        };
        Ok(Self {
            read_only: args.read_only,
            snapshot: args.snapshot,
            force_share: args.force_share,
            probe_backing: args.probe_backing,
            cache,
            unmap,
            ring: ring.unwrap_or_default(),
        })
    }
}

/// The image that is open, with what is needed to open it again.
#[derive(Debug)]
pub struct OpenImage {
    opened: Opened,
    argument: ImageArg,
    /// How it was opened.
    pub settings: Settings,
}

impl OpenImage {
    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &qimg::chain::Chain {
        self.opened.chain()
    }

    /// Whether `len` bytes at `offset` lie within the disk.
    #[must_use]
    pub fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.chain().virtual_size())
    }

    /// Whether zeros can be written to a range without writing bytes: it starts and ends at
    /// borders of clusters, or at the end of the disk, and entries can say "zeros".
    #[must_use]
    pub fn zeroes_quickly(&self, offset: u64, len: u64) -> bool {
        let Some(header) = self.chain().top().header() else { return true };
        if header.version() == Version::V2 {
            return false;
        }
        let cluster = header.geometry().cluster_bytes();
        let end = offset.saturating_add(len);
        offset.is_multiple_of(cluster)
            && (end.is_multiple_of(cluster) || end == self.chain().virtual_size())
    }

    /// Writes bytes; refuses to turn a guessed raw image into another format.
    ///
    /// # Errors
    /// The reason, for after `write failed: `.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        if self.opened.would_change_format(offset, bytes) {
            return Err("Operation not permitted (give the format with -f raw)".into());
        }
        let zeros = match self.argument.runtime.detect_zeroes {
            DetectZeroes::Off => None,
            DetectZeroes::On => Some(false),
            DetectZeroes::Unmap => Some(self.unmaps()),
        };
        let written = match zeros.filter(|_| bytes.iter().all(|&byte| byte == 0)) {
            Some(unmap) => self.chain().write_zeroes_at(offset, bytes.len() as u64, unmap),
            None => self.chain().write_at(offset, bytes),
        };
        written.map_err(|error| open::cause(&error))
    }

    /// Compresses and writes whole clusters.
    ///
    /// # Errors
    /// The reason, for after `write failed: `, in the host's words as the real tool has it.
    pub fn write_compressed(&self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        use qimg::chain::Error;
        use qimg::engine::Error as Engine;
        let chain = self.chain();
        let written = chain
            .compressor()
            .and_then(|mut compressor| chain.write_compressed_at(&mut compressor, offset, bytes));
        written.map_err(|error| match &error {
            Error::NotCompressible { .. } => "Operation not supported".into(),
            Error::Image { source: Engine::Allocated { .. }, .. } => "Input/output error".into(),
            Error::Image { source: Engine::Plan { .. }, .. } => "Invalid argument".into(),
            _ => open::cause(&error),
        })
    }

    /// Whether discards and the hint to give space back are obeyed.
    #[must_use]
    pub fn unmaps(&self) -> bool {
        self.argument.runtime.discard.unwrap_or(self.settings.unmap)
    }

    /// Gives a range up, unless the discard mode says not to bother.
    ///
    /// # Errors
    /// The reason.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), String> {
        if !self.unmaps() {
            return Ok(());
        }
        self.chain().discard_at(offset, len).map_err(|error| open::cause(&error))
    }

    /// Reads from the state of a virtual machine behind the disk.
    ///
    /// # Errors
    /// The reason.
    pub fn read_vm_state(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.keeps_vm_state()?;
        let read = self.opened.chain_mut().read_vm_state(offset, bytes);
        read.map_err(|error| open::cause(&error))
    }

    /// Writes to the state of a virtual machine behind the disk.
    ///
    /// # Errors
    /// The reason.
    pub fn write_vm_state(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.keeps_vm_state()?;
        let written = self.opened.chain_mut().write_vm_state(offset, bytes);
        written.map_err(|error| open::cause(&error))
    }

    fn keeps_vm_state(&self) -> Result<(), String> {
        match self.opened.format() {
            Format::Qcow2 => Ok(()),
            Format::Raw => Err("Operation not supported".into()),
        }
    }

    /// Whether nothing can be made durable any more because the image is damaged.
    fn is_given_up(&self) -> bool {
        !self.settings.read_only && self.chain().flush().is_err_and(|error| open::is_damage(&error))
    }

    /// Gives the disk another size.
    ///
    /// # Errors
    /// The size or the options are not possible, or the host failed.
    pub fn resize(&mut self, size: u64, options: ResizeOptions) -> qimg::chain::Result<()> {
        self.opened.chain_mut().resize(size, options)
    }

    /// Makes what was written durable, unless the cache mode says not to bother.
    ///
    /// # Errors
    /// The reason.
    pub fn flush(&self) -> Result<(), String> {
        if self.settings.cache.ignores_flushes() || self.settings.read_only {
            return Ok(());
        }
        self.chain().flush().map_err(|error| open::cause(&error))
    }
}

/// The state between commands.
pub struct Session<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    image: Option<OpenImage>,
    over: bool,
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("image", &self.image).finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// A session without an image.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err, image: None, over: false }
    }

    /// Prints to standard output, at once: whoever drives the program through pipes waits.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(&mut self, text: &str) -> std::io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// The open image.
    ///
    /// # Errors
    /// None is open.
    pub fn image(&self) -> Result<&OpenImage, Problem> {
        self.image.as_ref().ok_or_else(no_image)
    }

    /// The open image, to change it.
    ///
    /// # Errors
    /// None is open.
    pub fn image_mut(&mut self) -> Result<&mut OpenImage, Problem> {
        self.image.as_mut().ok_or_else(no_image)
    }

    /// Refuses to go on if the image is read-only.
    ///
    /// # Errors
    /// It is.
    pub fn require_writable(&self) -> Result<(), Problem> {
        if self.image()?.settings.read_only {
            let name = called_as("qimg-io");
            return Err(Problem::Complained(format!("{name}: Block node is read-only")));
        }
        Ok(())
    }

    /// Whether an image is open.
    #[must_use]
    pub fn has_image(&self) -> bool {
        self.image.is_some()
    }

    /// Opens the image that an argument means, once it was understood. `name` is for messages; it
    /// is empty where options alone name the file.
    ///
    /// # Errors
    /// The argument was not understood, or the image cannot be opened.
    pub fn open(
        &mut self,
        name: &str,
        argument: Result<ImageArg, String>,
        settings: Settings,
    ) -> Result<(), Failure> {
        let refuse = |reason: &dyn fmt::Display| {
            let device = if name.is_empty() { "" } else { " device " };
            Failure::new(format!("can't open{device}{name}: {reason}"))
        };
        let mut argument = argument.map_err(|reason| refuse(&reason))?;
        let settings = Settings { read_only: settings.read_only || argument.read_only, ..settings };
        let opened = open_argument(&argument, settings).map_err(|reason| refuse(&reason))?;
        if let Some(warning) = opened.warning(&argument.name) {
            self.err.write_all(warning.as_bytes())?;
        }
        // A file that became qcow2 meanwhile must not be opened as such by `reopen`.
        argument.format = Some(opened.format());
        self.image = Some(OpenImage { opened, argument, settings });
        Ok(())
    }

    /// Opens the image again with other settings.
    ///
    /// # Errors
    /// It cannot be opened so; it then stays as it was, unless its content went missing.
    pub fn reopen(
        &mut self,
        change: impl FnOnce(&mut Settings),
        options: Flat,
    ) -> Result<(), Failure> {
        let Some(image) = &self.image else { return Ok(()) };
        image.flush().map_err(Failure::new)?;
        let changed = image.argument.changed(options).map_err(Failure::new)?;
        if let Some(header) = image.chain().top().header() {
            changed.runtime.check_image(header).map_err(Failure::new)?;
        }
        let Some(mut image) = self.image.take() else { return Ok(()) };
        let before = image.settings;
        change(&mut image.settings);
        image.settings.read_only |= changed.read_only;
        let OpenImage { opened, argument: former, settings } = image;
        let argument = changed;
        let wanted = if before.snapshot && !settings.read_only { None } else { Some(settings) };
        let Some(wanted) = wanted else {
            self.image = Some(OpenImage { opened, argument, settings });
            return Ok(());
        };
        drop(opened); // its locks would exclude the new handle
        let again = open_argument(&argument, wanted);
        let opened = match again {
            Ok(opened) => opened,
            Err(reason) => {
                let refused = Failure::new(reason);
                let Ok(opened) = open_argument(&former, before) else { return Err(refused) };
                self.image = Some(OpenImage { opened, argument: former, settings: before });
                return Err(refused);
            }
        };
        self.image = Some(OpenImage { opened, argument, settings: wanted });
        Ok(())
    }

    /// Flushes and closes the image, if one is open.
    ///
    /// # Errors
    /// The image could not be made durable.
    pub fn close(&mut self) -> Result<(), Failure> {
        match self.image.take() {
            // Whoever found the damage was told then.
            Some(image) if stands_in() && image.is_given_up() => Ok(()),
            Some(image) => image.flush().map_err(|reason| {
                Failure::new(format!("{}: closing failed: {reason}", image.argument.name))
            }),
            None => Ok(()),
        }
    }

    /// No more commands.
    pub fn leave(&mut self) {
        self.over = true;
    }

    /// Whether `quit` was called.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Runs commands, going on after failures; tells whether all succeeded.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn run_all(&mut self, lines: &[String]) -> Result<bool, Failure> {
        let mut all_well = true;
        for line in lines {
            all_well &= self.run(line)?;
            if self.over {
                break;
            }
        }
        Ok(all_well)
    }

    /// Runs one command; tells whether it succeeded.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn run(&mut self, line: &str) -> Result<bool, Failure> {
        let words: Vec<String> =
            line.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
        let Some((name, arguments)) = words.split_first() else { return Ok(true) };
        let Some(command) = command::find(name) else {
            writeln!(self.err, "command \"{name}\" not found")?;
            return Ok(false);
        };
        let invocation = Invocation { command, name, arguments };
        match self.check(&invocation).and_then(|()| (command.run)(self, &invocation)) {
            Ok(()) => Ok(true),
            Err(problem) => self.tell(&invocation, problem).map(|()| false),
        }
    }

    fn check(&self, invocation: &Invocation<'_>) -> Result<(), Problem> {
        let Invocation { command, name, arguments } = invocation;
        if command.needs_image && !self.has_image() {
            return Err(no_image());
        }
        match command.count_problem(name, arguments.len()) {
            Some(problem) => Err(Problem::Complained(problem)),
            None => Ok(()),
        }
    }

    fn tell(&mut self, invocation: &Invocation<'_>, problem: Problem) -> Result<(), Failure> {
        let usage = format!("{}\n", invocation.command.usage(invocation.name));
        match problem {
            Problem::Silent => Ok(()),
            Problem::Output(error) => Err(error.into()),
            Problem::Told(message) => Ok(self.print(&format!("{message}\n"))?),
            Problem::Complained(message) => Ok(writeln!(self.err, "{message}")?),
            Problem::Usage => Ok(self.print(&usage)?),
            Problem::Flag(flag) => {
                writeln!(self.err, "{}: {flag}", invocation.name)?;
                Ok(self.print(&usage)?)
            }
        }
    }
}

fn no_image() -> Problem {
    Problem::Complained("no file open, try 'help open'".into())
}

fn open_argument(argument: &ImageArg, settings: Settings) -> Result<Opened, String> {
    let how = How {
        read_only: settings.read_only,
        force_share: settings.force_share,
        probe_backing: settings.probe_backing,
        cache: settings.cache,
        ring: settings.ring,
        ..How::default()
    };
    if settings.snapshot { open::open_scratch(argument, &how) } else { open::open(argument, &how) }
}

/// Reads an image argument. It names itself in its errors; here the line already does.
///
/// # Errors
/// As for [`ImageArg::parse`].
pub fn argument(name: &OsStr, format: Option<&str>, image_opts: bool) -> Result<ImageArg, String> {
    ImageArg::parse(name, format, image_opts).map_err(|failure| strip_prefix(&failure))
}

fn strip_prefix(failure: &Failure) -> String {
    let text = failure.to_string();
    match text.split_once("': ") {
        Some((start, rest)) if start.starts_with("Could not open '") => rest.into(),
        _ => text,
    }
}
