//! A qcow2 image from a pipe: its data is placed in the order in which it comes, as far as its
//! tables have come before it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use block_io::{Storage, StorageExt};
use chain::Chain;
use cow_engine::{Image, OpenOptions, Run, RunKind};
use qcow2_format::{GuestOffset, L1Entry};

use super::forward::{Forward, Spill};
use super::output::Output;
use super::raw_in::{StreamInOptions, write_error};
use super::{StreamError, Units};
use crate::convert::{ConvertError, ConvertReport};
use crate::zeros;

/// Bytes read at once, unless a cluster is larger.
const PIECE_BYTES: u64 = 1 << 20;
/// Most stretches of data that wait for their turn.
const WAITING_MAX: usize = 1 << 20;

/// An image that comes out of a pipe; its header and its L1 table have come.
#[derive(Debug)]
pub struct IncomingImage {
    image: Image,
    pipe: Arc<Forward>,
    /// L2 tables by host offset, with the first guest byte that each maps.
    tables: Vec<(u64, u64)>,
}

impl IncomingImage {
    /// Reads as far as the L1 table.
    ///
    /// # Errors
    /// No qcow2 image, one that uses what cannot come through a pipe, or the input failed.
    pub fn open(input: impl Read + Send + 'static, spill: Spill) -> Result<Self, StreamError> {
        let pipe = Arc::new(Forward::new(Box::new(input), spill));
        let failed = |source| pipe.failure().unwrap_or(StreamError::Image(source));
        let storage: Arc<dyn Storage> = pipe.clone();
        let options = OpenOptions::new().read_only(true);
        let image = Image::open(storage, options).map_err(failed)?;
        let tables = tables(&image, &pipe)?;
        pipe.stop_keeping();
        Ok(Self { image, pipe, tables })
    }

