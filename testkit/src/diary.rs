//! `Diary`: what was done to a disk, and therefore what each sector may show after a power cut.
//!
//! Changes may overlap in time, on several threads. Of changes that do, either may be the later one;
//! a change that began after another had ended replaces it. What had ended when a flush began is on
//! the disk when the flush has returned, or has been replaced; of everything else that had begun
//! when the power went, each sector shows the old bytes or the new ones, never a third thing.

/// What was done to a disk.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    /// Stamps at the beginning; sectors behind them hold zeros.
    start: Vec<u64>,
    /// What another view of the disk may show instead at the beginning.
    start_otherwise: Vec<u64>,
    start_size: usize,
    changes: Vec<Change>,
    resizes: Vec<Resize>,
    flushes: Vec<Flush>,
    clock: u64,
}

/// From when to when something was done.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Length of the log of the medium when it began.
    position: usize,
    begun: u64,
    /// `u64::MAX` while it is under way.
    ended: u64,
}

#[derive(Clone, Debug)]
struct Change {
    span: Span,
    first: usize,
    count: usize,
    stamp: u64,
    /// It is what a resize to so many sectors does, and happens with it.
    with_size: Option<usize>,
}

#[derive(Clone, Debug)]
struct Resize {
    span: Span,
    to: usize,
}

#[derive(Clone, Copy, Debug)]
struct Flush {
    begun: u64,
    /// Length of the log when it had returned.
    position: usize,
}

/// A change that is under way.
#[derive(Clone, Copy, Debug)]
#[must_use = "the change has to be ended"]
pub struct Begun(usize);

impl Diary {
    /// A disk with these stamps, all of them durable.
    #[must_use]
    pub fn new(start: Vec<u64>) -> Self {
        let start_size = start.len();
        Self { start, start_size, ..Self::default() }
    }

