//! `World`: the files of a history, what they must hold, and the turns that change them.

use std::path::{Path, PathBuf};

use testkit::{Folder, ModelDisk, Qemu, Rng};

use super::extents::Run;
use super::hand::Hand;
use super::judge::{self, Expected};
use super::recipe::{DataFile, Preallocation, Recipe};
use super::step::{DiscardRule, Kind, Step};
use super::turn::{Act, Mode, Turn};
use super::twins::{self, CopiedFiles, TWINS};
use super::{library, program};

/// The files of a history and what they must hold.
pub(crate) struct World<'r> {
    recipe: &'r Recipe,
    folder: Folder,
    image: PathBuf,
    data: PathBuf,
    model: ModelDisk,
    /// The bytes of the backing file, which must stay.
    frozen: Option<Vec<u8>>,
    /// Guest bytes from the end of the disk up to here may be stale: the real tool leaves what it
    /// cut off in the last cluster, and shows it again when the disk grows.
    stale_end: u64,
    /// Whether the real tool has ever cut something off: snapshots may know of it.
    has_cut: bool,
}

impl<'r> World<'r> {
    /// Makes the image, empty.
    pub(crate) fn new(recipe: &'r Recipe) -> Self {
        let folder = Folder::new();
        let (image, data) = (folder.path("image.qcow2"), folder.path("image.data"));
        let size = recipe.size as usize;
        let model = match &recipe.below {
            None => ModelDisk::new(size),
            Some(below) => ModelDisk::from_bytes(below.make(&folder)).overlay(size),
        };
        let args = recipe.create_args(&image, &data);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        recipe.maker.img(&args).success();
        let mut world =
            Self { recipe, image, data, model, frozen: None, stale_end: 0, has_cut: false, folder };
        world.frozen = recipe.below.map(|below| world.folder.read(below.name()));
        world.judge(&mut Rng::new(recipe.size), recipe.maker == Hand::Theirs);
        world
    }

    /// One turn, and everything that must hold after it.
    pub(crate) fn turn(&mut self, turn: &Turn) {
        let mut rng = Rng::new(turn.seed);
        match &turn.act {
            Act::Session { hand, mode, steps } => self.session(*hand, mode, steps),
            Act::Twins { steps } => self.twins(steps),
            Act::Parallel { mode, steps } => self.parallel(mode, steps, &mut rng),
            Act::Killed { hand, steps, lost } => self.killed(*hand, steps, lost, &mut rng),
            Act::Resize { hand, size, preallocation } => {
                self.resize(*hand, *size, *preallocation);
            }
            Act::Snapshot { name } => {
                self.snapshot_command("-c", name);
                self.model.snapshot(name);
            }
            Act::Apply { name } => self.apply(name),
            Act::Delete { name } => self.delete(name),
        }
        self.judge(&mut rng, turn.is_theirs());
    }

    /// The requests as they fit the disk of this moment.
    fn fitted(&self, steps: &[Step]) -> Vec<Step> {
        let mut size = self.model.len() as u64;
        let fit = |step: &Step| {
            if step.kind == Kind::Resize {
                size = step.len;
            }
            step.clone().fit(size, self.recipe.cluster_bytes())
        };
        steps.iter().map(fit).collect()
    }

    fn discards(&self, ignored: bool) -> DiscardRule {
        let over_backing = self.recipe.version_2 && self.recipe.below.is_some();
        DiscardRule { cluster: self.recipe.cluster_bytes(), ignored: ignored || over_backing }
    }

    fn compresses(&self) -> bool {
        self.recipe.compresses()
    }

    fn session(&mut self, hand: Hand, mode: &Mode, steps: &[Step]) {
        let steps = self.fitted(steps);
        let discards = self.discards(mode.ignores_discard && hand != Hand::Library);
        if hand == Hand::Library {
            let is_possible = |step: &Step| self.compresses() || step.kind != Kind::Compressed;
            let steps: Vec<Step> = steps.into_iter().filter(is_possible).collect();
            if steps.iter().any(|step| step.kind == Kind::Resize) {
                self.stale_end = 0;
            }
            return library::session(&self.image, mode, &steps, &mut self.model, discards);
        }
        let steps = program::feasible(hand, &self.image, &steps, self.compresses());
        let (folder, model) = (&self.folder, &mut self.model);
        program::session(hand, &self.image, mode, &steps, folder, model, discards);
    }

