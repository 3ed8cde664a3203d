//! `HeaderSwitch`: another backing file for an image that has one, in writes that a power cut cannot
//! turn into a mix of both.
//!
//! A medium writes a sector of 512 bytes whole or not at all, and the first sector holds all fields
//! of the header. So everything that the new header refers to behind that sector is written first,
//! where the old one refers to nothing; then the first sector changes in one write. Where both
//! headers need the same place (they hold different things there, or the table of feature names
//! would have to move), a header comes in between that says the same as the old one and fits into
//! the first sector, but for its name.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::encode::encode_structured;
use super::{Backing, Header};
use crate::base_pin::BasePin;
use crate::error::Error;
use crate::extension::{BASE_PIN, Extension, Placed};
use crate::limit::SECTOR_BYTES;
use crate::unit::HostOffset;

/// Bytes that change together, whatever happens.
const SECTOR: usize = SECTOR_BYTES as usize;

/// What is written to cluster 0 so that an image has another backing file, in stages with a sync
/// after each.
///
/// Whatever part of a stage has reached the medium when the power goes, cluster 0 is a header that
/// says either what the old one says or what the new one says; see
/// [`survives_power_cuts`](HeaderSwitch::survives_power_cuts) for the one exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSwitch {
    from: Header,
    to: Header,
    stages: Vec<SwitchStage>,
    survives_power_cuts: bool,
}

/// One write to cluster 0, durable before the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchStage {
    /// What the stage achieves.
    pub name: &'static str,
    /// Where the bytes go in the image file.
    pub offset: HostOffset,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl HeaderSwitch {
    /// The header before.
    #[must_use]
    pub const fn from(&self) -> &Header {
        &self.from
    }

    /// The header after the last stage.
    #[must_use]
    pub const fn to(&self) -> &Header {
        &self.to
    }

    /// The header after the last stage.
    #[must_use]
    pub fn into_header(self) -> Header {
        self.to
    }

    /// The writes, in order; none when nothing changes.
    #[must_use]
    pub fn stages(&self) -> &[SwitchStage] {
        &self.stages
    }

    /// Whether every power cut leaves the old backing file or the new one. Only where cluster 0 has no
    /// room for both names beside each other (long names in clusters of 1 or 2 KiB), or extensions
    /// fill the first sector, the last stage is one write of several sectors, as other programs do it,
    /// and a medium that tears it leaves neither.
    #[must_use]
    pub const fn survives_power_cuts(&self) -> bool {
        self.survives_power_cuts
    }
}

impl Header {
    /// Plans the change of the backing file, its format and what is remembered of it, for a cluster 0
    /// that holds just this header. Everything else stays; a new name need not lie right behind the
    /// extensions.
    ///
    /// # Errors
    /// As for [`Header::with_backing`].
    pub fn plan_backing_switch(
        &self,
        name: Option<&[u8]>,
        format: Option<&[u8]>,
        pin: Option<&BasePin>,
    ) -> Result<HeaderSwitch, Error> {
        let canonical = self.with_pinned_backing(name, format, pin)?;
        let name = name.unwrap_or(&[]);
        let in_place = self.with_backing_in_place(&canonical);
        for layout in [Some(&canonical), in_place.as_ref()].into_iter().flatten() {
            if let Some(steps) = self.route_to(layout, name) {
                return Ok(self.switch_over(&steps));
            }
        }
        let free = canonical.placing(name, &self.far(), None);
        Ok(self.switch_at_once(free.as_ref().unwrap_or(&canonical)))
    }

    /// The same extensions at the same places, with those of the new backing file in them; `None`
    /// where they have other lengths.
    fn with_backing_in_place(&self, wanted: &Self) -> Option<Self> {
        let belongs = |placed: &&Placed| {
            matches!(placed.extension, Extension::BackingFormat(_))
                || placed.extension.magic() == BASE_PIN
        };
        let mut header = self.clone();
        let mut new = wanted.extensions.iter().filter(belongs);
        for placed in header.extensions.iter_mut().filter(|placed| belongs(&&**placed)) {
            let new = new.next().filter(|new| new.bytes() == placed.bytes())?;
            *placed = new.clone();
        }
        // Without an end marker the area ends at the name, which then could not move.
        (new.next().is_none() && header.end_marker.is_some()).then_some(header)
    }

