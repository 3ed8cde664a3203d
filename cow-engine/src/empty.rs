//! Emptying: an overlay whose content has gone to its backing file gives everything up.
//!
//! The opposite of a discard, after which the guest reads zeros: here entries become 0, and whatever
//! lies below shows. That is no change for the guest when both hold the same, as after a commit.

use crate::error::{Error, Purpose, Result};
use crate::image::Image;

impl Image {
    /// Gives up everything that the image maps, so that its backing file shows everywhere (zeros
    /// without one), and the host space with it. The state of a virtual machine that lies behind the
    /// disk goes, too; what internal snapshots use stays. Everything is durable afterwards.
    ///
    /// The order is that of every flush: entries become 0, then counts fall, then the file is cut
    /// behind the last cluster in use. A power cut in between leaves each guest cluster mapped as it
    /// was or not at all, and at worst clusters that are kept in vain. So the caller sees to it that
    /// the layer below holds, durably, what this one shows.
    ///
    /// # Errors
    /// The image is read-only, or its data file is a raw image of its own, which shows everything
    /// itself: nothing has changed then. Tables that contradict themselves mark the image corrupt.
    /// When the host fails, some of the disk may be given up and the rest not;
    /// call again after the image was opened anew.
    pub fn empty(&mut self) -> Result<()> {
        let emptied = self.give_everything_up();
        self.marking(emptied)
    }

    fn give_everything_up(&mut self) -> Result<()> {
        self.writer()?;
        if self.keeps_a_raw_image() {
            let allowed = "off in an image that is to be emptied";
            return Err(Error::Option { name: "data_file_raw", found: "on".into(), allowed });
        }
        self.flush_all()?;
        self.check_cut(0)?;
        // Nearly all of the file goes with its end.
        self.writer()?.allocator.hold_holes_back();
        let trimmed = self.cut(0).and_then(|()| self.trim_file());
        let len = self.storage.len().map_err(Error::storage(Purpose::Length));
        let punched = len.and_then(|len| self.writer()?.allocator.punch_held_holes(len));
        trimmed.and(punched)?;
        self.punch_whole_data_file();
        self.flush_all()
    }

    /// Nothing on disk points into the data file any more, unless a snapshot does. Space that the host
    /// does not take back is not worth an error.
    fn punch_whole_data_file(&self) {
        let Some(data) = &self.data_file else { return };
        if self.header.snapshot_count() == 0
            && let Ok(len) = data.storage.len()
            && len > 0
        {
            let _ = data.storage.punch_hole(0, len);
            self.note_data_written();
        }
    }
}
