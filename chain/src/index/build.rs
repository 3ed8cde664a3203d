//! Building a page: the layers are asked from the top down, each only for what is still open.

use std::ops::Range;
use std::sync::Arc;

use cow_engine::{Image, RunKind};
use qcow2_format::HostOffset;

use super::place::{Owner, Place};
use crate::error::Result;
use crate::layer::{Disk, Layer};

/// A range that no layer so far owns.
#[derive(Clone, Copy, Debug)]
struct Open {
    start: u64,
    end: u64,
    /// Where the layer that was asked last keeps host space for the first byte all the same.
    reserved: Option<HostOffset>,
}

/// What is open and what is answered, with `layer` layers asked.
struct Sorting {
    layer: u16,
    open: Vec<Open>,
    answered: Vec<Place>,
}

/// Who answers each byte of a range, in order and without gaps. The range lies inside the disk of the
/// first layer.
pub(super) fn places(layers: &[Arc<Layer>], range: Range<u64>) -> Result<Vec<Place>> {
    let all = Open { start: range.start, end: range.end, reserved: None };
    let mut sorting = Sorting { layer: 0, open: vec![all], answered: Vec::new() };
    // Swapped with the open ranges at each layer, so that deep chains take no memory of their own.
    let mut spare = Vec::new();
    for layer in layers {
        if sorting.open.is_empty() {
            break;
        }
        sorting.end_at(layer.virtual_size());
        match layer.disk() {
            Disk::Raw(_) => sorting.answer_all(Owner::raw(sorting.layer)),
            Disk::Qcow2(image) => {
                sorting.ask(image, &mut spare).map_err(|source| layer.image_error(source))?;
            }
        }
        sorting.layer = sorting.layer.saturating_add(1);
    }
    sorting.end_at(0);
    let mut places = sorting.answered;
    places.sort_unstable_by_key(|place| place.start);
    Ok(places)
}

/// The place of the byte at `at`, for `len` bytes at most, as far as the first tables of the layers
/// alone tell it: for large ranges in which nobody owns anything.
pub(super) fn untouched(layers: &[Arc<Layer>], at: u64, len: u64) -> Option<Place> {
    let mut len = len;
    for (index, layer) in (0..).zip(layers) {
        let inside = layer.virtual_size().saturating_sub(at);
        if inside == 0 {
            return Some(Place { start: at, len, owner: Owner::nobody(index, None) });
        }
        len = len.min(inside);
        match layer.disk() {
            Disk::Raw(_) => return Some(Place { start: at, len, owner: Owner::raw(index) }),
            Disk::Qcow2(image) => len = image.untouched_bytes(at, len),
        }
        if len == 0 {
            return None;
        }
    }
    let asked = u16::try_from(layers.len()).ok()?;
    Some(Place { start: at, len, owner: Owner::nobody(asked, None) })
}

impl Sorting {
    /// CH-4: beyond the end of a layer there is nothing, whatever lies further below.
    fn end_at(&mut self, size: u64) {
        let (layer, answered) = (self.layer, &mut self.answered);
        self.open.retain_mut(|open| {
            let inside = open.end.min(size).max(open.start);
            if inside < open.end {
                let skip = inside - open.start;
                let owner = Owner::nobody(layer, open.reserved).advanced(skip);
                answered.push(Place { start: inside, len: open.end - inside, owner });
                open.end = inside;
            }
            open.start < open.end
        });
    }

    fn answer_all(&mut self, owner: Owner) {
        let all = self.open.drain(..);
        self.answered.extend(all.map(|open| Place {
            start: open.start,
            len: open.end - open.start,
            owner,
        }));
    }

    fn ask(&mut self, image: &Image, spare: &mut Vec<Open>) -> cow_engine::Result<()> {
        let (geometry, layer) = (image.geometry(), self.layer);
        let mut survey = image.survey();
        let answered = &mut self.answered;
        for range in &self.open {
            survey.visit(range.start, range.end - range.start, &mut |run| {
                let (start, len) = (run.guest.get(), run.len);
                match (Owner::of(layer, run.kind, geometry), run.kind) {
                    (Some(owner), _) => answered.push(Place { start, len, owner }),
                    (None, RunKind::Below { reserved }) => keep_open(spare, start, len, reserved),
                    (None, _) => keep_open(spare, start, len, None),
                }
            })?;
        }
        core::mem::swap(&mut self.open, spare);
        spare.clear();
        Ok(())
    }
}

/// Adds a range at the end, joined with the last one where that goes on.
fn keep_open(open: &mut Vec<Open>, start: u64, len: u64, reserved: Option<HostOffset>) {
    let end = start.saturating_add(len);
    if let Some(last) = open.last_mut()
        && last.end == start
        && last.reserved.and_then(|host| host.checked_add(start - last.start)) == reserved
        && last.reserved.is_some() == reserved.is_some()
    {
        last.end = end;
        return;
    }
    open.push(Open { start, end, reserved });
}
