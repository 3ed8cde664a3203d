//! The threads of a copy: planner, readers, and the writer that keeps order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use chain::Chain;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::pack::{Packed, Packer};
use super::plan::{Action, Piece, Planner, Units};
use super::source::Source;
use super::{ConvertError, ConvertOptions, ConvertReport};
use crate::zeros;

/// Unit in which unreadable places are narrowed down.
const SALVAGE_BYTES: usize = 512;

/// What the threads share.
pub(super) struct Pipeline<'a> {
    source: &'a Source<'a>,
    target: &'a Chain,
    options: &'a ConvertOptions,
    units: Units,
    progress: &'a (dyn Fn(u64) + Sync),
    /// The first failure; everybody stops when it is set.
    failure: Mutex<Option<ConvertError>>,
    read: AtomicU64,
    written: AtomicU64,
    unreadable: AtomicU64,
}

/// A piece on its way: its place in the order, and its bytes once they are read.
struct Load {
    sequence: u64,
    piece: Piece,
    bytes: Vec<u8>,
    /// Its clusters, if the copy is compressed.
    packed: Option<Vec<Packed>>,
}

/// What a reader does with a piece it has read.
enum Out {
    /// Passes it to the writer. Such a reader must not hold on to the giving end of the
    /// buffers: when the writer leaves, waiting for a buffer has to end.
    Writer { loads: Sender<Load> },
    /// Writes it itself.
    Target { give: Sender<Vec<u8>> },
}

