//! The image under test, its model, and what is done to both.

use core::ops::Range;
use std::sync::Arc;

use qimg::check::{CheckOptions, Outcome, check};
use qimg::engine::{
    Backing, BelowError, Error, Image, OpenOptions, Preallocation, ResizeOptions, ZeroMode, create,
    create_with_data_file,
};
use qimg::format::{FieldUpdate, Header, Snapshot, SnapshotTable, SnapshotTableDecode};
use qimg::io::{MemoryStorage, Storage};

use super::shape::Shape;
use crate::input::Input;

/// Largest disk that a resize makes.
const SIZE_MAX: u64 = 1 << 20;

/// An image with two internal snapshots.
const WITH_SNAPSHOTS: &[u8] = include_bytes!("../../../../fixtures/internal-snapshot.qcow2");

/// The image, its storage, what lies below it, and what a guest must see.
pub(super) struct World {
    storage: Arc<MemoryStorage>,
    data: Option<Arc<MemoryStorage>>,
    below: Option<Arc<Bytes>>,
    /// `None` only while it is opened again.
    image: Option<Image>,
    pub(super) model: Vec<u8>,
    /// Which clusters may hold host space, and so refuse compressed data.
    written: Vec<bool>,
    /// What the internal snapshots show.
    snapshots: Vec<Vec<u8>>,
}

/// A layer of plain bytes, shorter or longer than the disk.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl Backing for Bytes {
    fn virtual_size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        let start = self.0.len().min(offset as usize);
        let there = buf.len().min(self.0.len() - start);
        let (head, tail) = buf.split_at_mut(there);
        head.copy_from_slice(&self.0[start..start + there]);
        tail.fill(0);
        Ok(())
    }

    fn reads_as_zeros(&self, offset: u64, len: u64) -> Result<bool, BelowError> {
        let mut buf = vec![0; len as usize];
        self.read_at(offset, &mut buf)?;
        Ok(buf.iter().all(|&byte| byte == 0))
    }
}

impl World {
    pub(super) fn new(shape: &Shape) -> Self {
        if shape.with_snapshots {
            return Self::with_snapshots();
        }
        let options = &shape.options;
        let size = options.virtual_size as usize;
        let mut model = vec![0; size];
        let below = shape.below().map(|bytes| Arc::new(Bytes(bytes)));
        if let Some(below) = &below {
            let len = size.min(below.0.len());
            model[..len].copy_from_slice(&below.0[..len]);
        }
        let storage = Arc::new(MemoryStorage::new());
        let data = options.data_file.as_ref().map(|_| Arc::new(MemoryStorage::new()));
        match &data {
            Some(data) => create_with_data_file(&*storage, &**data, options),
            None => create(&*storage, options),
        }
        .expect("nothing forbids this image");
        let clusters = size.div_ceil(1 << options.cluster_bits.get());
        let written = vec![options.preallocation != Preallocation::Off; clusters];
        let snapshots = Vec::new();
        let mut world = Self { storage, data, below, image: None, model, written, snapshots };
        world.open();
        world
    }

    /// An image with internal snapshots, which must show the same however it is changed.
    fn with_snapshots() -> Self {
        let storage = Arc::new(MemoryStorage::from(WITH_SNAPSHOTS));
        let (model, snapshots) = (content(&storage.to_vec()), of_snapshots(&storage));
        assert!(!snapshots.is_empty());
        // More than there are.
        let written = vec![true; model.len() / 512];
        let (data, below, image) = (None, None, None);
        let mut world = Self { storage, data, below, image, model, written, snapshots };
        world.open();
        world
    }

    fn open(&mut self) {
        let below = self.below.as_ref().map(|below| Arc::clone(below) as Arc<dyn Backing>);
        let data = self.data.as_ref().map(|data| Arc::clone(data) as Arc<dyn Storage>);
        let storage = Arc::clone(&self.storage) as Arc<dyn Storage>;
        // A cache of a few slices, so that some are evicted.
        let options = OpenOptions::new().backing(below).data_file(data).l2_cache_bytes(16 << 10);
        self.image = Some(Image::open(storage, options).expect("our own image opens"));
    }

    pub(super) fn reopen(&mut self) {
        if let Some(image) = self.image.take() {
            image.close().expect("memory does not fail");
        }
        self.open();
    }

    fn image(&self) -> &Image {
        self.image.as_ref().expect("open except during a reopening")
    }

