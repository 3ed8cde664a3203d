//! Overlays in the same folder that rest on a layer and are no part of the chain: they may show other
//! bytes once it changes, and in any case no longer rest on what they were made on.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

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
    let members = || changed.iter().filter_map(|&depth| lineage.members.get(depth));
    let changed: HashMap<FileId, &Member> =
        members().filter_map(|member| Some((member.id?, member))).collect();
    let own: HashSet<FileId> = lineage.members.iter().filter_map(|member| member.id).collect();
    // A folder with all layers of a deep chain is looked through once.
    let mut seen: HashSet<PathBuf> = HashSet::new();
    for member in members() {
        for place in places(&member.path) {
            if !seen.insert(place.parent().unwrap_or(Path::new("")).to_owned()) {
                continue;
            }
            let refuse = |source| Error::Storage { layer: member.path.clone(), source };
            for overlay in options.host().neighbours(&place).map_err(refuse)? {
                let below = rests_on(&overlay, &own, options);
                if let Some(member) = below.and_then(|below| changed.get(&below)) {
                    let layer = member.path.clone();
                    return Err(Error::Refused(Refusal::SharedBase { layer, overlay }));
                }
            }
        }
    }
    Ok(())
}

/// The path of a file, and where it really lies if symbolic links lead into another folder.
fn places(path: &Path) -> impl Iterator<Item = PathBuf> {
    let real = path.canonicalize().ok().filter(|real| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize();
        folder.is_ok_and(|folder| real.parent() != Some(&folder))
    });
    core::iter::once(path.to_owned()).chain(real)
}

/// The file that an overlay rests on, if it is one and not among those that are known.
fn rests_on(path: &Path, known: &HashSet<FileId>, options: &OpenOptions) -> Option<FileId> {
    let host = block_io::OpenOptions::new().locking(Locking::Off);
    let storage = options.host().open(path, &host).ok()?;
    let own = storage.identity().ok()?;
    if own.is_some_and(|own| known.contains(&own)) || !is_qcow2(&*storage) {
        return None;
    }
    let below = name::resolve(path, &backing_name(&*storage)?).ok()?;
    options.host().open(&below, &host).ok()?.identity().ok()?
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
