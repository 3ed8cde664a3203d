//! Copies through pipes: from front to back, where nobody can go back.
//!
//! What comes first in an image says where everything else lies, so whoever writes one to a pipe
//! has to know all places before the first byte. They follow from what the sources allocate, which
//! is learned without reading data: the data is then read once, while it is written.

mod ahead;
mod error;
mod forward;
mod image;
mod image_in;
mod layout;
mod output;
mod raw_in;
mod stretch;

use std::io::Write;

use chain::{Chain, Format};
use qcow2_format::Version;

use super::plan::{Action, Planner, Units};
use super::source::Source;
use super::{ConvertOptions, ConvertReport};
use crate::create::{CreateOptions, Qcow2Options, engine_options, whole_sectors};
use ahead::{Ahead, Totals};
use output::Output;
use stretch::Stretches;

pub use error::StreamError;
pub use forward::Spill;
pub use image_in::IncomingImage;
pub use layout::StreamLayout;
pub use raw_in::{StreamInOptions, stream_in_raw};

/// What is to come out of a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Raw bytes of the disk, or an image.
    pub format: Format,
    /// What the image is like, if it is one. Its data lies in itself: there can be no external
    /// data file.
    pub qcow2: Qcow2Options,
    /// The image gets a backing file of this size: what the top layer of the source does not hold
    /// stays unallocated.
    pub target_backing: Option<u64>,
    /// Give every cluster of the image space, even what the sources do not allocate. Otherwise it
    /// is their allocation alone that decides: whether data is zeros is not looked at.
    pub everything: bool,
    /// Pieces read at the same time.
    pub readers: usize,
    /// Go on after read errors, with zeros in their place.
    pub salvage: bool,
}

impl StreamOptions {
    /// The usual image, or the usual raw bytes.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            qcow2: Qcow2Options::default(),
            target_backing: None,
            everything: false,
            readers: ConvertOptions::default().readers,
            salvage: false,
        }
    }

    /// The same choices in the words of a copy to a file that reads as zeros.
    fn copy(&self) -> ConvertOptions {
        ConvertOptions {
            sparse: if self.everything { 0 } else { ConvertOptions::default().sparse },
            readers: self.readers,
            // Holes of a raw disk have to be written, too.
            target_is_zero: self.format == Format::Qcow2,
            target_backing: self.target_backing,
            salvage: self.salvage,
            ..ConvertOptions::default()
        }
    }
}

/// Writes what the sources show, one after the other, to `out` from front to back. `progress` is
/// told how many bytes of the sources are behind us. `out` is not flushed.
///
/// A qcow2 image has its tables first and its data in guest order behind them. Nothing is copied
/// to a place in between: the sources are asked twice what they allocate, and read once.
///
/// # Errors
/// Options that are not possible (nothing is written then), sources that cannot be read, or an
/// output that takes no more. What was written is then of no use.
pub fn stream_out(
    sources: &[Chain],
    options: &StreamOptions,
    out: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<ConvertReport, StreamError> {
    let source = Source::new(sources);
    let mut out = Output::new(out);
    let totals = match options.format {
        Format::Raw => raw(&source, options, &mut out, progress)?,
        Format::Qcow2 => {
            let layout = lay_out(&source, options)?;
            image::write(&layout, &source, options, &mut out, progress)?
        }
    };
    out.finish()?;
    Ok(ConvertReport { read: totals.read, written: out.written(), unreadable: totals.unreadable })
}

/// The image that [`stream_out`] would write, before anything is read: how long it is, and where
/// everything lies.
///
/// # Errors
/// As for [`stream_out`], or raw bytes were asked for, which have no layout.
pub fn plan_stream(
    sources: &[Chain],
    options: &StreamOptions,
) -> Result<StreamLayout, StreamError> {
    match options.format {
        Format::Raw => Err(StreamError::NoLayout),
        Format::Qcow2 => lay_out(&Source::new(sources), options),
    }
}

fn raw(
    source: &Source<'_>,
    options: &StreamOptions,
    out: &mut Output<'_>,
    progress: &dyn Fn(u64),
) -> Result<Totals, StreamError> {
    let copy = options.copy();
    let planner = Planner::new(source, &copy, Units::of_bytes());
    let ahead = Ahead { source, readers: options.readers, salvage: options.salvage };
    let totals = ahead.run(planner, &mut |piece, bytes| {
        match piece.action {
            Action::Copy => out.bytes(bytes)?,
            Action::Zero => out.zeros(piece.len)?,
        }
        progress(piece.offset + piece.len);
        Ok(())
    })?;
    // Whole sectors, as a raw file made of these sources has them.
    let rest = whole_sectors(source.size()).unwrap_or(source.size()) - source.size();
    out.zeros(rest)?;
    Ok(totals)
}

/// Learns what the sources allocate, and finds a place for it.
fn lay_out(source: &Source<'_>, options: &StreamOptions) -> Result<StreamLayout, StreamError> {
    if options.qcow2.data_file.is_some() {
        return Err(StreamError::ExternalData);
    }
    let found = source.size();
    let size = whole_sectors(found).ok_or(crate::create::CreateError::Size { found })?;
    let new =
        CreateOptions { qcow2: options.qcow2.clone(), ..CreateOptions::new(options.format, size) };
    let engine = engine_options(size, &new)?;
    let copy = options.copy();
    let cluster = 1 << engine.cluster_bits.get();
    let planner = Planner::new(source, &copy, Units::of_clusters(cluster));
    let mut stretches = Stretches::new(cluster);
    for piece in planner {
        let piece = piece?;
        // Version 2 cannot say that a cluster is zeros and not what lies below.
        let zero = piece.action == Action::Zero && engine.version != Version::V2;
        stretches.add(piece.offset, piece.len, zero)?;
    }
    StreamLayout::new(&engine, stretches.into_vec())
}