    /// The headers through which one comes from this one to `wanted` with a name at some place, such
    /// that each step is safe.
    fn route_to(&self, wanted: &Self, name: &[u8]) -> Option<Vec<Self>> {
        let present =
            usize::try_from(self.backing.offset).ok().filter(|_| name == self.backing.name);
        let staying = present.and_then(|_| wanted.placing(name, &[], present));
        let moving = wanted.placing(name, &self.far(), None);
        let mut direct = [staying, moving].into_iter().flatten();
        if let Some(new) = direct.find(|new| self.leads_safely_to(new)) {
            return Some(vec![new]);
        }
        let between = self.first_sector_only(wanted)?;
        let new = wanted.placing(name, &between.far(), None)?;
        let safe = self.leads_safely_to(&between) && between.leads_safely_to(&new);
        safe.then(|| vec![between, new])
    }

    /// A header that says the same as this one, but that its extensions end in the first sector: names
    /// of feature bits are for people only, and can wait. Its name is not in the way of `wanted`.
    fn first_sector_only(&self, wanted: &Self) -> Option<Self> {
        let mut header = self.rewritten().ok()?;
        header.extensions.retain(|placed| !matches!(placed.extension, Extension::FeatureNames(_)));
        if encode_structured(&header).len() > SECTOR {
            return None;
        }
        let mut taken = self.far();
        taken.push(SECTOR..encode_structured(wanted).len());
        let present = usize::try_from(self.backing.offset).ok();
        header.placing(&self.backing.name, &taken, present)
    }

    /// This header with a name where nothing else lies, and behind the first sector not where
    /// `taken` says; `present` is where the same name lies already.
    pub(super) fn placing(
        &self,
        name: &[u8],
        taken: &[Range<usize>],
        present: Option<usize>,
    ) -> Option<Self> {
        let mut header = Self { rest: Vec::new(), backing: Backing::default(), ..self.clone() };
        if name.is_empty() {
            return Some(header);
        }
        let start = encode_structured(&header).len();
        let cluster = usize::try_from(self.geometry.cluster_bytes()).unwrap_or(usize::MAX);
        let range = |at: usize| at..at.saturating_add(name.len());
        let wanted = |range: &Range<usize>| taken.last().is_none_or(|wanted| !meet(wanted, range));
        let is_free = |range: &Range<usize>| {
            let behind = range.start.max(SECTOR)..range.end;
            taken.iter().all(|taken| !meet(taken, &behind))
        };
        let fits = |range: &Range<usize>| range.start >= start && range.end <= cluster;
        // Where the name lies already it can stay, unless something else is to lie there.
        let stays = present.map(range).filter(|range| fits(range) && wanted(range));
        let ends = taken.iter().map(|taken| taken.end.max(start));
        let mut places = core::iter::once(start).chain(ends).map(range);
        let place = stays.or_else(|| places.find(|range| fits(range) && is_free(range)))?;
        header.rest.resize(place.start.saturating_sub(start), 0);
        header.rest.extend_from_slice(name);
        let size = u32::try_from(name.len()).unwrap_or(u32::MAX);
        header.backing = Backing { offset: place.start as u64, size, name: name.to_vec() };
        Some(header)
    }

    /// What this header refers to behind the first sector: extensions, and the name.
    fn far(&self) -> Vec<Range<usize>> {
        let at = usize::try_from(self.backing.offset).unwrap_or(usize::MAX);
        let name = match at {
            0 => 0..0,
            at => at.max(SECTOR)..at.saturating_add(self.backing.size as usize),
        };
        let ranges = [SECTOR..encode_structured(self).len(), name];
        ranges.into_iter().filter(|range| !range.is_empty()).collect()
    }

    /// Whether all that `next` refers to behind the first sector can be there while this header is
    /// still in force.
    fn leads_safely_to(&self, next: &Self) -> bool {
        let (mine, others) = (self.encode(), next.encode());
        let needs = next.far();
        self.far().into_iter().flatten().all(|at| {
            !needs.iter().any(|range| range.contains(&at)) || mine.get(at) == others.get(at)
        })
    }

