//! The library's turns: requests in this process, on one thread or on several.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use qimg::chain::{Chain, Error, Format, OpenOptions, Policy};
use qimg::check::repair_on_open;
use qimg::engine::ResizeOptions;
use testkit::{ModelDisk, Rng};

use super::allocation::{Slot, Slots};
use super::caught::caught;
use super::step::{DiscardRule, Kind, Step};
use super::turn::Mode;

/// Threads of a parallel turn that write.
const WRITERS: usize = 3;

/// Opens the image with everything it rests on.
pub(crate) fn open(path: &Path, read_only: bool) -> Chain {
    open_with(path, OpenOptions::new().read_only(read_only))
}

fn open_with(path: &Path, options: OpenOptions) -> Chain {
    let policy = Policy::new().data_files(true);
    let options = options.format(Format::Qcow2).repair_dirty(repair_on_open()).policy(policy);
    Chain::open(path, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn open_for(path: &Path, mode: &Mode) -> Chain {
    let options = OpenOptions::new().l2_cache_bytes(mode.l2_cache_bytes).direct(mode.direct);
    open_with(path, options.ignore_syncs(mode.ignores_syncs))
}

/// The whole disk.
pub(crate) fn read_all(path: &Path) -> Vec<u8> {
    let chain = open(path, true);
    let mut bytes = vec![0xaa; chain.virtual_size() as usize];
    chain.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Requests one after the other. `model` follows.
pub(crate) fn session(
    path: &Path,
    mode: &Mode,
    steps: &[Step],
    model: &mut ModelDisk,
    discards: DiscardRule,
) {
    let mut slots = Slots::of(path);
    let mut chain = open_for(path, mode);
    for step in steps {
        if step.kind == Kind::Reopen {
            chain.close().unwrap();
            chain = open_for(path, mode);
        }
        if step.kind == Kind::Compressed && !compress(&chain, step, &mut slots) {
            continue;
        }
        if step.kind == Kind::Resize {
            chain.resize(step.len, ResizeOptions::new().shrink(true)).unwrap();
            slots.resize(step.len);
        }
        request(&chain, step, model);
        step.apply(model, discards);
        if step.changes() && step.kind != Kind::Compressed {
            slots.touch(step.offset, step.len);
        }
    }
    chain.close().unwrap();
}

/// Carries out one request; compressed writes have their own way.
fn request(chain: &Chain, step: &Step, model: &ModelDisk) {
    let (offset, len) = (step.offset, step.len);
    let done = match step.kind {
        Kind::Pattern | Kind::Fill => chain.write_at(offset, &step.bytes()),
        Kind::Zero => chain.write_zeroes_at(offset, len, false),
        Kind::Unmap => chain.write_zeroes_at(offset, len, true),
        Kind::Discard => chain.discard_at(offset, len),
        Kind::Flush => chain.flush(),
        Kind::Compressed | Kind::Reopen | Kind::Resize => Ok(()),
        Kind::Read => {
            let mut bytes = vec![0xaa; len as usize];
            chain.read_at(offset, &mut bytes).map(|()| model.assert_at(offset, &bytes))
        }
    };
    done.unwrap_or_else(|error| panic!("{step}: {error}"));
}

/// A compressed write is taken exactly where there is no host space yet.
fn compress(chain: &Chain, step: &Step, slots: &mut Slots) -> bool {
    let slot = slots.at(step.offset);
    let mut compressor = chain.compressor().unwrap();
    match chain.write_compressed_at(&mut compressor, step.offset, &step.bytes()) {
        Ok(()) => assert_ne!(slot, Slot::Taken, "{step}: the cluster had host space"),
        Err(Error::Image { source: qimg::engine::Error::Allocated { .. }, .. }) => {
            assert_ne!(slot, Slot::Free, "{step}: the cluster had no host space");
            return false;
        }
        Err(error) => panic!("{step}: {error}"),
    }
    slots.set(step.offset, Slot::Taken);
    true
}

/// Requests on several threads, and one more thread that reads what nobody writes.
pub(crate) fn parallel(path: &Path, mode: &Mode, steps: &[Step], model: &ModelDisk, seed: u64) {
    let Some(still) = steps.iter().map(|step| step.offset).min() else { return };
    let chain = open_for(path, mode);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writers = [(); WRITERS].map(|()| {
            let work = || {
                while let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
                    request(&chain, step, model);
                }
            };
            scope.spawn(move || caught(work))
        });
        let mut rng = Rng::new(seed);
        while still > 0 && writers.iter().any(|writer| !writer.is_finished()) {
            let offset = rng.below(still);
            let mut bytes = vec![0xaa; rng.within(1..5000).min(still - offset) as usize];
            chain.read_at(offset, &mut bytes).unwrap();
            model.assert_at(offset, &bytes);
        }
        for writer in writers {
            writer.join().unwrap().unwrap_or_else(|text| panic!("{text}"));
        }
    });
    chain.close().unwrap();
}
