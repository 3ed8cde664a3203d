//! Eight threads that do anything to one image, and stop now and then for a snapshot point: the image is
//! flushed, its files are copied, and the copy shows what was flushed while the threads go on.
//! `QIMG_STRESS_SECONDS` says for how long, in all.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use block_io::MemoryStorage;
use cow_engine::Preallocation;
use testkit::Rng;
use testkit::stamps::{ZERO, stamps};

use crate::census;
use crate::chronicle::Chronicle;
use crate::contention::Arena;
use crate::images;
use crate::kinds::{Data, Kind, Media};
use crate::stamps::SECTOR;

const THREADS: u64 = 8;
/// Steps of each thread from one snapshot point to the next.
const STEPS: u64 = 60;
/// Snapshot points when nothing is said.
const POINTS: usize = 6;

/// The kinds, by turns.
fn kinds() -> [Kind; 8] {
    [
        Kind::standard(64 << 10, 12),
        Kind::standard((20 << 10) + 512, 9).lazy(),
        Kind { l2_cache_bytes: 1 << 20, ..Kind::standard(64 << 10, 10) },
        Kind::extended(4 << 14, 14),
        Kind { preallocation: Preallocation::Metadata, ..Kind::extended(4 << 14, 14).lazy() },
        Kind::standard(48 << 10, 12).with_data(Data::Outside).lazy(),
        Kind::standard(48 << 10, 12).with_data(Data::Raw),
        // 96 tables of which a few fit into memory.
        Kind::standard(96 * 64 * 512, 9).width(5),
    ]
}

/// How long each kind may take.
fn time() -> Option<Duration> {
    let seconds = std::env::var("QIMG_STRESS_SECONDS").ok()?;
    Some(Duration::from_secs_f64(seconds.parse::<f64>().unwrap() / kinds().len() as f64))
}

/// What the next session would see in a copy of the files.
fn judge_copy(copy: &Media<MemoryStorage>, chronicle: &Chronicle, begun: u64) {
    assert_eq!(census::take(&*copy.image).complaint(), None);
    let content = images::read_all(&copy.open_read_only(None).unwrap());
    chronicle.check(0, &stamps(&content, 0).unwrap(), begun);
}

fn stress(kind: Kind, rng: &mut Rng, time: Option<Duration>) {
    eprintln!("{kind:?}");
    let media = kind.memory();
    let image = kind.open(&media, None);
    let chronicle = Chronicle::new(&vec![ZERO; kind.size as usize / SECTOR]);
    let arena = Arena { kind, image: &image, chronicle: &chronicle };
    let (begun, done) = (Instant::now(), AtomicBool::new(false));
    // Between two meetings everybody but the first thread stands still.
    let meeting = Barrier::new(THREADS as usize + 1);
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            let (arena, meeting, done, mut rng) = (&arena, &meeting, &done, rng.fork());
            scope.spawn(move || {
                let mut stamp = thread;
                while !done.load(Ordering::Relaxed) {
                    // A failure must not leave the others waiting.
                    let work = || {
                        for _ in 0..STEPS {
                            arena.step(&mut rng, stamp);
                            stamp += THREADS;
                        }
                    };
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                    if outcome.is_err() {
                        eprintln!("a thread has failed");
                        std::process::abort();
                    }
                    meeting.wait();
                    meeting.wait();
                }
            });
        }
        for point in 1.. {
            meeting.wait();
            let moment = chronicle.now();
            image.flush().unwrap();
            chronicle.forget_the_past();
            let copy = media.wrapped(|file| (**file).clone());
            let over = time.map_or(point == POINTS, |time| begun.elapsed() >= time);
            done.store(over, Ordering::Relaxed);
            meeting.wait();
            judge_copy(&copy, &chronicle, moment);
            if over {
                break;
            }
        }
    });
    let end = chronicle.now();
    image.close().unwrap();
    census::assert_clean(&*media.image);
    judge_copy(&media, &chronicle, end);
}

#[test]
fn every_snapshot_point_holds_what_was_flushed() {
    let mut rng = Rng::announced(0x8_57e55);
    for kind in kinds() {
        stress(kind, &mut rng, time());
    }
}