    fn twins(&mut self, steps: &[Step]) {
        let steps = self.fitted(steps);
        // What the real tool can do, so can we.
        let steps = program::feasible(Hand::Theirs, &self.image, &steps, self.compresses());
        let has_data = self.recipe.data_file != DataFile::None;
        let files: &[&Path] = if has_data { &[&self.image, &self.data] } else { &[&self.image] };
        let (discards, mut model) = (self.discards(false), self.model.clone());
        let (image, folder) = (&self.image, &self.folder);
        let copied = CopiedFiles::new(files);
        program::session(Hand::Theirs, image, &TWINS, &steps, folder, &mut model, discards);
        let theirs = Run::of_json(&Qemu::map_json("qcow2", image));
        copied.put_back();
        library::session(image, &TWINS, &steps, &mut self.model, discards);
        let ours = Run::of_json(&Qemu::map_json("qcow2", image));
        twins::assert_alike(self.recipe, self.model.len() as u64, &ours, &theirs);
    }

    fn parallel(&mut self, mode: &Mode, steps: &[Step], rng: &mut Rng) {
        // Of requests that no longer fit, some might share bytes: they are left out.
        let size = self.model.len() as u64;
        let fits = |step: &&Step| step.end() <= size;
        let steps: Vec<Step> = steps.iter().filter(fits).cloned().collect();
        library::parallel(&self.image, mode, &steps, &self.model, rng.next_u64());
        let discards = self.discards(false);
        steps.iter().for_each(|step| step.apply(&mut self.model, discards));
    }

    fn killed(&mut self, hand: Hand, steps: &[Step], lost: &[Step], rng: &mut Rng) {
        let mut steps = self.fitted(steps);
        let flushed = steps.len();
        steps.extend(self.fitted(lost));
        // Whatever the second part is, the first is not chosen differently because of it.
        let kept = program::feasible(hand, &self.image, &steps[..flushed], self.compresses());
        let lost: Vec<Step> =
            steps[flushed..].iter().filter(|step| step.kind != Kind::Compressed).cloned().collect();
        program::killed(hand, &self.image, &kept, &lost, &self.folder);
        let discards = self.discards(false);
        kept.iter().for_each(|step| step.apply(&mut self.model, discards));
        self.after_crash(rng);
        self.adopt(&lost, discards);
    }

    /// Counts may be too high, or postponed: whoever opens the image next, or is asked to,
    /// repairs it.
    fn after_crash(&self, rng: &mut Rng) {
        let is_dirty = Qemu::info_json("qcow2", &self.image)["dirty-flag"] == true;
        assert!(self.recipe.lazy || !is_dirty, "dirty, although no count may be postponed");
        let expected = if is_dirty { Expected::Anything } else { Expected::Leaks };
        judge::checked(&self.image, expected, rng.one_in(4));
        let hand = if rng.one_in(2) { Hand::Ours } else { Hand::Theirs };
        let name = self.image.to_str().unwrap();
        if self.recipe.lazy {
            let args = ["-f", "qcow2", "-c", "length", name].map(str::to_owned);
            hand.io(&args).success();
        }
        let hand = if rng.one_in(2) { Hand::Ours } else { Hand::Theirs };
        hand.img(&["check", "-q", "-f", "qcow2", "-r", "leaks", name]).success();
    }

    /// Requests that were not flushed have happened or not, byte by byte: the image says.
    fn adopt(&mut self, lost: &[Step], discards: DiscardRule) {
        let changes: Vec<&Step> = lost.iter().filter(|step| step.changes()).collect();
        if changes.is_empty() {
            return;
        }
        // Each byte is what it was before some request, or after it.
        let mut states = vec![self.model.clone()];
        for step in changes {
            let mut next = states[states.len() - 1].clone();
            step.apply(&mut next, discards);
            states.push(next);
        }
        let found = library::read_all(&self.image);
        for (index, byte) in found.iter().enumerate() {
            let known = states.iter().any(|state| state.bytes()[index] == *byte);
            assert!(known, "guest offset {index}: {byte:#04x} was never there");
        }
        self.model.write(0, &found);
    }

