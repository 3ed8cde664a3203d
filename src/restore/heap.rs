//! `Heap`: files of which nobody has said who rests on whom.

use std::path::PathBuf;

use block_io::{FileId, OpenOptions, Storage, StorageExt};
use chain::{Format, pin_of};
use cow_engine::{BasePin, PinnedFormat};

use super::{Children, RestoreError, last_part};

/// The format of a raw disk, as records name it.
const RAW: PinnedFormat = PinnedFormat::Raw;

/// A file and what its header says.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// Name of its backing file.
    pub(super) backing: Option<String>,
    /// Whether its header says that its backing file is raw.
    backing_is_raw: bool,
    /// Why it cannot be the image that its first bytes promise: it may be a raw disk all the same, if
    /// another file says so.
    broken: Option<String>,
    id: Option<FileId>,
    /// What it remembers of its backing file.
    base: Option<BasePin>,
    /// What an overlay would remember of it.
    own: BasePin,
}

/// Files in any order.
#[derive(Debug)]
pub(super) struct Heap {
    pieces: Vec<Piece>,
}

impl Heap {
    /// Reads the headers of the files.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, RestoreError> {
        let mut pieces: Vec<Piece> = Vec::new();
        for path in paths {
            let piece = Piece::read(path)
                .map_err(|reason| RestoreError::Unreadable { path: path.clone(), reason })?;
            if piece.id.is_some() && pieces.iter().any(|other| other.id == piece.id) {
                return Err(RestoreError::Twice { path: path.clone() });
            }
            pieces.push(piece);
        }
        Ok(Self { pieces })
    }

    /// The files from the top down, if they are one complete chain.
    pub(super) fn ordered(mut self) -> Result<Vec<Piece>, RestoreError> {
        self.settle_formats();
        let below = self.all_below()?;
        let mut children = Children::new();
        for (overlay, base) in below.iter().enumerate() {
            if let Some(base) = base {
                children.entry(*base).or_default().push(overlay);
            }
        }
        let paths = |of: &[usize]| of.iter().map(|&at| self.pieces[at].path.clone()).collect();
        if let Some((&base, overlays)) = children.iter().find(|(_, overlays)| overlays.len() > 1) {
            let (base, overlays) = (self.pieces[base].path.clone(), paths(overlays));
            return Err(RestoreError::Fork { base, overlays });
        }
        let tops: Vec<usize> =
            (0..self.pieces.len()).filter(|at| !children.contains_key(at)).collect();
        let top = match (tops.as_slice(), self.pieces.first()) {
            (_, None) => return Err(RestoreError::Nothing),
            ([], Some(first)) => return Err(RestoreError::Circle { path: first.path.clone() }),
            ([top], _) => *top,
            (several, _) => self.likely_top(several, &below)?,
        };
        // Nobody says that it is raw.
        if let Some(reason) = &self.pieces[top].broken {
            return Err(self.pieces[top].unreadable(reason.clone()));
        }
        let mut order = vec![top];
        let mut at = top;
        while let Some(base) = below[at] {
            order.push(base);
            at = base;
        }
        let left: Vec<usize> = (0..self.pieces.len()).filter(|at| !order.contains(at)).collect();
        if !left.is_empty() {
            return Err(RestoreError::LeftOver { paths: paths(&left) });
        }
        Ok(order.into_iter().map(|at| self.pieces[at].clone()).collect())
    }

    /// Content that looks like qcow2 may be that of a raw disk: the header above knows better.
    fn settle_formats(&mut self) {
        for at in 0..self.pieces.len() {
            let piece = &self.pieces[at];
            let is_raw = piece.base.map_or(piece.backing_is_raw, |pin| pin.format == RAW);
            let Some(name) = piece.backing.as_deref().filter(|_| is_raw) else { continue };
            let remembered = |raw: &Piece| piece.base.is_some_and(|pin| raw.is_what(&pin));
            if self.pieces.iter().any(remembered) {
                continue; // whatever bears its name today
            }
            let is_named = |other: &Piece| other.path.file_name() == last_part(name).file_name();
            let has_length = |other: &Piece| {
                piece.base.is_some_and(|pin| pin.file_bytes == other.own.file_bytes)
            };
            let as_raw = |other: usize| {
                let (found, me) = (&self.pieces[other], other == at);
                let may_be = !me && found.format == Format::Qcow2;
                let read = may_be && (is_named(found) || has_length(found));
                Some((other, Piece::read_as(&found.path, Format::Raw).ok().filter(|_| read)?))
            };
            let mut named = None;
            let found = (0..self.pieces.len()).filter_map(as_raw).find_map(|(other, raw)| {
                if remembered(&raw) {
                    return Some((other, raw));
                }
                named = is_named(&raw).then_some((other, raw)).or(named.take());
                None
            });
            if let Some((other, raw)) = found.or(named) {
                self.pieces[other] = raw;
            }
        }
    }

    /// For each file the one below it.
    fn all_below(&self) -> Result<Vec<Option<usize>>, RestoreError> {
        (0..self.pieces.len()).map(|at| self.below(at)).collect()
    }

    fn below(&self, at: usize) -> Result<Option<usize>, RestoreError> {
        let overlay = &self.pieces[at];
        let Some(name) = &overlay.backing else { return Ok(None) };
        let others = || (0..self.pieces.len()).filter(|other| *other != at);
        let named =
            |other: &usize| self.pieces[*other].path.file_name() == last_part(name).file_name();
        let pin = overlay.base.filter(|pin| pin.is_about(name.as_bytes()));
        let by_content: Vec<usize> = match pin {
            Some(pin) => others().filter(|other| self.pieces[*other].is_what(&pin)).collect(),
            None => Vec::new(),
        };
        // The name decides between files of the same content, and where nothing is remembered.
        let candidates = match by_content.as_slice() {
            [] => others().filter(named).collect(),
            [_] => by_content,
            several => {
                let and_named: Vec<usize> = several.iter().copied().filter(named).collect();
                if and_named.is_empty() { by_content } else { and_named }
            }
        };
        match candidates.as_slice() {
            [] => Err(RestoreError::Missing { overlay: overlay.path.clone(), name: name.clone() }),
            [one] => Ok(Some(*one)),
            several => Err(RestoreError::Ambiguous {
                overlay: overlay.path.clone(),
                candidates: several.iter().map(|&at| self.pieces[at].path.clone()).collect(),
            }),
        }
    }

    /// Of several tops the only one that rests on anything; the others are left over.
    fn likely_top(&self, tops: &[usize], below: &[Option<usize>]) -> Result<usize, RestoreError> {
        let mut resting = tops.iter().copied().filter(|at| below[*at].is_some());
        match (resting.next(), resting.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(RestoreError::LeftOver {
                paths: tops.iter().skip(1).map(|&at| self.pieces[at].path.clone()).collect(),
            }),
        }
    }
}

