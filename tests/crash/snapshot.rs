//! An internal snapshot, which must show what it keeps whatever happens to the disk.

use std::sync::Arc;

use qimg::engine::{Backing, Image, OpenOptions};
use qimg::io::{MemoryStorage, Storage, StorageExt};
use testkit::stamps::stamps;
use testkit::{Folder, Qemu};

/// What a snapshot shows.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    stamps: Vec<u64>,
}

/// Has the real tool take a snapshot of an image that shows these stamps.
pub(crate) fn take(image: &mut MemoryStorage, stamps: &[u64]) -> Kept {
    let folder = Folder::new();
    let path = folder.write("image.qcow2", &image.to_vec());
    Qemu::img(["snapshot", "-c", "kept", path.to_str().unwrap()]).success();
    *image = MemoryStorage::from(&std::fs::read(&path).unwrap()[..]);
    Kept { stamps: stamps.to_vec() }
}

impl Kept {
    /// Looks at what the only snapshot of an image shows.
    pub(crate) fn judge(
        &self,
        image: &MemoryStorage,
        below: Option<Arc<dyn Backing>>,
    ) -> Result<(), String> {
        let view = image.clone();
        let word = |at: u64| {
            let mut word = [0; 8];
            view.read_zero_filled(at, &mut word).unwrap();
            word
        };
        let table = u64::from_be_bytes(word(64));
        // The tables of the snapshot instead of those of the disk; its size and that of its table
        // do not share a word.
        let (l1, entries) = (word(table), word(table + 8));
        view.write_at(40, &l1).unwrap();
        view.write_at(36, &entries[..4]).unwrap();
        let size = (self.stamps.len() * testkit::stamps::SECTOR) as u64;
        view.write_at(24, &size.to_be_bytes()).unwrap();
        view.write_at(60, &[0; 4]).unwrap();
        let options = OpenOptions::new().read_only(true).backing(below);
        let opened = Image::open(Arc::new(view), options).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; size as usize];
        opened.read_at(0, &mut bytes).map_err(|error| error.to_string())?;
        let found = stamps(&bytes, 0).map_err(|text| format!("CE-8: {text}"))?;
        if found == self.stamps { Ok(()) } else { Err("CE-8: the snapshot has changed".to_owned()) }
    }
}