    fn resize(&mut self, hand: Hand, size: u64, preallocation: Preallocation) {
        let old = self.model.len() as u64;
        let option = match preallocation {
            _ if size < old => None,
            Preallocation::Off => None,
            Preallocation::Metadata => Some("--preallocation=metadata"),
            Preallocation::Falloc => Some("--preallocation=falloc"),
            Preallocation::Full => Some("--preallocation=full"),
        };
        let size_text = size.to_string();
        let mut args = vec!["resize", "-q", "-f", "qcow2"];
        args.extend((size < old).then_some("--shrink"));
        args.extend(option);
        args.extend([self.image.to_str().unwrap(), &size_text]);
        hand.img(&args).success();
        self.model.resize(size as usize);
        if hand != Hand::Theirs {
            // We leave nothing stale, whoever cut the disk.
            self.stale_end = 0;
        } else if size > old {
            self.adopt_stale(old, size.min(self.stale_end));
        } else {
            self.stale_end = size.next_multiple_of(self.recipe.cluster_bytes());
            self.has_cut = true;
        }
    }

    fn adopt_stale(&mut self, start: u64, end: u64) {
        if start < end {
            let bytes = judge::converted(Hand::Theirs, &self.image, &self.folder, None);
            self.model.write(start, &bytes[start as usize..end as usize]);
        }
    }

    fn apply(&mut self, name: &str) {
        if !self.has_snapshot(name) {
            return;
        }
        self.snapshot_command("-a", name);
        self.model.apply(name);
        if self.has_cut {
            self.stale_end =
                (self.model.len() as u64).next_multiple_of(self.recipe.cluster_bytes());
        }
    }

    fn delete(&mut self, name: &str) {
        if !self.has_snapshot(name) {
            return;
        }
        self.assert_snapshot(name);
        self.snapshot_command("-d", name);
        self.model.delete(name);
    }

    fn has_snapshot(&self, name: &str) -> bool {
        self.model.snapshot_names().any(|other| other == name)
    }

    fn snapshot_command(&self, flag: &str, name: &str) {
        Qemu::img(["snapshot", "-q", flag, name, self.image.to_str().unwrap()]).success();
    }

    fn assert_snapshot(&self, name: &str) {
        let expected = self.model.snapshot_bytes(name);
        let found = judge::converted(Hand::Theirs, &self.image, &self.folder, Some(name));
        // The real tool shows a snapshot in the size that the disk has now.
        let len = found.len().min(expected.len());
        judge::same(&found[..len], &expected[..len], name);
    }

    /// Everything that must hold after a turn; who has not written reads.
    fn judge(&self, rng: &mut Rng, theirs_wrote: bool) {
        judge::checked(&self.image, Expected::Clean, rng.one_in(8));
        let bytes = self.model.bytes();
        judge::mapped(&self.image, rng.one_in(8));
        judge::read_by_library(&self.image, &self.model);
        let reader = if theirs_wrote { Hand::Ours } else { Hand::Theirs };
        if !theirs_wrote || rng.one_in(4) {
            judge::read_by_program(reader, &self.image, &self.folder, None, bytes);
        }
        if self.recipe.data_file == DataFile::Raw {
            judge::read_data_file(&self.data, &self.model, self.recipe.cluster_bytes());
        }
    }

    /// The end: all snapshots are what they were, and so is the backing file.
    pub(crate) fn finish(&self) {
        let names: Vec<&str> = self.model.snapshot_names().collect();
        names.into_iter().for_each(|name| self.assert_snapshot(name));
        if let (Some(frozen), Some(below)) = (&self.frozen, &self.recipe.below) {
            assert!(self.folder.read(below.name()) == *frozen, "the backing file has changed");
        }
    }
}
