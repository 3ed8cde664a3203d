//! COPIED flags beside internal snapshots: believed only where the counts agree.
//!
//! The flag says that a cluster has one owner and may be written in place. A flag that lies would
//! let a write change what a snapshot shows, and nobody would notice before the snapshot is
//! needed. The counts know better, and looking them up once for each piece of a table that is
//! read costs little. Whoever finds the flag missing copies the cluster, which is always right.

use qcow2_format::L2Entry;

use crate::image::Image;

impl Image {
    /// Takes the flag from entries, as read from a table, whose cluster has more than one owner.
    pub(crate) fn doubt_copied_flags(&self, words: &mut [u64]) {
        let Some(writer) = self.writer.as_ref().filter(|_| self.header.snapshot_count() > 0) else {
            // Nobody writes, or nobody else can be hurt.
            return;
        };
        let geometry = self.geometry();
        let words_per_entry = (geometry.l2_entry_bytes() / 8) as usize;
        let mut owned: Vec<&mut u64> = words
            .iter_mut()
            .step_by(words_per_entry)
            .filter(|word| {
                let entry = L2Entry::from_bits(**word);
                entry.is_copied() && !entry.is_compressed() && entry.host_offset().get() != 0
            })
            .collect();
        let cluster = |word: u64| geometry.host_cluster(L2Entry::from_bits(word).host_offset());
        let shared = writer.allocator.shared(owned.iter().map(|word| cluster(**word)));
        for (word, shared) in owned.iter_mut().zip(shared) {
            **word = L2Entry::from_bits(**word).with_copied(!shared).bits();
        }
    }
}
