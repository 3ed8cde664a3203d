//! The cases: one row of the table each.

use crate::media::Medium;
use crate::work::{Direction, Pattern, Work};

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) medium: Medium,
    pub(crate) work: Work,
    pub(crate) rounds: usize,
}

impl Case {
    /// Whether everybody can work on the same files in turns, again and again.
    pub(crate) fn stays_open(&self) -> bool {
        let random = self.work.pattern == Pattern::Random && self.work.flush_every.is_none();
        self.medium.is_full() && random
    }
}

const KIB4: usize = 4096;
const MIB: usize = 1 << 20;
/// In the middle of a cluster, so that there are old bytes on both sides.
const INSIDE: u64 = 32 << 10;

fn case(name: &str, medium: Medium, work: Work, rounds: usize) -> Case {
    let mut name = name.to_owned();
    if medium.is_extended() {
        name.push_str(", extended L2");
    }
    if let Some(every) = work.flush_every {
        name.push_str(&format!(", flush every {every}"));
    }
    if work.threads > 1 {
        name.push_str(&format!(", {} threads", work.threads));
    }
    Case { name, medium, work, rounds }
}

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Case> {
    use Direction::{Read, Write};
    let work = |direction, pattern, block, requests, threads, flush_every| Work {
        direction,
        pattern,
        block,
        requests,
        threads,
        flush_every,
    };
    let mut cases = Vec::new();
    for medium in [Medium::Full, Medium::FullExtended] {
        for (name, direction) in [("random read 4k", Read), ("random overwrite 4k", Write)] {
            for threads in [1, 2] {
                let work = work(direction, Pattern::Random, KIB4, 8_000 * threads, threads, None);
                cases.push(case(name, medium, work, 61));
            }
        }
    }
    for threads in [1, 2] {
        let work = work(Write, Pattern::Random, KIB4, 512 * threads, threads, Some(64));
        cases.push(case("random overwrite 4k", Medium::Full, work, 5));
    }
    let new = [Medium::Empty, Medium::EmptyExtended, Medium::OverFull, Medium::OverFullExtended];
    for medium in new {
        let name = match medium {
            Medium::Empty | Medium::EmptyExtended => "first write 4k, empty",
            _ => "first write 4k, over full backing",
        };
        let shuffled = Pattern::ClustersShuffled { skip: INSIDE };
        for threads in [1, 2] {
            let work = work(Write, shuffled, KIB4, 1024 * threads, threads, None);
            cases.push(case(&format!("{name}, shuffled"), medium, work, 9));
        }
        let ascending = Pattern::Clusters { skip: INSIDE };
        cases.push(case(name, medium, work(Write, ascending, KIB4, 2048, 1, None), 9));
        cases.push(case(name, medium, work(Write, ascending, KIB4, 512, 1, Some(64)), 5));
        let flushed = work(Write, shuffled, KIB4, 512 * 2, 2, Some(64));
        cases.push(case(&format!("{name}, shuffled"), medium, flushed, 5));
    }
    for (name, direction) in [("sequential read 1m", Read), ("sequential overwrite 1m", Write)] {
        for threads in [1, 2] {
            let work = work(direction, Pattern::Sequential, MIB, 512, threads, None);
            cases.push(case(name, Medium::Full, work, 7));
        }
    }
    let filling = work(Write, Pattern::Sequential, MIB, 64, 1, None);
    cases.push(case("sequential first write 1m", Medium::Empty, filling, 11));
    cases
}
