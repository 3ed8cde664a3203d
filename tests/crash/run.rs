//! The runs: a short one over every kind of image, and one for as long as somebody asks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::{LostSync, Rng, number_from};

use super::caught::caught;
use super::life::{Effort, live, live_as};
use super::recipe::{Hands, Recipe, TRAITS};
use super::totals::{DEEDS, Totals};

/// Seconds for which histories are lived; the variable of `cargo xtask crash --seconds`.
const SECONDS_VARIABLE: &str = "QIMG_CRASH_SECONDS";
/// Seed of one history to be repeated; the variable of `cargo xtask crash --seed`.
const SEED_VARIABLE: &str = "QIMG_CRASH_SEED";
/// How often a history of several threads is repeated: not every time they take the same turns.
const TURNS: usize = 100;

/// Lives a history; a panic on the way is a failure like any other.
fn attempt(seed: u64, effort: &Effort, totals: &mut Totals) -> Result<(), String> {
    let mut outcome = Ok(());
    let lived = caught(|| outcome = live(seed, effort, totals));
    lived.and(outcome).map_err(|text| {
        let again = match effort.is_long {
            true => format!("`cargo xtask crash --seed {seed:#x}` plays it again"),
            false => "this test plays it every time".to_owned(),
        };
        format!("seed {seed:#x}, {again}\n{text}")
    })
}

#[test]
fn every_kind_of_image_survives_power_cuts() {
    let mut rng = Rng::new(0xc4a5_0001);
    let mut totals = Totals::default();
    let missing = |totals: &Totals| TRAITS.iter().find(|name| !totals.has(name)).copied();
    for _ in 0..100_000 {
        let seed = rng.next_u64();
        let traits = Recipe::random(&mut Rng::new(seed)).traits();
        if traits.iter().all(|name| totals.has(name)) {
            continue;
        }
        attempt(seed, &Effort::SHORT, &mut totals).unwrap_or_else(|text| panic!("{text}"));
        if missing(&totals).is_none() {
            break;
        }
    }
    assert_eq!(missing(&totals), None);
    assert_eq!(DEEDS.iter().find(|name| !totals.has_deed(name)), None, "{totals}");
    assert!(totals.states > 1000 && totals.reference > 0 && totals.went_on > 0, "{totals}");
    eprintln!("{totals}");
}

#[test]
fn as_long_as_asked() {
    let started = Instant::now();
    let mut totals = if let Some(seed) = number_from(SEED_VARIABLE) {
        again(seed)
    } else if let Some(seconds) = number_from(SECONDS_VARIABLE) {
        until(started + Duration::from_secs(seconds))
    } else {
        let mut totals = Totals::default();
        let mut rng = Rng::new(0xc4a5_0002);
        for _ in 0..3 {
            let lived = attempt(rng.next_u64(), &Effort::SHORT, &mut totals);
            lived.unwrap_or_else(|text| panic!("{text}"));
        }
        totals
    };
    totals.elapsed = started.elapsed();
    println!("{totals}");
}

/// One history again; one of several threads until they take the turns that failed.
fn again(seed: u64) -> Totals {
    let hands = Recipe::random(&mut Rng::new(seed)).hands;
    let mut totals = Totals::default();
    for _ in 0..if hands == Hands::Several { TURNS } else { 1 } {
        attempt(seed, &Effort::LONG, &mut totals).unwrap_or_else(|text| panic!("{text}"));
    }
    totals
}

/// Histories until the time is over, on every core; the first one that fails ends them all.
fn until(end: Instant) -> Totals {
    let totals = Mutex::new(Totals::default());
    let failed = AtomicBool::new(false);
    let start = Rng::of_now().next_u64();
    println!("seeds from {start:#x} on");
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for number in 0..workers {
            let (totals, failed) = (&totals, &failed);
            scope.spawn(move || {
                let mut rng = Rng::new(start + number as u64);
                while Instant::now() < end && !failed.load(Ordering::Relaxed) {
                    let mut added = Totals::default();
                    let seed = rng.next_u64();
                    if let Err(text) = attempt(seed, &Effort::LONG, &mut added) {
                        failed.store(true, Ordering::Relaxed);
                        panic!("{text}");
                    }
                    totals.lock().unwrap().merge(&added);
                }
            });
        }
    });
    totals.into_inner().unwrap()
}

/// The explorer can fail: whichever barrier is lost, a few histories suffice to notice.
#[test]
fn lost_barriers_are_noticed() {
    let orders: [(&str, LostSync); 3] = [
        ("all", |_, _| true),
        ("every second one", |_, number| number % 2 == 0),
        ("every third one", |_, number| number % 3 == 1),
    ];
    for (what, lost) in orders {
        let effort = Effort { lost, reference_every: u64::MAX, ..Effort::SHORT };
        let mut rng = Rng::new(0xc4a5_0003);
        let noticed = (0..20).any(|_| {
            let recipe = Recipe { punches: true, ..Recipe::plain(64, 11) };
            live_as(&recipe, &mut rng.fork(), &effort, &mut Totals::default()).is_err()
        });
        assert!(noticed, "{what} lost, and nobody noticed");
    }
}
