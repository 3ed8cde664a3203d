//! A survey: what long ranges of a disk are made of, for somebody who remembers it himself. Tables
//! that are not in memory are read in order and not kept.

use block_io::StorageExt;
use cluster_map::{Mapping, Run, RunKind};
use qcow2_format::{GuestOffset, HostOffset, L2Bitmap, L2Entry, L2Layout};

use crate::error::{Error, Purpose, Result};
use crate::image::Image;
use crate::slice_cache::{Slice, SliceNumber, SliceRef};
use crate::sync::Arc;

/// L1 entries that one question about untouched bytes looks at: enough to get on fast, few enough to
/// be asked again and again.
const L1_ENTRIES_AT_ONCE: u64 = 64;

/// A walk over the tables of an image that leaves its caches as they are. Made by
/// [`Image::survey`].
#[derive(Debug)]
pub struct Survey<'i> {
    image: &'i Image,
    at: Option<(SliceNumber, Piece<'i>)>,
    /// The bytes of the slice that was read last.
    bytes: Vec<u8>,
}

/// Where the entries of a slice are.
#[derive(Debug)]
enum Piece<'i> {
    /// There is no table.
    Absent,
    InMemory(SliceRef<'i>),
    /// In the bytes of the survey.
    Read,
}

impl Image {
    /// Begins a survey. On a writable image it sees what was written before each call.
    #[must_use]
    pub fn survey(&self) -> Survey<'_> {
        Survey { image: self, at: None, bytes: Vec::new() }
    }

    /// Of `len` bytes at `offset`, so many at least, from the first one on, have no L2 table: the image
    /// owns nothing there. No I/O. Long ranges take several questions; 0 means that there is a table.
    #[must_use]
    pub fn untouched_bytes(&self, offset: u64, len: u64) -> u64 {
        let covered = self.geometry().l2_table_guest_bytes();
        let first = offset / covered;
        let absent = |index: &u64| self.l1.get(*index).table_offset().is_none();
        let count =
            (first..first.saturating_add(L1_ENTRIES_AT_ONCE)).take_while(absent).count() as u64;
        let end = first.saturating_add(count).saturating_mul(covered);
        end.saturating_sub(offset).min(len)
    }
}

impl<'i> Survey<'i> {
    /// Shows `visit` the pieces of a range in order and without gaps. Neighbours are not merged:
    /// [`RunKind::continues`] tells which could be.
    ///
    /// # Errors
    /// The range lies outside the disk, or a table is damaged or unreadable; some pieces may have been
    /// shown.
    pub fn visit(&mut self, offset: u64, len: u64, visit: &mut dyn FnMut(&Run)) -> Result<()> {
        self.image.check_range(offset, len)?;
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            let run = self.piece_at(at, end)?;
            at += run.len;
            visit(&run);
        }
        Ok(())
    }

    fn piece_at(&mut self, at: u64, end: u64) -> Result<Run> {
        let image = self.image;
        let guest = GuestOffset::new(at);
        let place = image.slice_place(guest);
        self.go_to(place.number, guest)?;
        let below = |len: u64| Run { guest, len, kind: RunKind::Below { reserved: None } };
        let mapping = match &self.at {
            Some((_, Piece::InMemory(slice))) => slice.get(place.index),
            Some((_, Piece::Read)) => {
                let empty = self.empty_entries(place.index);
                if empty > 0 {
                    let bytes = empty * image.geometry().cluster_bytes();
                    let skip = image.geometry().offset_in_cluster(at);
                    return Ok(below((bytes - skip).min(end - at)));
                }
                self.read_mapping(place.index)
            }
            Some((_, Piece::Absent)) | None => {
                return Ok(below(image.to_table_end(at).min(end - at)));
            }
        };
        image.run_at(at, end, mapping)
    }

    /// Makes the entries of a slice available.
    fn go_to(&mut self, number: SliceNumber, guest: GuestOffset) -> Result<()> {
        // Somebody may write: then the piece may have changed since.
        let stays = self.image.is_read_only();
        if stays && self.at.as_ref().is_some_and(|(known, _)| *known == number) {
            return Ok(());
        }
        self.at = None;
        let piece = if !stays {
            let slice = self.image.slice_if_any(guest)?;
            slice.map_or(Piece::Absent, |slice: Arc<Slice>| Piece::InMemory(SliceRef::Held(slice)))
        } else if let Some(slice) = self.image.slices.look(number) {
            Piece::InMemory(slice)
        } else if let Some(at) = self.image.slice_offset(number)? {
            self.read(number, at)?;
            Piece::Read
        } else {
            Piece::Absent
        };
        self.at = Some((number, piece));
        Ok(())
    }

    fn read(&mut self, number: SliceNumber, at: HostOffset) -> Result<()> {
        self.bytes.resize(self.image.slice_bytes() as usize, 0);
        let storage = self.image.storage();
        let read = storage.read_zero_filled(at.get(), &mut self.bytes);
        if read.map_err(Error::storage(Purpose::L2Table))? == 0 {
            self.image.refuse_lost_table(number, at)?;
        }
        Ok(())
    }

    fn read_mapping(&self, index: usize) -> Mapping {
        let (words, _) = self.bytes.as_chunks::<8>();
        // A slice has as many words as its entries need.
        let word = |at: usize| words.get(at).map_or(0, |word| u64::from_be_bytes(*word));
        match self.image.geometry().l2_layout() {
            L2Layout::Standard => Mapping::standard(L2Entry::from_bits(word(index))),
            L2Layout::Extended => Mapping::extended(
                L2Entry::from_bits(word(index * 2)),
                L2Bitmap::from_bits(word(index * 2 + 1)),
            ),
        }
    }

    /// Entries from `index` on that are all zeros, which means unallocated in every dialect.
    fn empty_entries(&self, index: usize) -> u64 {
        let bytes = self.image.geometry().l2_entry_bytes();
        let (words, _) =
            self.bytes.get(index * bytes as usize..).unwrap_or_default().as_chunks::<8>();
        let zeros = words.iter().take_while(|word| **word == [0; 8]).count() as u64;
        zeros * 8 / bytes
    }
}
