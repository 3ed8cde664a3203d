//! Overlays in the same folder that rest on a layer and are no part of the chain: they would show
//! other bytes once it changes.

use std::path::Path;

use block_io::{FileId, Locking, Storage, StorageExt};
use qcow2_format::Header;

use super::lineage::{Lineage, Member};
use super::refusal::Refusal;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::name;
use crate::options::OpenOptions;

/// Refuses when an overlay in the folder of a layer that will change rests on it and is not in the
/// chain. What cannot be read, or is no image, is no reason to refuse anything.
pub(crate) fn refuse_shared(
    lineage: &Lineage,
    changed: &[usize],
    options: &OpenOptions,
) -> Result<()> {
    for &depth in changed {
        let Some(member) = lineage.members.get(depth) else { continue };
        let Some(id) = member.id else { continue };
        let paths = options.host().neighbours(&member.path);
        let refuse = |source| Error::Storage { layer: member.path.clone(), source };
        for path in paths.map_err(refuse)? {
            if rests_on(&path, id, lineage, options) {
                let (layer, overlay) = (member.path.clone(), path);
                return Err(Error::Refused(Refusal::SharedBase { layer, overlay }));
            }
        }
    }
    Ok(())
}

/// Whether the file is an overlay outside the chain whose header names the file with this identity.
fn rests_on(path: &Path, id: FileId, lineage: &Lineage, options: &OpenOptions) -> bool {
    let host = block_io::OpenOptions::new().locking(Locking::Off);
    let Ok(storage) = options.host().open(path, &host) else { return false };
    let Ok(own) = storage.identity() else { return false };
    let is_member = |member: &Member| member.id.is_some() && member.id == own;
    if lineage.members.iter().any(is_member) || !is_qcow2(&*storage) {
        return false;
    }
    let Some(name) = backing_name(&*storage) else { return false };
    let Ok(below) = name::resolve(path, &name) else { return false };
    let below = options.host().open(&below, &host);
    below.is_ok_and(|below| below.identity().is_ok_and(|found| found == Some(id)))
}

fn is_qcow2(storage: &dyn Storage) -> bool {
    let mut head = [0; 8];
    storage.read_zero_filled(0, &mut head).is_ok() && Format::probe(&head) == Format::Qcow2
}

fn backing_name(storage: &dyn Storage) -> Option<String> {
    let header: Header = cow_engine::read_header(storage).ok()?;
    let name = header.backing_name().filter(|name| !name.is_empty())?;
    String::from_utf8(name.to_vec()).ok()
}