    /// The same deeds, as seen in another view of the disk, which began with these stamps: a power
    /// cut leaves two views of what was not flushed, one old and one new.
    #[must_use]
    pub fn seen_otherwise(&self, start: Vec<u64>) -> Self {
        Self { start_otherwise: start, ..self.clone() }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn span(&mut self, position: usize) -> Span {
        Span { position, begun: self.tick(), ended: u64::MAX }
    }

    /// A change of `count` sectors begins; `position` is the length of the medium's log.
    pub fn begin(&mut self, position: usize, first: usize, count: usize, stamp: u64) -> Begun {
        let span = self.span(position);
        self.changes.push(Change { span, first, count, stamp, with_size: None });
        Begun(self.changes.len() - 1)
    }

    /// It has ended.
    pub fn end(&mut self, change: Begun) {
        self.changes[change.0].span.ended = self.tick();
    }

    /// It was refused or given up, and has not happened at all.
    pub fn refused(&mut self, change: Begun) {
        self.changes[change.0].count = 0;
    }

    /// A flush begins: the value is for [`flushed`](Diary::flushed).
    pub fn flushing(&mut self) -> u64 {
        self.tick()
    }

    /// The flush that began at `begun` has returned, with a log of this length.
    pub fn flushed(&mut self, begun: u64, position: usize) {
        self.flushes.push(Flush { begun, position });
    }

    /// The disk is given another size, in sectors, by nobody beside others: `resize` does it, and
    /// returns the length of the log, or `None` when it was refused.
    pub fn resize(&mut self, position: usize, to: usize, resize: impl FnOnce() -> Option<usize>) {
        let size = self.size();
        let mut span = self.span(position);
        let Some(after) = resize() else { return };
        span.ended = self.tick();
        if to < size {
            let (first, count, with_size) = (to, size - to, Some(to));
            self.changes.push(Change { span, first, count, stamp: 0, with_size });
        }
        self.resizes.push(Resize { span, to });
        let begun = self.tick();
        self.flushed(begun, after);
    }

    /// The size, in sectors.
    #[must_use]
    pub fn size(&self) -> usize {
        self.resizes.last().map_or(self.start_size, |resize| resize.to)
    }

    /// Judges what a disk shows after a power cut at `position`.
    ///
    /// # Errors
    /// What should not be there.
    pub fn judge(&self, position: usize, found: &[u64]) -> Result<(), String> {
        self.allowed(position).judge(found)
    }

    /// What may be there after a power cut at `position`, to judge many states of it.
    #[must_use]
    pub fn allowed(&self, position: usize) -> Allowed {
        let flushes = self.flushes.iter().filter(|flush| flush.position <= position);
        self.allowed_at(position, flushes.map(|flush| flush.begun).max().unwrap_or(0))
    }

    /// What the disk may show at present, to whoever looks at it through the image.
    #[must_use]
    pub fn present(&self) -> Allowed {
        self.allowed_at(usize::MAX, u64::MAX)
    }

    /// What may be there when all is durable that had ended at a moment.
    fn allowed_at(&self, position: usize, durable: u64) -> Allowed {
        let begun = |span: &Span| span.position < position;
        let resizes = self.resizes.iter().filter(|resize| begun(&resize.span));
        let (kept, open): (Vec<&Resize>, Vec<&Resize>) =
            resizes.partition(|resize| resize.span.ended < durable);
        let kept_size = kept.last().map_or(self.start_size, |resize| resize.to);
        let mut sizes = vec![kept_size];
        sizes.extend(open.iter().map(|resize| resize.to));
        let changes: Vec<&Change> =
            self.changes.iter().filter(|change| begun(&change.span)).collect();
        let by_size = sizes.iter().map(|&size| (size, self.sectors(durable, &changes, size)));
        Allowed { by_size: by_size.collect() }
    }

    /// The stamps that each sector may have on a disk of this size.
    fn sectors(&self, durable: u64, changes: &[&Change], size: usize) -> Vec<Vec<u64>> {
        // When the change that replaces all others had begun, by sector; 0 is the beginning.
        let mut replaced = vec![0; size];
        let is_here = |change: &&&Change| {
            change.span.ended < durable || change.with_size.is_none_or(|to| to == size)
        };
        let part =
            |change: &Change| change.first.min(size)..(change.first + change.count).min(size);
        for change in changes.iter().filter(|change| change.span.ended < durable) {
            for begun in &mut replaced[part(change)] {
                *begun = change.span.begun.max(*begun);
            }
        }
        let start = |sector: usize| match replaced[sector] {
            0 => {
                let other = self.start_otherwise.get(sector).copied();
                let mut start = vec![self.start.get(sector).copied().unwrap_or(0)];
                start.extend(other.filter(|stamp| *stamp != start[0]));
                start
            }
            _ => Vec::new(),
        };
        let mut allowed: Vec<Vec<u64>> = (0..size).map(start).collect();
        for change in changes.iter().filter(is_here) {
            for sector in part(change) {
                if change.span.ended >= replaced[sector] {
                    allowed[sector].push(change.stamp);
                }
            }
        }
        allowed
    }
}

/// What may be there after a power cut at one moment.
#[derive(Clone, Debug)]
pub struct Allowed {
    by_size: Vec<(usize, Vec<Vec<u64>>)>,
}

impl Allowed {
    /// Judges the stamps that a disk shows.
    ///
    /// # Errors
    /// A size or a stamp that should not be there.
    pub fn judge(&self, found: &[u64]) -> Result<(), String> {
        let same = self.by_size.iter().find(|(size, _)| *size == found.len());
        let Some((_, allowed)) = same else {
            let sizes: Vec<_> = self.by_size.iter().map(|(size, _)| size).collect();
            return Err(format!("CE-1: {} sectors, allowed are {sizes:?}", found.len()));
        };
        for (sector, (stamp, allowed)) in found.iter().zip(allowed).enumerate() {
            if !allowed.contains(stamp) {
                let text = format!("CE-1: sector {sector} is {stamp:#x}, allowed are {allowed:x?}");
                return Err(text);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushed_changes_replace_what_was_before_and_others_may_be_there() {
        let mut diary = Diary::new(vec![1, 1]);
        let change = diary.begin(0, 0, 2, 5);
        diary.end(change);
        let flush = diary.flushing();
        let late = diary.begin(2, 1, 1, 6);
        diary.end(late);
        diary.flushed(flush, 4);
        // Before the flush has returned, anything that has begun may be there.
        assert_eq!(diary.judge(3, &[1, 6]), Ok(()));
        assert_eq!(diary.judge(3, &[5, 1]), Ok(()));
        assert!(diary.judge(2, &[1, 6]).is_err(), "not begun");
        // After it, what had ended before it began must be.
        assert_eq!(diary.judge(4, &[5, 6]), Ok(()));
        assert_eq!(diary.judge(4, &[5, 5]), Ok(()));
        assert!(diary.judge(4, &[1, 5]).unwrap_err().contains("sector 0 is 0x1, allowed are [5]"));
    }

    #[test]
    fn of_changes_at_the_same_time_either_is_the_later_one() {
        let mut diary = Diary::new(vec![1]);
        let one = diary.begin(0, 0, 1, 5);
        let other = diary.begin(0, 0, 1, 6);
        diary.end(other);
        diary.end(one);
        let flush = diary.flushing();
        diary.flushed(flush, 3);
        assert_eq!(diary.judge(3, &[5]), Ok(()));
        assert_eq!(diary.judge(3, &[6]), Ok(()));
        assert!(diary.judge(3, &[1]).is_err());
    }

    #[test]
    fn a_disk_that_is_cut_is_the_old_one_or_the_new_one() {
        let mut diary = Diary::new(vec![1, 2]);
        diary.resize(0, 1, || Some(4));
        assert_eq!(diary.judge(2, &[1, 2]), Ok(()));
        assert_eq!(diary.judge(2, &[1]), Ok(()));
        assert!(diary.judge(2, &[1, 0]).is_err(), "the old disk with a hole");
        assert!(diary.judge(4, &[1, 2]).is_err(), "it was durable");
        diary.resize(4, 3, || Some(6));
        assert_eq!(diary.judge(6, &[1, 0, 0]), Ok(()));
        assert!(diary.judge(6, &[1, 2, 0]).is_err(), "what was cut comes back");
        diary.resize(6, 9, || None);
        assert_eq!(diary.size(), 3);
    }
}