    /// Takes nine bytes for an operation, and does it.
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        let (what, byte) = (input.u8(), input.u8());
        let size = self.model.len() as u64;
        let at = input.u32();
        let at = if size == 0 { 0 } else { u64::from(at) % size };
        let len = u64::from(input.u16()) << (what >> 6);
        let len = len.min(size - at);
        let range = at as usize..(at + len) as usize;
        match what % 10 {
            0..=2 => self.write(at, range, byte),
            3 => self.zero(at, range, ZeroMode::Keep),
            4 => self.zero(at, range, ZeroMode::Unmap),
            5 => self.discard(at, len),
            6 if self.data.is_none() && size > 0 => self.compress(at, byte),
            7 => self.resize(len * 16, byte),
            8 => self.compare(range),
            _ if byte % 2 == 0 => self.reopen(),
            _ => self.image().flush().expect("memory does not fail"),
        }
    }

    fn write(&mut self, at: u64, range: Range<usize>, byte: u8) {
        // Bytes that differ from place to place, so that a mix-up shows.
        let data: Vec<u8> = range.clone().map(|at| byte ^ (at / 7) as u8).collect();
        self.image().write_at(at, &data).expect("a write inside the disk");
        self.touch(&range);
        self.model[range].copy_from_slice(&data);
    }

    fn zero(&mut self, at: u64, range: Range<usize>, mode: ZeroMode) {
        let len = range.len() as u64;
        self.image().write_zeroes_at(at, len, mode).expect("zeros inside the disk");
        self.touch(&range);
        self.model[range].fill(0);
    }

    fn cluster_bytes(&self) -> u64 {
        self.image().geometry().cluster_bytes()
    }

    fn touch(&mut self, range: &Range<usize>) {
        let bytes = self.cluster_bytes() as usize;
        if !range.is_empty() {
            self.written[range.start / bytes..range.end.div_ceil(bytes)].fill(true);
        }
    }

    /// Whole clusters read as zeros afterwards, or as before where version 2 has something below;
    /// the rest of the range stays.
    fn discard(&mut self, at: u64, len: u64) {
        self.image().discard_at(at, len).expect("a discard inside the disk");
        let (bytes, size) = (self.cluster_bytes(), self.model.len() as u64);
        let keeps = self.below.is_some() && !self.image().dialect().has_zero_flag();
        let first = at.next_multiple_of(bytes);
        let end = if at + len == size { size } else { (at + len) / bytes * bytes };
        if first < end && !keeps {
            self.model[first as usize..end as usize].fill(0);
        }
    }

    /// One cluster, where nothing was written yet.
    fn compress(&mut self, at: u64, byte: u8) {
        let bytes = self.cluster_bytes();
        let (index, start) = ((at / bytes) as usize, at / bytes * bytes);
        let end = (start + bytes).min(self.model.len() as u64);
        // Some of it compresses well, some not at all.
        let mut state = u32::from(byte) | 1;
        let data: Vec<u8> = (start..end)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if byte & 1 == 0 { (state >> 24) as u8 } else { byte ^ (at / 40) as u8 }
            })
            .collect();
        let mut compressor = self.image().compressor().expect("compiled in");
        match self.image().write_compressed_at(&mut compressor, start, &data) {
            Ok(()) => {
                self.model[start as usize..end as usize].copy_from_slice(&data);
                self.written[index] = true;
            }
            Err(Error::Allocated { .. }) => assert!(self.written[index], "nobody wrote there"),
            Err(error) => panic!("a compressed write inside the disk: {error}"),
        }
    }

    fn resize(&mut self, size: u64, byte: u8) {
        let size = (size % SIZE_MAX) / 512 * 512;
        let preallocation = match byte % 4 {
            0 => Preallocation::Metadata,
            1 => Preallocation::Full,
            _ => Preallocation::Off,
        };
        let options = ResizeOptions::new().shrink(true).preallocation(preallocation);
        let image = self.image.as_mut().expect("open except during a reopening");
        match image.resize(size, options) {
            Ok(()) => {
                // The rest of the last cluster may have been filled with zeros.
                let end = self.model.len();
                self.touch(&(end.saturating_sub(1)..end));
                self.model.resize(size as usize, 0);
                let clusters = size.div_ceil(self.cluster_bytes()) as usize;
                self.written.resize(clusters, true);
            }
            Err(Error::Resize(_)) => {
                assert_eq!(self.image().virtual_size(), self.model.len() as u64, "as it was");
            }
            Err(error) => panic!("a resize in memory: {error}"),
        }
    }

    pub(super) fn compare(&self, range: Range<usize>) {
        let mut buf = vec![0xee; range.len()];
        self.image().read_at(range.start as u64, &mut buf).expect("a read inside the disk");
        let expected = &self.model[range.clone()];
        let first = buf.iter().zip(expected).position(|(now, expected)| now != expected);
        assert_eq!(first.map(|first| range.start + first), None, "first byte that differs");
    }

    /// Nothing is wrong with the image, and a raw data file says the same alone.
    pub(super) fn sound(&mut self) {
        let image = self.image.take().expect("open except during a reopening");
        let raw = image.header().features().autoclear.bits() & 2 != 0;
        image.close().expect("memory does not fail");
        let report = check(&*self.storage, CheckOptions::default()).expect("it can be checked");
        assert_eq!(report.outcome(), Outcome::Consistent, "{:?}", report.findings);
        assert!(of_snapshots(&self.storage) == self.snapshots, "a snapshot has changed");
        if let Some(data) = self.data.as_ref().filter(|_| raw) {
            assert!(data.to_vec() == self.model, "the data file is the disk");
        }
    }
}

/// What an image shows that rests on nothing.
fn content(bytes: &[u8]) -> Vec<u8> {
    let storage = Arc::new(MemoryStorage::from(bytes));
    let image = Image::open(storage, OpenOptions::new().read_only(true)).expect("it is sound");
    let mut content = vec![0; image.virtual_size() as usize];
    image.read_at(0, &mut content).expect("it is sound");
    content
}

/// What the internal snapshots of an image show: each is the image with another L1 table.
fn of_snapshots(storage: &MemoryStorage) -> Vec<Vec<u8>> {
    let bytes = storage.to_vec();
    let header = Header::decode(&bytes).expect("it is sound");
    let at = header.snapshot_table_offset().get() as usize;
    let decoded = SnapshotTable::decode(&bytes[at.min(bytes.len())..], header.snapshot_count());
    let SnapshotTableDecode::Complete(table) = decoded.expect("it is sound") else {
        panic!("the snapshot table is cut off");
    };
    let show = |snapshot: &Snapshot| {
        let mut bytes = bytes.clone();
        let size = snapshot.virtual_size().expect("version 3 says the size");
        for update in [FieldUpdate::l1_table(snapshot.l1_table()), FieldUpdate::virtual_size(size)]
        {
            let at = update.offset() as usize;
            bytes[at..at + update.bytes().len()].copy_from_slice(update.bytes());
        }
        content(&bytes)
    };
    table.snapshots().iter().map(show).collect()
}
