//! Another backing file: what the header names changes as one, whatever happens in between.
//!
//! Which writes that takes is a value of the format crate, [`HeaderSwitch`]: the order in which the
//! pieces of cluster 0 become durable so that each state is the old header or the new one.

use qcow2_format::{AutoclearFeatures, BasePin, HeaderSwitch};

use crate::error::{Area, Error, Purpose, Result};
use crate::image::Image;
use crate::open::read_header;
use crate::options::BackingReference;

impl Image {
    /// Decides how the header comes to name another backing file, without carrying it out; `None` for
    /// none. `pin` is what the overlay shall remember of the new one; it is left out where cluster 0 has
    /// room for the name alone.
    ///
    /// Everything written before is flushed first.
    ///
    /// # Errors
    /// As for [`change_backing`](Image::change_backing).
    pub fn plan_backing_change(
        &mut self,
        to: Option<&BackingReference>,
        pin: Option<&BasePin>,
    ) -> Result<HeaderSwitch> {
        self.writer()?;
        self.check_backing_allowed(to)?;
        self.flush_all()?;
        // Memory knows the header as it was when the image was opened: the refcount table may have
        // moved since, and marks may have come and gone.
        let header = read_header(&*self.storage)?;
        let name = to.map(|to| to.name.as_bytes());
        let format = to.and_then(|to| to.format.as_deref()).map(str::as_bytes);
        match header.plan_backing_switch(name, format, pin) {
            // An image is worth more than the record in it.
            Err(qcow2_format::Error::HeaderSpace { .. }) if pin.is_some() => {
                Ok(header.plan_backing_switch(name, format, None)?)
            }
            planned => Ok(planned?),
        }
    }

    /// Whether the header, as it was when the image was opened, can name this backing file: the image may
    /// be open for reading alone.
    ///
    /// # Errors
    /// The names are too long or do not fit into cluster 0, or the data file is a raw image of its own.
    pub fn check_backing_change(&self, to: Option<&BackingReference>) -> Result<()> {
        self.check_backing_allowed(to)?;
        let name = to.map(|to| to.name.as_bytes());
        let format = to.and_then(|to| to.format.as_deref()).map(str::as_bytes);
        self.header.plan_backing_switch(name, format, None)?;
        Ok(())
    }

    /// Changes what the header says about the backing file: name, format, and what is remembered of
    /// it, together and durably. `None` says that there is none.
    ///
    /// A power cut leaves the old words or the new ones; [`HeaderSwitch::survives_power_cuts`] tells
    /// of the layouts in which cluster 0 has no room for that. Guest data is not touched, so the
    /// caller vouches for the new file showing, wherever the image owns nothing, what the old one
    /// showed. What answers there while the image is open stays what it was: open it again to
    /// read through the new one.
    ///
    /// # Errors
    /// The image is read-only, the names are too long or do not fit into cluster 0, or the data file is
    /// a raw image of its own, which allows no backing file: nothing has changed then. When the host
    /// fails, nobody knows which of the two it is, and the image is given up for writing.
    pub fn change_backing(
        &mut self,
        to: Option<&BackingReference>,
        pin: Option<&BasePin>,
    ) -> Result<()> {
        let changed = self.change_backing_as_planned(to, pin);
        self.marking(changed)
    }

    fn change_backing_as_planned(
        &mut self,
        to: Option<&BackingReference>,
        pin: Option<&BasePin>,
    ) -> Result<()> {
        let plan = self.plan_backing_change(to, pin)?;
        self.poison.guarding(|| self.write_switch(&plan))?;
        self.header = plan.into_header();
        Ok(())
    }

    fn write_switch(&self, plan: &HeaderSwitch) -> Result<()> {
        let writer = self.writer()?;
        for stage in plan.stages() {
            writer.map.guard_metadata(Area::Header, stage.offset, stage.bytes.len() as u64)?;
            self.storage
                .write_at(stage.offset.get(), &stage.bytes)
                .map_err(Error::storage(Purpose::Header))?;
            self.storage.sync().map_err(Error::storage(Purpose::Sync))?;
        }
        Ok(())
    }

    /// A raw data file shows everything itself: nothing below it could ever be seen.
    fn check_backing_allowed(&self, to: Option<&BackingReference>) -> Result<()> {
        let raw = self.header.features().autoclear.contains(AutoclearFeatures::RAW_EXTERNAL_DATA);
        match to {
            Some(to) if raw => Err(Error::Option {
                name: "backing_file",
                found: to.name.clone(),
                allowed: "none with data_file_raw",
            }),
            _ => Ok(()),
        }
    }
}
