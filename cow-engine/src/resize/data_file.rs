//! The length of an external data file follows that of the disk.

use crate::error::{Error, Purpose, Result};
use crate::image::Image;

impl Image {
    /// Lets the data file end at `bytes`; where its length is fixed, makes it zeros from there to
    /// `zeros_to`.
    pub(super) fn cut_data_file(&self, bytes: u64, zeros_to: u64) -> Result<()> {
        let data = self.data_storage();
        data.set_len(bytes).map_err(Error::storage(Purpose::Data))?;
        let len = data.len().map_err(Error::storage(Purpose::Length))?.min(zeros_to);
        if len > bytes {
            data.write_zeroes_at(bytes, len - bytes).map_err(Error::storage(Purpose::Data))?;
        }
        self.poison.guard(data.sync().map_err(Error::storage(Purpose::Sync)))
    }

    /// Makes the data file `bytes` long; new bytes are zeros.
    pub(super) fn extend_data_file(&self, bytes: u64) -> Result<()> {
        let data = self.data_storage();
        data.set_len(bytes).map_err(Error::storage(Purpose::Data))?;
        self.poison.guard(data.sync().map_err(Error::storage(Purpose::Sync)))
    }
}