/// Both ends of the store of buffers. Whoever takes a piece holds a buffer already, so the
/// piece the writer waits for can always make progress.
struct Buffers {
    give: Sender<Vec<u8>>,
    take: Receiver<Vec<u8>>,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        target: &'a Chain,
        options: &'a ConvertOptions,
        units: Units,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        let (read, written, unreadable) = Default::default();
        let failure = Mutex::new(None);
        Self { source, target, options, units, progress, failure, read, written, unreadable }
    }

    pub(super) fn run(&self, planner: Planner<'_>) -> Result<ConvertReport, ConvertError> {
        let readers = self.options.readers.max(1);
        let buffers = Buffers::new(readers * 2);
        let (pieces, pieces_in) = bounded::<(u64, Piece)>(readers * 2);
        let (loads, loads_in) = bounded::<Load>(readers * 2);
        thread::scope(|scope| {
            for _ in 0..readers {
                let (pieces_in, take) = (pieces_in.clone(), buffers.take.clone());
                let out = match self.options.out_of_order && !self.options.compress {
                    true => Out::Target { give: buffers.give.clone() },
                    false => Out::Writer { loads: loads.clone() },
                };
                scope.spawn(move || self.reader(&pieces_in, &take, &out));
            }
            let give = buffers.give.clone();
            scope.spawn(move || self.writer(&loads_in, &give));
            // The ends that only the threads may hold: when those are gone, everybody leaves.
            drop((pieces_in, loads, buffers));
            self.plan(planner, &pieces);
            drop(pieces);
        });
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => Err(failure),
            None => Ok(self.report()),
        }
    }

    fn report(&self) -> ConvertReport {
        ConvertReport {
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
        }
    }

    fn plan(&self, planner: Planner<'_>, pieces: &Sender<(u64, Piece)>) {
        for (sequence, piece) in (0..).zip(planner) {
            match piece {
                Err(error) => return self.fail(error),
                Ok(piece) if self.failed() || pieces.send((sequence, piece)).is_err() => return,
                Ok(_) => {}
            }
        }
    }

    fn reader(&self, pieces: &Receiver<(u64, Piece)>, take: &Receiver<Vec<u8>>, out: &Out) {
        let mut packer = match Packer::new(self.target, self.options, self.units) {
            Ok(packer) => packer,
            Err(error) => return self.fail(error),
        };
        // The buffer first, the piece second: see `Buffers`.
        while let Ok(mut bytes) = take.recv()
            && let Ok((sequence, piece)) = pieces.recv()
        {
            if !self.failed()
                && let Err(error) = self.fetch(piece, &mut bytes)
            {
                self.fail(error);
            }
            if self.failed() {
                if let Out::Writer { loads } = out {
                    // It may wait for this piece alone, while all others wait for it.
                    let _ = loads.send(Load { sequence, piece, bytes, packed: None });
                }
                return;
            }
            let copied = piece.action == Action::Copy;
            let packed = packer.as_mut().filter(|_| copied).map(|packer| packer.pack(&bytes));
            let load = Load { sequence, piece, bytes, packed };
            let passed_on = match out {
                Out::Writer { loads } => loads.send(load).is_ok(),
                Out::Target { give } => self.store(load, give),
            };
            if !passed_on {
                return;
            }
        }
    }

    /// Writes pieces in the order of the plan.
    fn writer(&self, loads: &Receiver<Load>, give: &Sender<Vec<u8>>) {
        let mut early = BTreeMap::new();
        let mut next = 0;
        for load in loads {
            if self.failed() {
                return;
            }
            early.insert(load.sequence, load);
            while let Some(load) = early.remove(&next) {
                next += 1;
                if !self.store(load, give) {
                    return;
                }
            }
        }
    }

    /// Writes one piece and gives its buffer back; `false` means stop.
    fn store(&self, load: Load, give: &Sender<Vec<u8>>) -> bool {
        if self.failed() {
            return false;
        }
        let written = match &load.packed {
            Some(packed) => self.write_packed(load.piece, &load.bytes, packed),
            None => self.write(load.piece, &load.bytes),
        };
        if let Err(error) = written {
            self.fail(error);
            return false;
        }
        (self.progress)(load.piece.offset + load.piece.len);
        // Towards the end there are no readers left to take it.
        let _ = give.send(load.bytes);
        true
    }

    fn fetch(&self, piece: Piece, bytes: &mut Vec<u8>) -> Result<(), ConvertError> {
        if piece.action == Action::Zero {
            return Ok(());
        }
        bytes.resize(piece.len as usize, 0); // at most one piece, see `Units`
        match self.source.read_at(piece.offset, bytes) {
            Ok(()) => {}
            Err(_) if self.options.salvage => self.salvage(piece.offset, bytes),
            Err(source) => {
                let source = Arc::new(source);
                return Err(ConvertError::Read { offset: piece.offset, source });
            }
        }
        self.read.fetch_add(piece.len, Ordering::Relaxed);
        Ok(())
    }

    /// Reads what can be read in small steps, with zeros for the rest.
    fn salvage(&self, offset: u64, bytes: &mut [u8]) {
        for (index, block) in bytes.chunks_mut(SALVAGE_BYTES).enumerate() {
            let at = offset + (index * SALVAGE_BYTES) as u64;
            if self.source.read_at(at, block).is_err() {
                block.fill(0);
                self.unreadable.fetch_add(block.len() as u64, Ordering::Relaxed);
            }
        }
    }

    fn write(&self, piece: Piece, bytes: &[u8]) -> Result<(), ConvertError> {
        if piece.action == Action::Zero {
            return self.write_zeros(piece.offset, piece.len);
        }
        if self.options.sparse == 0 {
            return self.write_data(piece.offset, bytes);
        }
        for (start, len, zero) in zeros::runs(bytes, self.units.grain as usize) {
            let at = piece.offset + start as u64;
            match zero {
                false => self.write_data(at, &bytes[start..start + len])?,
                true if self.reads_zero(at..at + len as u64) => {}
                true => self.write_zeros(at, len as u64)?,
            }
        }
        Ok(())
    }

    /// Writes the clusters of a compressed copy.
    fn write_packed(
        &self,
        piece: Piece,
        bytes: &[u8],
        packed: &[Packed],
    ) -> Result<(), ConvertError> {
        let clusters = bytes.chunks(self.units.cluster as usize); // at most 2 MiB
        let mut offset = piece.offset;
        for (cluster, packed) in clusters.zip(packed) {
            let len = cluster.len() as u64;
            match packed {
                Packed::Zero if self.reads_zero(offset..offset + len) => {}
                Packed::Zero => self.write_zeros(offset, len)?,
                Packed::Plain => self.write_data(offset, cluster)?,
                Packed::Blob(blob) => self.write_blob(offset, blob)?,
            }
            offset += len;
        }
        Ok(())
    }

    fn write_blob(&self, offset: u64, blob: &[u8]) -> Result<(), ConvertError> {
        self.written.fetch_add(blob.len() as u64, Ordering::Relaxed);
        let written = self.target.write_blob(offset, blob);
        written.map_err(|source| ConvertError::Write { offset, source: Arc::new(source) })
    }

    /// Whether the target reads as zeros there without being told.
    fn reads_zero(&self, range: Range<u64>) -> bool {
        match self.options.target_backing {
            Some(backing) => range.start >= backing,
            None => self.options.target_is_zero,
        }
    }

    fn write_data(&self, offset: u64, bytes: &[u8]) -> Result<(), ConvertError> {
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let written = self.target.write_at(offset, bytes);
        written.map_err(|source| ConvertError::Write { offset, source: Arc::new(source) })
    }

    fn write_zeros(&self, offset: u64, len: u64) -> Result<(), ConvertError> {
        let unmap = !self.options.keep_space;
        let written = self.target.write_zeroes_at(offset, len, unmap);
        written.map_err(|source| ConvertError::Write { offset, source: Arc::new(source) })
    }

    fn fail(&self, error: ConvertError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    fn failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Buffers {
    /// Empty ones: each grows to the size of a piece when it is first used.
    fn new(count: usize) -> Self {
        let (give, take) = bounded(count);
        for _ in 0..count {
            // There is room for all of them.
            let _ = give.send(Vec::new());
        }
        Self { give, take }
    }
}
