//! One state after a power cut: the fate of every pending change, and the bytes it leaves.

use core::fmt::Write as _;

use block_io::{MemoryStorage, Storage as _};

use super::{Event, SECTOR_BYTES};
use crate::rng::mix;

/// What became of a pending change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It reached the medium.
    Applied,
    /// It did not.
    Dropped,
    /// Some of its sectors reached the medium.
    Torn(Tear),
    /// The end of the object moved as far as the change reaches, and none of the bytes arrived.
    Hollow,
}

/// Which sectors of a torn change reached the medium. Sectors are those of the object, so a
/// change that starts within a sector has a partial first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tear {
    /// The first ones.
    Head {
        /// How many.
        sectors: u64,
    },
    /// All but the first ones.
    Tail {
        /// How many did not.
        lost: u64,
    },
    /// About half of them, anywhere.
    Scattered {
        /// Chooses which.
        seed: u64,
    },
}

impl Tear {
    fn keeps(self, sector: u64) -> bool {
        match self {
            Self::Head { sectors } => sector < sectors,
            Self::Tail { lost } => sector >= lost,
            Self::Scattered { seed } => mix(seed ^ mix(sector)) & 1 == 0,
        }
    }
}

/// One possible outcome of a power cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CrashState {
    /// Position in the log up to which everything is durable.
    pub durable: usize,
    /// Position in the log at which the power went: what was promised before must be there.
    pub cut: usize,
    /// What became of the events between the two positions.
    pub fates: Vec<Fate>,
}

/// A power cut: what is durable and which changes are pending.
#[derive(Clone, Debug)]
pub struct Epoch<'a> {
    pub(super) durable: usize,
    pub(super) base: MemoryStorage,
    pub(super) pending: &'a [Event],
}

impl Epoch<'_> {
    /// Position in the log up to which everything is durable.
    #[must_use]
    pub fn durable(&self) -> usize {
        self.durable
    }

    /// Position in the log at which the power goes.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.durable + self.pending.len()
    }

    /// The changes that may or may not have reached the medium.
    #[must_use]
    pub fn pending(&self) -> &[Event] {
        self.pending
    }

    /// The state in which every pending change has the fate that is given for it.
    ///
    /// # Panics
    /// There are more or fewer fates than pending changes.
    #[must_use]
    pub fn state(&self, fates: Vec<Fate>) -> CrashState {
        assert!(fates.len() == self.pending.len(), "every pending change needs a fate");
        CrashState { durable: self.durable, cut: self.cut(), fates }
    }

    /// What the medium holds in that state.
    #[must_use]
    pub fn materialise(&self, state: &CrashState) -> MemoryStorage {
        let storage = self.base.clone();
        for (event, &fate) in self.pending.iter().zip(&state.fates) {
            apply(&storage, event, fate);
        }
        storage
    }

    /// The state in words: position, change and fate, one line each.
    #[must_use]
    pub fn describe(&self, state: &CrashState) -> String {
        let mut text = format!("{} events are durable", self.durable);
        for (index, (event, fate)) in self.pending.iter().zip(&state.fates).enumerate() {
            let _ = write!(text, "\n  {} {event}: {fate:?}", self.durable + index);
        }
        text
    }
}

/// How many sectors a change touches; 0 where it cannot be torn at all.
pub(super) fn sector_count(event: &Event) -> u64 {
    event
        .range()
        .map_or(0, |(offset, len)| (offset + len).div_ceil(SECTOR_BYTES) - offset / SECTOR_BYTES)
}

/// Lets an event happen to `storage` as far as its fate goes.
pub(super) fn apply(storage: &MemoryStorage, event: &Event, fate: Fate) {
    let tear = match fate {
        Fate::Dropped => return,
        Fate::Hollow => return hollow(storage, event),
        Fate::Applied => None,
        Fate::Torn(tear) => Some(tear),
    };
    let Some((offset, len)) = event.range() else {
        match *event {
            Event::SetLen { len } => storage.set_len(len).unwrap(),
            Event::Allocate { offset, len } => storage.allocate(offset, len).unwrap(),
            _ => {}
        }
        return;
    };
    let Some(tear) = tear else {
        return apply_part(storage, event, offset, len);
    };
    let first = offset / SECTOR_BYTES;
    for sector in (0..sector_count(event)).filter(|&sector| tear.keeps(sector)) {
        let start = ((first + sector) * SECTOR_BYTES).max(offset);
        let end = ((first + sector + 1) * SECTOR_BYTES).min(offset + len);
        apply_part(storage, event, start, end - start);
    }
}

/// Moves the end as a change does, and nothing else.
fn hollow(storage: &MemoryStorage, event: &Event) {
    let end = event.range().map_or(0, |(offset, len)| offset + len);
    if storage.len().unwrap() < end {
        storage.set_len(end).unwrap();
    }
}

/// Does the part of a change that lies in the range, which is within the change.
fn apply_part(storage: &MemoryStorage, event: &Event, start: u64, len: u64) {
    match event {
        Event::Write { offset, bytes } => {
            let from = (start - offset) as usize;
            storage.write_at(start, &bytes[from..from + len as usize]).unwrap();
        }
        Event::WriteZeroes { .. } => storage.write_zeroes_at(start, len).unwrap(),
        Event::PunchHole { .. } => {
            storage.punch_hole(start, len).unwrap();
        }
        Event::Allocate { .. } | Event::SetLen { .. } | Event::Sync => {}
    }
}