impl Piece {
    pub(super) fn unreadable(&self, reason: String) -> RestoreError {
        RestoreError::Unreadable { path: self.path.clone(), reason }
    }

    fn read(path: &PathBuf) -> Result<Self, String> {
        let storage = OpenOptions::new().open(path).map_err(|error| error.to_string())?;
        let mut head = [0; 8];
        storage.read_zero_filled(0, &mut head).map_err(|error| error.to_string())?;
        let format = Format::probe(&head);
        match Self::read_as(path, format) {
            Err(reason) if format == Format::Qcow2 => {
                let raw = Self::read_as(path, Format::Raw)?;
                Ok(Self { format, broken: Some(reason), ..raw })
            }
            read => read,
        }
    }

    fn read_as(path: &PathBuf, format: Format) -> Result<Self, String> {
        let storage = OpenOptions::new().open(path).map_err(|error| error.to_string())?;
        let (mut backing, mut base, mut backing_is_raw) = (None, None, false);
        if format == Format::Qcow2 {
            let header = cow_engine::read_header(&storage).map_err(|error| error.to_string())?;
            let name = header.backing_name().filter(|name| !name.is_empty());
            backing = name.map(|name| String::from_utf8_lossy(name).into_owned());
            base = header.base_pin();
            backing_is_raw = header.backing_format() == Some(b"raw");
        }
        let own = pin_of(&storage, format, "").map_err(|error| error.to_string())?;
        let id = storage.identity().map_err(|error| error.to_string())?;
        let (path, broken) = (path.clone(), None);
        Ok(Self { path, format, backing, backing_is_raw, broken, id, base, own })
    }

    /// Whether this is the file that somebody remembers, by its content mark.
    fn is_what(&self, pin: &BasePin) -> bool {
        (self.own.mark, self.own.file_bytes, self.own.virtual_size, self.own.format)
            == (pin.mark, pin.file_bytes, pin.virtual_size, pin.format)
    }
}
