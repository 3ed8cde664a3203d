//! Random reads of 4 KiB: what a read costs at each depth, with the index and without.

use std::path::Path;
use std::time::Instant;

use qimg::chain::{Chain, Format, OpenOptions};

use super::DEPTHS;
use super::layers::{DATA, path};
use crate::failure::{Failure, Outcome};
use crate::work::Offsets;

const BLOCK: u64 = 4096;

/// Rounds are short and many, in turns: what disturbs one depth disturbs the next one as well.
const ROUNDS: usize = 41;
const READS: usize = 4000;

/// Without the index deep chains take long.
const WALK_ROUNDS: usize = 5;
const WALK_READS: usize = 400;

/// Seconds per read, round by round.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) depth: usize,
    pub(super) index: Vec<f64>,
    /// Every layer asked, every time.
    pub(super) walk: Vec<f64>,
}

pub(super) fn measure(folder: &Path) -> Outcome<Vec<Row>> {
    let index = rounds(folder, OpenOptions::new(), ROUNDS, READS)?;
    let walk = rounds(folder, OpenOptions::new().chain_index_bytes(0), WALK_ROUNDS, WALK_READS)?;
    let both = DEPTHS.into_iter().zip(index).zip(walk);
    Ok(both.map(|((depth, index), walk)| Row { depth, index, walk }).collect())
}

/// The rounds of every depth, all of them open and warm.
fn rounds(
    folder: &Path,
    options: OpenOptions,
    rounds: usize,
    reads: usize,
) -> Outcome<Vec<Vec<f64>>> {
    let mut chains = Vec::new();
    for depth in DEPTHS {
        let chain = open(&path(folder, depth), options.clone())?;
        warm(&chain)?;
        chains.push(chain);
    }
    let mut seconds = vec![Vec::new(); chains.len()];
    for round in 0..rounds {
        for turn in 0..chains.len() {
            let index = (turn + round) % chains.len();
            let mut offsets = Offsets::new(round as u64);
            let mut buf = vec![0; BLOCK as usize];
            let start = Instant::now();
            for _ in 0..reads {
                read(&chains[index], offsets.below(DATA / BLOCK) * BLOCK, &mut buf)?;
            }
            seconds[index].push(start.elapsed().as_secs_f64() / reads as f64);
        }
    }
    Ok(seconds)
}

pub(super) fn open(path: &Path, options: OpenOptions) -> Outcome<Chain> {
    let options = options.format(Format::Qcow2).read_only(true);
    Chain::open(path, &options).map_err(failed)
}

/// Everything that is read later, once.
pub(super) fn warm(chain: &Chain) -> Outcome {
    let mut buf = vec![0; 1 << 20];
    (0..DATA).step_by(buf.len()).try_for_each(|offset| read(chain, offset, &mut buf))
}

/// A read whose bytes must say where they belong.
pub(super) fn read(chain: &Chain, offset: u64, buf: &mut [u8]) -> Outcome {
    chain.read_at(offset, buf).map_err(failed)?;
    let stamp = (offset / BLOCK + 1).to_le_bytes();
    match buf.starts_with(&stamp) {
        true => Ok(()),
        false => {
            Err(Failure::Wrong { name: "qimg", what: format!("bytes at {offset:#x} are others") })
        }
    }
}

fn failed(error: qimg::chain::Error) -> Failure {
    Failure::of("qimg")(&error)
}
