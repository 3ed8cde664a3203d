//! Tables of 8-byte entries, looked through in pieces, without reading holes: a crafted file of a
//! few kilobytes may have terabytes of them.

use block_io::StorageExt;
use qcow2_format::HostOffset;

use super::Claims;
use crate::error::{Error, Purpose, Result};

/// Bytes that are read at once.
const PIECE_BYTES: u64 = 256 << 10;

impl Claims<'_> {
    /// Shows the entries that are not zero, with their index, to `visit`.
    pub(super) fn table_words(
        &mut self,
        during: Purpose,
        table: HostOffset,
        entries: u64,
        mut visit: impl FnMut(&mut Self, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let mut index = 0;
        while index < entries {
            let at = table.get().saturating_add(index.saturating_mul(8));
            let extent = self.storage.extent_at(at).map_err(Error::storage(during))?;
            // Past the end of the file there are zeros.
            let Some(extent) = extent else { break };
            let (here, left) = (extent.len.div_ceil(8), entries - index);
            if extent.is_hole() && extent.len >= 8 {
                index += (extent.len / 8).min(left);
                continue;
            }
            let words = self.words(during, at, here.min(left).min(PIECE_BYTES / 8))?;
            for (word, index) in words.into_iter().zip(index..).filter(|(word, _)| *word != 0) {
                visit(self, index, word)?;
            }
            index += here.min(left).min(PIECE_BYTES / 8);
        }
        Ok(())
    }

    fn words(&self, during: Purpose, at: u64, count: u64) -> Result<Vec<u64>> {
        let mut bytes = vec![0; (count * 8) as usize];
        self.storage.read_zero_filled(at, &mut bytes).map_err(Error::storage(during))?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|word| u64::from_be_bytes(*word)).collect())
    }
}
