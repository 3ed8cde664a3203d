//! Raw bytes from a pipe: their number is known when they end, so the target grows with them.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::thread;

use chain::Chain;
use cow_engine::{Compressor, ResizeOptions};
use crossbeam_channel::{Receiver, Sender, bounded};
use qcow2_format::Geometry;

use super::{StreamError, Units};
use crate::convert::{ConvertError, ConvertOptions, ConvertReport};
use crate::create::whole_sectors;
use crate::zeros;

/// Pieces that were read and wait to be written.
const PIECES_AHEAD: usize = 4;
/// The first size of a target that grows, in bytes: small disks grow once.
const FIRST_BYTES: u64 = 1 << 30;

/// How to take bytes out of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInOptions {
    /// Shortest run of zeros that is left out, in bytes; as for a copy between files.
    pub sparse: u64,
    /// Everything in the target reads as zeros already.
    pub target_is_zero: bool,
    /// The target gets the size of what comes. Otherwise it has to be large enough.
    pub grow: bool,
    /// Compress every cluster of a qcow2 target.
    pub compress: bool,
    /// Level of the compression: 2 to 9 for zlib, 1 to 19 for zstd, `None` for the default.
    pub compression_level: Option<i32>,
}

impl StreamInOptions {
    /// A copy to a target that was made just now, without bytes.
    #[must_use]
    pub fn new() -> Self {
        let ConvertOptions { sparse, .. } = ConvertOptions::default();
        let (compress, compression_level) = (false, None);
        Self { sparse, target_is_zero: true, grow: true, compress, compression_level }
    }

    /// The same choices in the words of a copy between files.
    pub(super) fn copy(&self) -> ConvertOptions {
        ConvertOptions { sparse: self.sparse, compress: self.compress, ..ConvertOptions::default() }
    }
}

