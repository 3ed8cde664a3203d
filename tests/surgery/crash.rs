//! Power cuts over whole operations: whatever reached which file, the chain opens and its upper layers
//! show what they showed. Failures of the host and cancelled operations must leave the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use qimg::chain::{Error, Progress, Watch};
use testkit::{Arrives, CallSet, CrashFiles, CrashPlan, Fault, FaultStorage, Rng, number_from};

use super::memory::{Deed, MemoryChain, named};

/// Chains that are tried, unless the environment says otherwise.
const CHAINS: u64 = 120;
/// States of one power cut, at most.
const STATES_MAX: usize = 24;

fn kind(deed: Deed) -> &'static str {
    match deed {
        Deed::Commit { from: 0, keep: false, .. } => "commit of the top",
        Deed::Commit { from: 0, .. } => "commit of the top, kept",
        Deed::Commit { .. } => "commit of a layer between",
        Deed::Stream { base: None, .. } => "flatten",
        Deed::Stream { .. } => "stream",
        Deed::Rebase { onto: None, .. } => "rebase onto nothing",
        Deed::Rebase { .. } => "rebase",
    }
}

fn chains() -> impl Iterator<Item = (u64, MemoryChain, Deed, Rng)> {
    let count = number_from("QIMG_SURGERY_CHAINS").unwrap_or(CHAINS);
    let mut rng = Rng::announced(0x5375_0003);
    (0..count).map(move |_| {
        let seed = rng.next_u64();
        let mut rng = Rng::new(seed);
        let chain = MemoryChain::random(&mut rng);
        let deed = chain.random_deed(&mut rng);
        (seed, chain, deed, rng)
    })
}

/// Version 2 cannot grow over a longer backing file; nothing happens then.
fn is_impossible(error: &Error) -> bool {
    matches!(error, Error::Image { source: qimg::engine::Error::Resize(_), .. })
}

#[test]
fn power_cuts_leave_what_was_shown() {
    let (mut states, mut kinds) = (0, BTreeMap::<_, u64>::new());
    for (seed, chain, deed, mut rng) in chains() {
        let power = CrashFiles::on(chain.files.clone());
        let done = chain.run(deed, named(power.files()), Watch::none());
        if let Err(error) = &done {
            assert!(is_impossible(error), "seed {seed:#x}, {deed:?}: {error}");
        }
        let log = power.log();
        let may_change = chain.may_change(deed);
        let changed = log.events().iter().find(|(file, _)| !may_change.contains(file));
        assert!(changed.is_none(), "seed {seed:#x}, {deed:?}: {changed:?}");
        let names: Vec<String> = (0..chain.files.len()).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for cut in log.cuts() {
            let plan = CrashPlan { states_max: STATES_MAX, seed: rng.next_u64(), tears: true };
            for state in cut.states(&plan) {
                let judged = chain.judge(&cut.materialise(&state), chain.protected(deed));
                if let Err(text) = judged {
                    let state = cut.describe(&state, &names);
                    panic!("seed {seed:#x}, {deed:?}: {text}\n{state}\n{}", log.text(&names));
                }
                states += 1;
            }
        }
        *kinds.entry(kind(deed)).or_default() += 1;
    }
    eprintln!("{states} states, {kinds:?}");
    assert!(kinds.len() == 7 && states > 1000, "{states} states, {kinds:?}");
}

#[test]
fn whatever_call_fails_the_chain_shows_what_it_showed() {
    let mut failed = 0;
    for (seed, chain, deed, mut rng) in chains().take(12) {
        for file in chain.may_change(deed) {
            for calls in [CallSet::CHANGES_AND_SYNCS, CallSet::ALL] {
                let arrives =
                    *rng.pick(&[Arrives::Nothing, Arrives::AllButSector, Arrives::Everything]);
                let fault = |nth| Fault::nth(nth, calls).arriving(arrives);
                let fails = |nth| fails_once(&chain, deed, file, fault(nth));
                for nth in 1.. {
                    match fails(nth) {
                        Err(text) => panic!("seed {seed:#x}, {deed:?}, call {nth}: {text}"),
                        Ok(true) => failed += 1,
                        Ok(false) => break,
                    }
                }
            }
        }
    }
    assert!(failed > 500, "{failed} calls failed");
}

/// Does the deed while one call fails; says whether it came to that.
fn fails_once(chain: &MemoryChain, deed: Deed, file: usize, fault: Fault) -> Result<bool, String> {
    let faulty = |file| Arc::new(FaultStorage::new(file));
    let files: Vec<_> = chain.files.iter().cloned().map(faulty).collect();
    files[file].arm(fault);
    let done = chain.run(deed, named(&files), Watch::none());
    files.iter().for_each(|file| file.heal());
    let left: Vec<_> = files.iter().map(|file| file.inner().clone()).collect();
    chain
        .judge(&left, chain.protected(deed))
        .map_err(|text| format!("file {file}: {done:?}\n{text}"))?;
    Ok(files[file].fired() > 0)
}

#[test]
fn a_cancelled_operation_leaves_a_valid_chain_and_can_be_done_again() {
    let mut cancelled = 0;
    for (seed, chain, deed, mut rng) in chains() {
        let files: Vec<_> = chain.files.iter().cloned().map(Arc::new).collect();
        let (flag, left) = (AtomicBool::new(false), AtomicU64::new(rng.below(4)));
        let look = |_: Progress| {
            let wait =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            flag.fetch_or(wait.is_err(), Ordering::Relaxed);
        };
        let watch = Watch::none().progress(&look).cancel(&flag);
        let done = chain.run(deed, named(&files), watch);
        let now = || files.iter().map(|file| (**file).clone()).collect::<Vec<_>>();
        let judge = |when| {
            chain.judge(&now(), chain.protected(deed)).unwrap_or_else(|text| {
                panic!("seed {seed:#x}, {deed:?}, {when}: {text}");
            });
        };
        judge("after the first try");
        match done {
            Ok(_) => continue,
            Err(Error::Cancelled) => cancelled += 1,
            Err(error) => {
                assert!(is_impossible(&error), "seed {seed:#x}, {deed:?}: {error}");
                continue;
            }
        }
        match chain.run(deed, named(&files), Watch::none()) {
            Ok(_) => judge("after the second try"),
            Err(error) => panic!("seed {seed:#x}, {deed:?}: {error}"),
        }
    }
    assert!(cancelled > 10, "{cancelled} were cancelled");
}
