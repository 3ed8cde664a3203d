//! Switching the header: what it says changes with one write of its first sector.

use block_io::{Storage, StorageExt};
use qcow2_format::{Header, limit};

use super::AmendError;

/// Puts `new` in the place of `old`.
///
/// What the new header needs behind its first sector is written before, where the old one has
/// nothing; what the old one had there and the new one does not need stays as it is. A backing file
/// name that would be in the way stays where it is, or moves behind everything.
pub(super) fn switch(storage: &dyn Storage, old: &Header, new: &Header) -> Result<(), AmendError> {
    let mut before = vec![0; old.geometry().cluster_bytes() as usize];
    storage.read_zero_filled(0, &mut before)?;
    let steps = forms(old, new).find_map(|form| Steps::new(old, &form, &before));
    let Some(steps) = steps else {
        let (old, new) = (old.occupied_bytes(), new.occupied_bytes());
        return Err(AmendError::HeaderInTwo { old, new });
    };
    if steps.bytes == before {
        return Ok(());
    }
    // Everything before is durable before the header says so.
    storage.sync()?;
    if let Some(range) = steps.ahead {
        storage.write_at(range.start as u64, &steps.bytes[range])?;
        storage.sync()?;
    }
    storage.write_at(0, steps.bytes.get(..sector()).unwrap_or(&steps.bytes))?;
    storage.sync()?;
    Ok(())
}

fn sector() -> usize {
    limit::SECTOR_BYTES as usize
}

/// The new header, with its backing file name at the places it may have.
fn forms<'a>(old: &'a Header, new: &'a Header) -> impl Iterator<Item = Header> + 'a {
    let behind = Some(old.occupied_bytes().max(new.occupied_bytes()));
    let shapes = std::iter::once(new.clone()).chain(new.without_feature_names().ok());
    shapes.flat_map(move |shape| {
        let places = [old.backing_name_offset(), behind].into_iter().flatten();
        let moved = |at| shape.clone().with_backing_name_at(at).ok();
        let moved: Vec<Header> = match shape.backing_name() {
            Some(_) => places.filter_map(moved).collect(),
            None => Vec::new(),
        };
        std::iter::once(shape).chain(moved)
    })
}

/// Cluster 0 as it will be, and what of it has to be written before its first sector.
struct Steps {
    bytes: Vec<u8>,
    ahead: Option<std::ops::Range<usize>>,
}

impl Steps {
    /// `None` if the old header would be damaged before the new one is there.
    fn new(old: &Header, new: &Header, before: &[u8]) -> Option<Self> {
        let mut bytes = before.to_vec();
        let encoded = new.encode();
        for part in new.occupied_parts() {
            let part = part.start as usize..part.end as usize; // within one cluster
            bytes.get_mut(part.clone())?.copy_from_slice(encoded.get(part)?);
        }
        let used = new.occupied_bytes() as usize;
        let pairs = bytes.iter().zip(before).enumerate().skip(sector());
        let first = pairs.filter(|(_, (new, old))| new != old).map(|(at, _)| at).next();
        if first.is_some_and(|first| (first as u64) < old.occupied_bytes()) {
            return None;
        }
        Some(Self { bytes, ahead: first.map(|first| first..used) })
    }
}