impl Default for StreamInOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Copies raw bytes to the start of `target` until they end. `progress` is told how many were
/// written. A target that grows has at the end the size of what came, in whole sectors. It is not
/// flushed.
///
/// # Errors
/// The input fails, or the target is too small or cannot be written; it is then incomplete.
pub fn stream_in_raw(
    input: &mut (dyn Read + Send),
    target: &mut Chain,
    options: &StreamInOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<ConvertReport, StreamError> {
    let units = Units::of(target, &options.copy());
    let (full, full_out) = bounded::<Result<Vec<u8>, StreamError>>(PIECES_AHEAD);
    let (empty, empty_out) = bounded::<Vec<u8>>(PIECES_AHEAD + 2);
    thread::scope(|scope| {
        scope.spawn(move || read_all(input, units.piece as usize, &empty_out, &full));
        let compressor = options.compress.then(|| compressor(target, options)).transpose()?;
        let report = ConvertReport::default();
        let mut taker = Taker { target, options, units, compressor, report };
        let taken = taker.take_all(full_out, &empty, progress);
        drop(empty);
        taken.map(|()| taker.report)
    })
}

fn compressor(target: &Chain, options: &StreamInOptions) -> Result<Compressor, StreamError> {
    let made = target.compressor_with_level(options.compression_level);
    Ok(made.map_err(|source| ConvertError::Write { offset: 0, source: Arc::new(source) })?)
}

/// Reads pieces until the input ends or nobody wants more. A piece that is not full is the last.
fn read_all(
    input: &mut (dyn Read + Send),
    piece: usize,
    empty: &Receiver<Vec<u8>>,
    full: &Sender<Result<Vec<u8>, StreamError>>,
) {
    let mut offset = 0;
    loop {
        let mut bytes = empty.try_recv().unwrap_or_default();
        bytes.resize(piece, 0);
        let read = fill(input, &mut bytes, offset);
        let (failed, found) = (read.is_err(), *read.as_ref().unwrap_or(&0));
        bytes.truncate(found);
        let is_last = found < piece;
        offset += found as u64;
        if full.send(read.map(|_| bytes)).is_err() || failed || is_last {
            return;
        }
    }
}

/// Fills the buffer, or as much of it as there is.
pub(super) fn fill(
    input: &mut (impl Read + ?Sized),
    bytes: &mut [u8],
    offset: u64,
) -> Result<usize, StreamError> {
    let mut found = 0;
    while found < bytes.len() {
        match input.read(&mut bytes[found..]) {
            Ok(0) => break,
            // An input that says more than there is room for is not believed.
            Ok(more) => found = (found + more).min(bytes.len()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => {
                let (offset, source) = (offset + found as u64, Arc::new(source));
                return Err(StreamError::Input { offset, source });
            }
        }
    }
    Ok(found)
}

/// Writes pieces one behind the other.
struct Taker<'a> {
    target: &'a mut Chain,
    options: &'a StreamInOptions,
    units: Units,
    compressor: Option<Compressor>,
    report: ConvertReport,
}

impl Taker<'_> {
    fn take_all(
        &mut self,
        full: Receiver<Result<Vec<u8>, StreamError>>,
        empty: &Sender<Vec<u8>>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StreamError> {
        for piece in full {
            let mut bytes = piece?;
            let len = bytes.len() as u64;
            self.make_room(len, len < self.units.piece)?;
            if self.compressor.is_some() {
                // Clusters are compressed as a whole, up to the end of the disk.
                let room = self.target.virtual_size() - self.report.read;
                bytes.resize(len.next_multiple_of(self.units.cluster).min(room) as usize, 0);
            }
            self.write(&bytes)?;
            self.report.read += len;
            progress(self.report.read);
            // The reader may have left.
            let _ = empty.try_send(bytes);
        }
        Ok(())
    }

    /// Makes sure that the next piece fits. Behind the last one the disk ends.
    fn make_room(&mut self, len: u64, is_last: bool) -> Result<(), StreamError> {
        let (end, found) = (self.report.read + len, self.target.virtual_size());
        if !self.options.grow {
            return match end > found {
                true => Err(ConvertError::TargetTooSmall { needed: end, found }.into()),
                false => Ok(()),
            };
        }
        let whole = whole_sectors(end).unwrap_or(end);
        let wanted = match is_last {
            true => whole,
            false if end <= found => return Ok(()),
            // Twice as large each time, so that even large disks grow a few times only.
            false => whole.max(FIRST_BYTES).max(found.saturating_mul(2).min(self.size_max())),
        };
        let resized = self.target.resize(wanted, ResizeOptions::new().shrink(true));
        Ok(resized
            .map_err(|source| ConvertError::Write { offset: end, source: Arc::new(source) })?)
    }

    fn size_max(&self) -> u64 {
        let image = self.target.top().image();
        let geometry = image.map(cow_engine::Image::geometry);
        geometry.map_or(i64::MAX as u64 / 512 * 512, Geometry::virtual_size_max)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let start = self.report.read;
        if self.options.sparse == 0 {
            return self.write_data(start, bytes);
        }
        // Clusters are compressed as a whole, even where an entry could tell their parts apart.
        let least = if self.compressor.is_some() { self.units.cluster } else { 1 };
        let grain = self.units.grain.max(least);
        for (skip, len, zero) in zeros::runs(bytes, grain as usize) {
            let at = start + skip as u64;
            match zero {
                false => self.write_data(at, &bytes[skip..skip + len])?,
                true if self.options.target_is_zero => {}
                true => {
                    let written = self.target.write_zeroes_at(at, len as u64, true);
                    written.map_err(|source| write_error(at, source))?;
                }
            }
        }
        Ok(())
    }

    fn write_data(&mut self, at: u64, bytes: &[u8]) -> Result<(), StreamError> {
        let written = match &mut self.compressor {
            None => self.target.write_at(at, bytes),
            Some(compressor) => self.target.write_compressed_at(compressor, at, bytes),
        };
        self.report.written += bytes.len() as u64;
        written.map_err(|source| write_error(at, source))
    }
}

pub(super) fn write_error(offset: u64, source: chain::Error) -> StreamError {
    ConvertError::Write { offset, source: Arc::new(source) }.into()
}
