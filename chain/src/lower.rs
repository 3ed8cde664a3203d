//! The layers below the top: reading through them and what is known about them.

use std::sync::Arc;

use cow_engine::{Backing, BelowError};

use crate::error::Result;
use crate::index::Index;
use crate::layer::{Disk, Layer};
use crate::status::Status;
use crate::walk;

/// The layers below the top, nearest first. They do not change while they lie there; another set of
/// layers is another value, so that what the index remembers goes with the set.
#[derive(Clone, Debug)]
pub(crate) struct LowerLayers {
    layers: Arc<[Arc<Layer>]>,
    index: Option<Arc<Index>>,
}

impl LowerLayers {
    /// A set of layers, nearest first, with an empty index of so many bytes at most.
    pub(crate) fn new(layers: Vec<Arc<Layer>>, index_bytes: u64) -> Self {
        let index = Index::new(&layers, index_bytes).map(Arc::new);
        Self { layers: layers.into(), index }
    }

    /// The layers, nearest first.
    pub(crate) fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// Bytes that the index takes in memory.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.index.as_ref().map_or(0, |index| index.counts().1 as u64)
    }

    fn virtual_size(&self) -> u64 {
        self.layers.first().map_or(0, |layer| layer.virtual_size())
    }

    /// Fills `buf` with what the layers from the first on show at `offset`.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(index) = &self.index else { return walk::read_at(&self.layers, offset, buf) };
        let inside = self.virtual_size().saturating_sub(offset).min(buf.len() as u64);
        let (mut rest, beyond) = buf.split_at_mut(inside as usize);
        beyond.fill(0);
        let mut at = offset;
        while !rest.is_empty() {
            let place = index.find(&self.layers, at, rest.len() as u64);
            let to_page_end = index.page_end(at).saturating_sub(at);
            let len = place.map_or(to_page_end, |place| place.len()).min(rest.len() as u64);
            let (part, tail) = rest.split_at_mut(len as usize);
            match place {
                Some(place) => place.read(&self.layers, part)?,
                None => walk::read_at(&self.layers, at, part)?,
            }
            (rest, at) = (tail, at.saturating_add(len));
        }
        Ok(())
    }

    /// For how many of `len` bytes at `offset` one layer answers in one way, as far as the index knows.
    pub(crate) fn reach(&self, offset: u64, len: u64) -> u64 {
        let inside = self.virtual_size().saturating_sub(offset).min(len);
        match &self.index {
            Some(index) if inside > 0 => {
                index.survey(&self.layers, offset, inside).map_or(len, |place| place.len())
            }
            _ => len,
        }
    }

    /// What is known about up to `len` bytes at `offset`; depths count from the layer above all
    /// of these, which is the top. The top keeps host space `reserved` for what it does not own.
    pub(crate) fn status_at(&self, offset: u64, len: u64, reserved: Option<u64>) -> Result<Status> {
        let Some(index) = self.index.as_ref().filter(|_| offset < self.virtual_size()) else {
            return walk::status_at(&self.layers, offset, len, reserved);
        };
        match index.survey(&self.layers, offset, len) {
            Some(place) => place.status(&self.layers),
            None => {
                let to_page_end = index.page_end(offset).saturating_sub(offset);
                walk::status_at(&self.layers, offset, len.min(to_page_end), reserved)
            }
        }
    }

    /// Whether the nearest layer is raw and has shown data at `offset` before.
    fn has_shown_data(&self, offset: u64) -> bool {
        let disk = self.layers.first().map(|layer| layer.disk());
        matches!(disk, Some(Disk::Raw(raw)) if raw.has_shown_data(offset))
    }
}

impl Backing for LowerLayers {
    fn virtual_size(&self) -> u64 {
        self.virtual_size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        Self::read_at(self, offset, buf).map_err(|error| Arc::new(error) as BelowError)
    }

    fn reads_as_zeros(&self, offset: u64, len: u64) -> Result<bool, BelowError> {
        if len > 0 && self.has_shown_data(offset) {
            return Ok(false);
        }
        let (mut at, mut rest) = (offset, len);
        while rest > 0 {
            let status = match self.layers.first() {
                Some(first) if at < first.virtual_size() => self.status_at(at, rest, None),
                _ => return Ok(true),
            };
            let status = status.map_err(|error| Arc::new(error) as BelowError)?;
            if !status.zero || status.len == 0 {
                return Ok(false);
            }
            let step = status.len.min(rest);
            (at, rest) = (at.saturating_add(step), rest - step);
        }
        Ok(true)
    }
}
