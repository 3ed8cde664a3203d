//! What is allocated where, per byte: two lists of runs are the same when every byte is told
//! the same, wherever the lists are cut.

use testkit::Json;

/// A run of guest bytes with one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) answer: Answer,
}

/// What is said about each byte of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) depth: u64,
    pub(crate) present: bool,
    pub(crate) zero: bool,
    pub(crate) data: bool,
    pub(crate) compressed: bool,
    /// Host offset of the first byte of the run.
    pub(crate) offset: Option<u64>,
}

impl Run {
    /// The runs that `map --output=json` prints.
    pub(crate) fn of_json(map: &Json) -> Vec<Self> {
        let run = |run: &Json| Self {
            start: run["start"].as_u64().unwrap(),
            len: run["length"].as_u64().unwrap(),
            answer: Answer {
                depth: run["depth"].as_u64().unwrap(),
                present: run["present"].as_bool().unwrap(),
                zero: run["zero"].as_bool().unwrap(),
                data: run["data"].as_bool().unwrap(),
                compressed: run["compressed"].as_bool().unwrap(),
                offset: run["offset"].as_u64(),
            },
        };
        map.as_array().unwrap().iter().map(run).collect()
    }

    /// The runs of the library.
    pub(crate) fn of_chain(chain: &qimg::chain::Chain) -> Vec<Self> {
        let run = |extent: qimg::map::Extent| {
            let status = extent.status;
            let answer = Answer {
                depth: status.depth as u64,
                present: status.present,
                zero: status.zero,
                data: status.data,
                compressed: status.compressed,
                offset: status.host_offset,
            };
            Self { start: extent.start, len: status.len, answer }
        };
        qimg::map::map(chain, 0..u64::MAX).map(|extent| run(extent.unwrap())).collect()
    }

    const fn end(&self) -> u64 {
        self.start + self.len
    }

    /// What is said about the byte at `at`, which lies in the run.
    fn at(&self, at: u64) -> Answer {
        let offset = self.answer.offset.map(|offset| offset + (at - self.start));
        Answer { offset, ..self.answer }
    }
}

impl Answer {
    /// Whether this and `kept` are zeros of the image, here without host space, there with it.
    pub(crate) fn is_gone(self, kept: Self) -> bool {
        self.zero && !self.data && Self { offset: kept.offset, ..self } == kept
    }

    /// The same without what depends on the order in which host space was taken, and without
    /// what only the host knows: holes in what is reserved.
    pub(crate) fn shape(self) -> Self {
        Self { offset: self.offset.map(|_| 0), zero: self.zero && !self.data, ..self }
    }
}

/// The first byte about which two lists disagree, with both answers.
pub(crate) fn difference(first: &[Run], second: &[Run]) -> Option<(u64, Answer, Answer)> {
    difference_of(first, second, |_, one, two| one == two)
}

/// The first byte about which two lists say what is not the same.
pub(crate) fn difference_of(
    first: &[Run],
    second: &[Run],
    same: impl Fn(u64, Answer, Answer) -> bool,
) -> Option<(u64, Answer, Answer)> {
    let (mut a, mut b) = (first.iter().peekable(), second.iter().peekable());
    let mut at = 0;
    while let (Some(run), Some(other)) = (a.peek(), b.peek()) {
        assert!(run.start <= at && at < run.end(), "{run:?} does not follow at {at}");
        assert!(other.start <= at && at < other.end(), "{other:?} does not follow at {at}");
        let (one, two) = (run.at(at), other.at(at));
        if !same(at, one, two) {
            return Some((at, one, two));
        }
        at = run.end().min(other.end());
        a.next_if(|run| run.end() == at);
        b.next_if(|run| run.end() == at);
    }
    assert!(a.next().is_none() && b.next().is_none(), "one map ends at {at}, the other goes on");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Answer = Answer {
        depth: 0,
        present: true,
        zero: false,
        data: true,
        compressed: false,
        offset: Some(100),
    };

    const fn run(start: u64, len: u64, offset: u64) -> Run {
        Run { start, len, answer: Answer { offset: Some(offset), ..DATA } }
    }

    #[test]
    fn cuts_do_not_matter() {
        let whole = [run(0, 30, 100)];
        assert_eq!(difference(&whole, &[run(0, 10, 100), run(10, 20, 110)]), None);
    }

    #[test]
    fn the_first_byte_that_differs_is_named() {
        let found = difference(&[run(0, 30, 100)], &[run(0, 10, 100), run(10, 20, 111)]);
        let (at, one, two) = found.unwrap();
        assert_eq!((at, one.offset, two.offset), (10, Some(110), Some(111)));
    }

    #[test]
    #[should_panic(expected = "one map ends at 10")]
    fn both_cover_the_same_bytes() {
        let _ = difference(&[run(0, 10, 100)], &[run(0, 10, 100), run(10, 20, 110)]);
    }
}
