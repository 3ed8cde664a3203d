//! Changes to the top layer of a chain that change what lies below it.

use std::path::Path;

use block_io::Locking;
use cow_engine::{BackingReference, BasePin};

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::layer::Disk;
use crate::name;
use crate::operation::Refusal;
use crate::options::OpenOptions;
use crate::pin::pin_of;

impl Chain {
    /// Makes the header of the top layer name another backing file, or none, durably and in a way that
    /// a power cut leaves the one or the other. This chain goes on reading from the old one.
    pub(crate) fn change_backing(
        &mut self,
        to: Option<(&str, Option<Format>)>,
        options: &OpenOptions,
    ) -> Result<()> {
        let overlay = self.top().path().to_owned();
        let pin = to.and_then(|(name, format)| pin_for(&overlay, name, format?, options));
        let to = reference(to);
        self.with_top_image(|image| image.change_backing(to.as_ref(), pin.as_ref()))
    }

    /// Whether the header of the top layer can name this backing file: asked before anything moves.
    pub(crate) fn check_backing(&self, to: Option<(&str, Option<Format>)>) -> Result<()> {
        let top = self.top();
        let Some(image) = top.image() else {
            return Err(Error::Refused(Refusal::Raw { layer: top.path().to_owned() }));
        };
        image.check_backing_change(reference(to).as_ref()).map_err(|source| top.image_error(source))
    }

    /// Makes the top layer give up all it holds, durably: what lies below shows everywhere.
    pub(crate) fn empty(&mut self) -> Result<()> {
        self.with_top_image(cow_engine::Image::empty)
    }

    fn with_top_image<T>(
        &mut self,
        change: impl FnOnce(&mut cow_engine::Image) -> cow_engine::Result<T>,
    ) -> Result<T> {
        // Whoever holds the chain mutably holds its top, too.
        let Some(top) = self.top_mut() else { return Err(Error::ReadOnly) };
        let changed = match top.disk_mut() {
            Disk::Raw(_) => {
                return Err(Error::Refused(Refusal::Raw { layer: top.path().to_owned() }));
            }
            Disk::Qcow2(image) => change(image),
        };
        changed.map_err(|source| top.image_error(source))
    }
}

fn reference(to: Option<(&str, Option<Format>)>) -> Option<BackingReference> {
    to.map(|(name, format)| BackingReference {
        name: name.to_owned(),
        format: format.map(|format| format.name().to_owned()),
    })
}

/// What the header of an image at `overlay` shall remember of the backing file that it calls `name`;
/// nothing if it is not wanted, or the file cannot be read: a record is a favour.
pub(crate) fn pin_for(
    overlay: &Path,
    name: &str,
    format: Format,
    options: &OpenOptions,
) -> Option<BasePin> {
    if !options.record_bases {
        return None;
    }
    let path = name::resolve(overlay, name).ok()?;
    let host = block_io::OpenOptions::new().locking(Locking::Off);
    let storage = options.host().open(&path, &host).ok()?;
    pin_of(&*storage, format, name).ok()
}