    fn switch_over(&self, steps: &[Self]) -> HeaderSwitch {
        let mut stages = Stages::new(self);
        let mut before = self;
        for (number, next) in steps.iter().enumerate() {
            let is_last = number.saturating_add(1) == steps.len();
            let name = match is_last {
                true => "the first sector refers to it",
                false => "the first sector says the same, without names of features",
            };
            stages.refer_later(before, next);
            stages.write(0, SECTOR, &next.encode(), name);
            before = next;
        }
        let end = stages.cluster.len();
        stages.write(SECTOR, end, &before.encode(), "what it no longer refers to is cleared");
        stages.finish(self, before, true)
    }

    /// The name where it does no harm, then all the rest in one write.
    fn switch_at_once(&self, next: &Self) -> HeaderSwitch {
        let mut stages = Stages::new(self);
        stages.refer_later(self, next);
        let end = stages.cluster.len();
        let name = "all the rest in one write, which a power cut may tear";
        stages.write(0, end, &next.encode(), name);
        stages.finish(self, next, false)
    }
}

/// Cluster 0 as it becomes, stage by stage.
struct Stages {
    cluster: Vec<u8>,
    stages: Vec<SwitchStage>,
}

impl Stages {
    fn new(header: &Header) -> Self {
        Self { cluster: header.encode(), stages: Vec::new() }
    }

    /// Everything behind the first sector as `next` has it, but for what `before` refers to.
    fn refer_later(&mut self, before: &Header, next: &Header) {
        let mut bytes = next.encode();
        for at in before.far().into_iter().flatten() {
            if let (Some(to), Some(from)) = (bytes.get_mut(at), self.cluster.get(at)) {
                *to = *from;
            }
        }
        let end = bytes.len();
        self.write(SECTOR, end, &bytes, "what the first sector will refer to");
    }

    /// One write of what differs from `bytes` between two places, if anything does. Of the first
    /// sector all of it: a medium that reads, changes and writes has nothing to read then.
    fn write(&mut self, start: usize, end: usize, bytes: &[u8], name: &'static str) {
        let differs = |at: &usize| self.cluster.get(*at) != bytes.get(*at);
        let end = end.min(self.cluster.len());
        let Some(first) = (start..end).find(differs) else { return };
        let last = (start..end).rev().find(differs).unwrap_or(first);
        let (first, last) = match first < SECTOR {
            true => (0, last.max(SECTOR.saturating_sub(1))),
            false => (first, last),
        };
        let changed = first..last.saturating_add(1);
        if let (Some(to), Some(from)) =
            (self.cluster.get_mut(changed.clone()), bytes.get(changed.clone()))
        {
            to.copy_from_slice(from);
            let offset = HostOffset::new(changed.start as u64);
            self.stages.push(SwitchStage { name, offset, bytes: from.to_vec() });
        }
    }

    fn finish(self, from: &Header, to: &Header, survives_power_cuts: bool) -> HeaderSwitch {
        debug_assert!(self.cluster == to.encode(), "the stages add up to the new header");
        let (from, to) = (from.clone(), to.clone());
        HeaderSwitch { from, to, stages: self.stages, survives_power_cuts }
    }
}

fn meet(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start.max(other.start) < one.end.min(other.end)
}

impl fmt::Display for HeaderSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (Named(&self.from), Named(&self.to));
        write!(f, "switch the backing file from {from} to {to}")?;
        for (number, stage) in self.stages.iter().enumerate() {
            let (number, len) = (number.saturating_add(1), stage.bytes.len());
            let SwitchStage { name, offset, .. } = stage;
            write!(f, "\n  stage {number} {name}\n    write header {offset}+{len:#x}\n    sync")?;
        }
        Ok(())
    }
}

/// The backing file of a header in words.
struct Named<'h>(&'h Header);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = self.0.backing_name() else { return f.write_str("none") };
        f.write_str("\"")?;
        write!(f, "{}\"", name.escape_ascii())?;
        match self.0.backing_format() {
            Some(format) => write!(f, " ({})", format.escape_ascii()),
            None => f.write_str(" (no format)"),
        }
    }
}
