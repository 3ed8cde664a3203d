//! `PendingRead`: a read plan with what keeps it true while somebody else's I/O loop carries it
//! out.

use crate::error::Result;
use crate::image::Image;
use crate::pins::Pin;
use crate::plan::ReadPlan;

/// A read that is decided and under way.
///
/// As long as this lives, no host cluster that its plan names is handed out for anything else,
/// even if the guest overwrites or discards the range meanwhile. Drop it when the last byte has
/// been read, or the last read was cancelled and is over.
///
/// A read of a data run may be short where the file ends: [`Image::read_run`] then knows whether
/// zeros follow or a cluster is lost. It also reads the runs that are not data.
#[derive(Debug)]
#[must_use = "the plan may become wrong once this is dropped"]
pub struct PendingRead<'i> {
    plan: ReadPlan,
    _pin: Pin<'i>,
}

impl PendingRead<'_> {
    /// Where the bytes come from.
    #[must_use]
    pub fn plan(&self) -> &ReadPlan {
        &self.plan
    }
}

impl Image {
    /// Decides a read for callers with their own I/O loop; [`read_at`](Image::read_at) does it
    /// and the reading.
    ///
    /// # Errors
    /// As for [`plan_read`](Image::plan_read).
    pub fn begin_read(&self, offset: u64, len: u64) -> Result<PendingRead<'_>> {
        // The pin first: what is looked up afterwards stays protected.
        let pin = self.pins.pin();
        let plan = self.marking(self.plan_read(offset, len))?;
        Ok(PendingRead { plan, _pin: pin })
    }
}
