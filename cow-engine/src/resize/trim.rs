//! Trimming: the file ends behind the last host cluster in use.

use qcow2_format::HostCluster;

use crate::error::{Error, Purpose, Result};
use crate::image::Image;

impl Image {
    /// Gives back what lies behind the last host cluster in use.
    pub(crate) fn trim_file(&self) -> Result<()> {
        let writer = self.writer()?;
        let end: HostCluster = writer.allocator.drop_unused_blocks(&writer.map)?;
        self.flush_all()?;
        // Counts that call a table free would have it cut off.
        self.marking(writer.map.guard_end(end))?;
        let end = end.get().saturating_mul(self.geometry().cluster_bytes());
        let len = self.storage.len().map_err(Error::storage(Purpose::Length))?;
        // Space that the host does not take back is not worth an error.
        if end < len && self.storage.set_len(end).is_ok() {
            self.poison.guard(self.storage.sync().map_err(Error::storage(Purpose::Sync)))?;
            let len = self.storage.len().map_err(Error::storage(Purpose::Length))?;
            writer.allocator.file_ends_at(len);
        }
        Ok(())
    }
}
