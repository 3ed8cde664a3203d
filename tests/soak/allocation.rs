//! `Slots`: which guest clusters may take a compressed write, read from the tables themselves.

use std::path::Path;

use qimg::format::{GuestOffset, Header, L1Entry, L2Entry};
use qimg::io::{Storage, StorageExt};

/// What is known about the host space of each guest cluster.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    cluster: u64,
    slots: Vec<Slot>,
}

/// What is known about one guest cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// It has no host space.
    Free,
    /// It has.
    Taken,
    /// Something has happened to it since.
    Unknown,
}

impl Slots {
    /// Reads the tables of an image that nobody has open.
    pub(crate) fn of(path: &Path) -> Self {
        let storage = qimg::io::OpenOptions::new().open(path).unwrap();
        let mut head = vec![0; 4096];
        storage.read_zero_filled(0, &mut head).unwrap();
        let cluster = 1 << Header::peek_cluster_bits(&head).unwrap().get();
        head.resize(cluster, 0);
        storage.read_zero_filled(0, &mut head).unwrap();
        let header = Header::decode(&head).unwrap();
        let geometry = header.geometry();
        let cluster = geometry.cluster_bytes();
        let slots = (0..header.virtual_size().div_ceil(cluster))
            .map(|index| {
                let guest = GuestOffset::new(index * cluster);
                let l1 = header.l1_table_offset().get() + geometry.l1_index(guest) * 8;
                let Some(table) = L1Entry::from_bits(word(&storage, l1)).table_offset() else {
                    return Slot::Free;
                };
                let at = geometry.l2_index(guest) * geometry.l2_entry_bytes();
                let entry = L2Entry::from_bits(word(&storage, table.get() + at));
                let taken = entry.is_compressed() || entry.host_offset().get() != 0;
                if taken { Slot::Taken } else { Slot::Free }
            })
            .collect();
        Self { cluster, slots }
    }

    pub(crate) fn at(&self, offset: u64) -> Slot {
        self.slots[(offset / self.cluster) as usize]
    }

    pub(crate) fn set(&mut self, offset: u64, slot: Slot) {
        self.slots[(offset / self.cluster) as usize] = slot;
    }

    /// The disk gets another size.
    pub(crate) fn resize(&mut self, size: u64) {
        self.slots.resize(size.div_ceil(self.cluster) as usize, Slot::Unknown);
        self.slots.fill(Slot::Unknown);
    }

    /// Something happens to a range.
    pub(crate) fn touch(&mut self, offset: u64, len: u64) {
        let last = (offset + len - 1) / self.cluster;
        self.slots[(offset / self.cluster) as usize..=last as usize].fill(Slot::Unknown);
    }
}

fn word(storage: &dyn Storage, offset: u64) -> u64 {
    let mut word = [0; 8];
    storage.read_zero_filled(offset, &mut word).unwrap();
    u64::from_be_bytes(word)
}