    /// Size of the virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.image.virtual_size()
    }

    /// Name of the backing file, if there is one; what is not UTF-8 is replaced.
    #[must_use]
    pub fn backing_name(&self) -> Option<String> {
        let name = self.image.header().backing_name().filter(|name| !name.is_empty())?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Copies what the image shows to the start of `target`, and reads the input to its end.
    /// `target_backing` is the size of the backing file of the target, which stays visible where the
    /// image holds nothing. `progress` is told how many bytes have come.
    ///
    /// # Errors
    /// The image has a backing file and the target none, it is damaged or incomplete, more has to wait
    /// than the spill takes, or the target cannot be written; it is then incomplete.
    pub fn copy_to(
        &self,
        target: &Chain,
        options: &StreamInOptions,
        target_backing: Option<u64>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<ConvertReport, StreamError> {
        if target_backing.is_none() {
            self.refuse_backing()?;
        }
        let (needed, found) = (self.virtual_size(), target.virtual_size());
        if found < needed {
            return Err(ConvertError::TargetTooSmall { needed, found }.into());
        }
        let units = Units::of(target, &options.copy());
        let report = ConvertReport::default();
        let mut placer =
            Placer { incoming: self, target, options, target_backing, units, report, progress };
        placer.clear()?;
        placer.place_all()?;
        let report = placer.report;
        self.finish(progress)?;
        Ok(report)
    }

    /// Writes what the image shows to `out` as raw bytes, and reads the input to its end.
    ///
    /// # Errors
    /// As for [`copy_to`](Self::copy_to), or the output takes no more.
    pub fn write_raw(
        &self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<ConvertReport, StreamError> {
        self.refuse_backing()?;
        let mut out = Output::new(out);
        let mut report = ConvertReport::default();
        let (mut at, size) = (0, self.virtual_size());
        while at < size {
            let table = self.image.geometry().l2_table_guest_bytes();
            let len = (table - at % table).min(size - at);
            let Some(run) = self.first_run(at, len)? else { break };
            match run.kind {
                RunKind::Zero { .. } | RunKind::Below { .. } => out.zeros(run.len)?,
                RunKind::Data { .. } | RunKind::Compressed { .. } => {
                    report.read += run.len;
                    self.read(run, &mut |_, bytes| out.bytes(bytes))?;
                    self.keep_if_shared(run)?;
                }
            }
            at += run.len;
            progress(self.pipe.position());
        }
        out.finish()?;
        self.finish(progress)?;
        Ok(ConvertReport { written: out.written(), ..report })
    }

    /// A compressed cluster may share its last sector with one that is looked for later.
    fn keep_if_shared(&self, run: Run) -> Result<(), StreamError> {
        match run.kind {
            RunKind::Compressed { .. } => self.pipe.keep_last_sector(),
            _ => Ok(()),
        }
    }

    fn refuse_backing(&self) -> Result<(), StreamError> {
        match self.backing_name() {
            None => Ok(()),
            Some(name) => Err(StreamError::Backing { name }),
        }
    }

    fn finish(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StreamError> {
        self.pipe.drain()?;
        progress(self.pipe.position());
        Ok(())
    }

    fn first_run(&self, at: u64, len: u64) -> Result<Option<Run>, StreamError> {
        self.image.first_run(at, len).map_err(|source| self.failed(source))
    }

    /// Why the engine failed: the pipe knows better, if it is to blame.
    fn failed(&self, source: cow_engine::Error) -> StreamError {
        self.pipe.failure().unwrap_or(StreamError::Image(source))
    }

    /// Reads a run in pieces and shows each with its guest offset.
    fn read(&self, run: Run, show: &mut Show<'_>) -> Result<(), StreamError> {
        let mut bytes = Vec::new();
        let mut left = run;
        while left.len > 0 {
            let len = match left.kind {
                // All of a cluster is inflated at once.
                RunKind::Compressed { .. } => left.len,
                _ => left.len.min(PIECE_BYTES),
            };
            bytes.resize(len as usize, 0);
            let piece = Run { len, ..left };
            self.image.read_run(&piece, &mut bytes).map_err(|source| self.failed(source))?;
            show(left.guest.get(), &bytes)?;
            left = behind(left, len);
        }
        Ok(())
    }
}

/// What is done with bytes and their guest offset.
type Show<'a> = dyn FnMut(u64, &[u8]) -> Result<(), StreamError> + 'a;

/// What is left of a run behind its first `len` bytes.
fn behind(run: Run, len: u64) -> Run {
    let guest = GuestOffset::new(run.guest.get() + len);
    let kind = match run.kind {
        RunKind::Data { host } => RunKind::Data { host: host.checked_add(len).unwrap_or(host) },
        other => other,
    };
    Run { guest, len: run.len - len, kind }
}

/// The L2 tables of the disk in the order in which they come.
fn tables(image: &Image, pipe: &Forward) -> Result<Vec<(u64, u64)>, StreamError> {
    let (header, geometry) = (image.header(), image.geometry());
    let needed = geometry.l1_entries_for(image.virtual_size());
    let start = header.l1_table_offset().get();
    let bytes = needed.min(u64::from(header.l1_entry_count())) * 8;
    if let Some(found) = pipe.end().filter(|end| *end < start.saturating_add(bytes)) {
        return Err(StreamError::Truncated { found });
    }
    // It was read before, within the limits of the format, and kept.
    let mut words = vec![0; bytes as usize];
    let read = pipe.read_zero_filled(start, &mut words);
    read.map_err(|source| {
        let during = cow_engine::Purpose::L1Table;
        StreamError::Image(cow_engine::Error::Storage { during, source })
    })?;
    let (words, _) = words.as_chunks::<8>();
    let entries = words.iter().map(|word| L1Entry::from_bits(u64::from_be_bytes(*word)));
    let guests = (0_u64..).map(|index| index * geometry.l2_table_guest_bytes());
    let known = entries.zip(guests);
    let known = known.filter_map(|(entry, guest)| Some((entry.table_offset()?.get(), guest)));
    let mut tables: Vec<(u64, u64)> = known.collect();
    tables.sort_unstable();
    Ok(tables)
}

/// Places data in a target.
struct Placer<'a, 'p> {
    incoming: &'a IncomingImage,
    target: &'a Chain,
    options: &'a StreamInOptions,
    target_backing: Option<u64>,
    units: Units,
    report: ConvertReport,
    progress: &'a mut (dyn FnMut(u64) + 'p),
}

impl Placer<'_, '_> {
    /// Makes the target read as zeros where the image will not say anything, if it does not.
    fn clear(&self) -> Result<(), StreamError> {
        let size = self.incoming.virtual_size();
        if self.target_backing.is_some() {
            return Ok(());
        }
        if self.options.sparse == 0 {
            return self.write_zero_bytes(0, size);
        }
        match self.options.target_is_zero {
            true => Ok(()),
            false => self.write_zeros(0, size),
        }
    }

    /// Takes one table after the other as they come, and before each the data that lies before it.
    fn place_all(&mut self) -> Result<(), StreamError> {
        let incoming = self.incoming;
        let window = incoming.image.geometry().l2_table_guest_bytes();
        let mut waiting = BTreeMap::new();
        for &(place, guest) in &incoming.tables {
            let later = waiting.split_off(&(place, 0));
            self.place(std::mem::replace(&mut waiting, later), true)?;
            let end = guest.saturating_add(window).min(incoming.virtual_size());
            let mut at = guest;
            while at < end
                && let Some(run) = incoming.first_run(at, end - at)?
            {
                match run.kind {
                    RunKind::Below { .. } => {}
                    RunKind::Zero { .. } => self.zero(at, run.len)?,
                    RunKind::Data { host } => _ = waiting.insert((host.get(), at), run),
                    RunKind::Compressed { descriptor, .. } => {
                        waiting.insert((descriptor.host_offset().get(), at), run);
                    }
                }
                at += run.len;
                if waiting.len() > WAITING_MAX {
                    // More has to be kept on the way to it, which has a limit of its own.
                    self.place(std::mem::take(&mut waiting), true)?;
                }
            }
            (self.progress)(incoming.pipe.position());
        }
        self.place(waiting, false)
    }

    /// Places what has come, in the order in which it came. As long as there are more tables they
    /// may name compressed clusters between these.
    fn place(
        &mut self,
        runs: BTreeMap<(u64, u64), Run>,
        more_tables: bool,
    ) -> Result<(), StreamError> {
        let incoming = self.incoming;
        for run in runs.into_values() {
            incoming.read(run, &mut |at, bytes| self.write(at, bytes))?;
            if more_tables {
                incoming.keep_if_shared(run)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, start: u64, bytes: &[u8]) -> Result<(), StreamError> {
        self.report.read += bytes.len() as u64;
        if self.options.sparse == 0 {
            self.write_data(start, bytes)?;
        } else {
            for (skip, len, zero) in zeros::runs(bytes, self.units.grain as usize) {
                let at = start + skip as u64;
                match zero {
                    false => self.write_data(at, &bytes[skip..skip + len])?,
                    true => self.zero(at, len as u64)?,
                }
            }
        }
        (self.progress)(self.incoming.pipe.position());
        Ok(())
    }

    /// Makes a range read as zeros that may show a backing file.
    fn zero(&self, at: u64, len: u64) -> Result<(), StreamError> {
        match self.target_backing {
            // It was cleared in the beginning.
            None => Ok(()),
            Some(_) if self.options.sparse == 0 => self.write_zero_bytes(at, len),
            Some(backing) if at >= backing => Ok(()),
            Some(_) => self.write_zeros(at, len),
        }
    }

    fn write_data(&mut self, at: u64, bytes: &[u8]) -> Result<(), StreamError> {
        self.report.written += bytes.len() as u64;
        self.target.write_at(at, bytes).map_err(|source| write_error(at, source))
    }

    fn write_zeros(&self, at: u64, len: u64) -> Result<(), StreamError> {
        self.target.write_zeroes_at(at, len, true).map_err(|source| write_error(at, source))
    }

    fn write_zero_bytes(&self, at: u64, len: u64) -> Result<(), StreamError> {
        let zeros = vec![0; len.min(PIECE_BYTES) as usize];
        let mut done = 0;
        while done < len {
            let now = (len - done).min(PIECE_BYTES);
            let written = self.target.write_at(at + done, &zeros[..now as usize]);
            written.map_err(|source| write_error(at + done, source))?;
            done += now;
        }
        Ok(())
    }
}
