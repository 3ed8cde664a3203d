//! The deeds: one operation on the chain, by us or by the real tool, and what it means for the model.

use std::path::{Path, PathBuf};

use qimg::chain::{
    Commit, Difference, Format, LayerRef, OpenOptions, Overlays, Rebase, Stream, Watch,
};
use qimg::engine::CreateOptions;
use qimg::format::ClusterBits;
use testkit::Qemu;

use super::model::Layer;
use super::world::{World, qcow2};

/// Deepest chain.
const LAYERS_MAX: usize = 7;

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl World {
    /// One deed of somebody, and everything that must hold after it.
    pub(crate) fn step(&mut self) {
        let before = self.files();
        let depth = self.model.layers.len();
        let deed = match self.rng.below(12) {
            _ if depth == 1 => self.snapshot(),
            0..=2 if depth < LAYERS_MAX => self.snapshot(),
            3 | 4 => self.commit(),
            5 => self.commit_by_qemu(),
            6 | 7 => self.stream(),
            8 => self.rebase_within(),
            9 => self.rebase_by_qemu(),
            10 => self.rebase_onto_stranger(),
            _ => Vec::new(),
        };
        let mut may_change = deed;
        if self.model.top().format == Format::Qcow2 && self.rng.one_in(2) {
            self.write();
            may_change.push(self.model.top().path.clone());
        }
        before.assert_only_changed(&self.files(), &may_change, "this step");
        self.model.bury();
        self.assert_sound();
    }

    fn snapshot(&mut self) -> Vec<PathBuf> {
        if self.rng.one_in(3) {
            self.push_by_qemu();
        } else {
            let (path, size) = (self.fresh("qcow2"), self.new_size());
            let bits = *self.rng.pick(&[12, 16]);
            let like = CreateOptions {
                cluster_bits: ClusterBits::new(bits).unwrap(),
                ..CreateOptions::new(size)
            };
            let top = self.model.top().clone();
            let options = OpenOptions::new().format(top.format);
            let overlays = Overlays::new().on(&top.path, options, [&path]).like(like);
            self.note(&format!("snapshot: {}", overlays.plan().unwrap()));
            overlays.create().unwrap();
            self.model.push(path, 1 << bits, size);
        }
        vec![self.model.top().path.clone()]
    }

    fn commit(&mut self) -> Vec<PathBuf> {
        let depth = self.model.layers.len() as u64;
        let from = self.rng.below(depth - 1) as usize;
        let into = self.rng.within(from as u64 + 1..depth) as usize;
        let keep = from == 0 && self.rng.one_in(3);
        if self.model.layers[from..=into].iter().any(|layer| layer.view.is_none()) {
            return Vec::new();
        }
        let top = self.model.top().path.clone();
        let layer = |depth| LayerRef::File(self.model.layers[depth as usize].path.clone());
        let commit = Commit::new(&top, qcow2())
            .from(layer(from as u64))
            .into_layer(layer(into as u64))
            .keep(keep);
        // Version 2 has no zeros that hide a backing file; both tools say so.
        let plan = match commit.plan() {
            Ok(plan) => plan,
            Err(error) => panic!("{error}"),
        };
        self.note(&format!("commit {from} into {into}, keep {keep}: {plan}"));
        let mut changed: Vec<_> = [from.saturating_sub(1), into].map(|d| self.path(d)).into();
        if from == 0 {
            changed.push(self.path(0));
        }
        if let Err(error) = commit.run(Watch::none()) {
            self.expect_version_2(&error.to_string(), into);
            return changed;
        }
        let upper_size = (from > 0).then(|| self.model.layers[from - 1].size());
        self.model.commit_data(from, into);
        // Behind the end of what was committed, a larger layer above shows zeros.
        if let Some(upper) = upper_size {
            let end = self.model.layers[from].size() as usize;
            let lower = self.model.layers[into].view.as_mut().unwrap();
            let upper = (upper as usize).min(lower.len());
            if end < upper {
                lower[end..upper].fill(0);
            }
        }
        self.model.forget(from.max(1)..into);
        if from == 0 && keep && into == 1 {
            changed.retain(|path| *path != top);
        }
        changed
    }

    /// Growing over a longer backing file is what version 2 cannot do: refused, and nothing is lost.
    #[track_caller]
    fn expect_version_2(&self, error: &str, into: usize) {
        let info = Qemu::info_json("qcow2", &self.path(into));
        let compat = &info["format-specific"]["data"]["compat"];
        assert_eq!(compat, "0.10", "{error}");
    }

    fn path(&self, depth: usize) -> PathBuf {
        self.model.layers[depth].path.clone()
    }

    /// `qemu-img commit` moves the top into its backing file; it does not look at zeros behind the
    /// end of a shorter layer, so those are left to us.
    fn commit_by_qemu(&mut self) -> Vec<PathBuf> {
        let top = self.path(0);
        let keep = self.rng.one_in(2);
        let flags = keep.then_some("-d");
        let words = ["commit", "-q", "-f", "qcow2"];
        let args = words.into_iter().chain(flags).chain([top.to_str().unwrap()]);
        let output = Qemu::img(args);
        self.note(&format!("qemu-img commit, keep {keep}: {output:?}"));
        if output.code != Some(0) {
            self.expect_version_2(&output.stderr, 1);
            return vec![top, self.path(1)];
        }
        self.model.commit_data(0, 1);
        vec![top, self.path(1)]
    }

    fn stream(&mut self) -> Vec<PathBuf> {
        let depth = self.model.layers.len() as u64;
        let into = self.rng.below(depth - 1) as usize;
        let base = self.rng.within(into as u64 + 1..depth + 1) as usize;
        let mut stream = Stream::new(self.path(0), qcow2()).into_layer(LayerRef::Depth(into));
        if base < depth as usize {
            stream = stream.base(LayerRef::File(self.path(base)));
        }
        let plan = stream.plan().unwrap();
        self.note(&format!("stream into {into} over {base}: {plan}"));
        let moved = stream.run(Watch::none()).unwrap();
        assert!(moved.written <= plan.data_bytes(), "{moved:?}, {plan}");
        self.model.forget(into + 1..base);
        vec![self.path(into)]
    }

    /// Onto a lower layer of the same chain, or onto nothing.
    fn rebase_within(&mut self) -> Vec<PathBuf> {
        let depth = self.model.layers.len();
        let onto = self.rng.within(1..depth as u64 + 1) as usize;
        let compress = self.rng.one_in(3);
        let mut rebase = Rebase::new(self.path(0), qcow2()).compress(compress);
        if let Some(layer) = self.model.layers.get(onto) {
            rebase = rebase.onto(name(&layer.path), layer.format);
        }
        let plan = rebase.plan().unwrap();
        self.note(&format!("rebase onto {onto}, compress {compress}: {plan}"));
        rebase.run(Watch::none()).unwrap();
        self.model.forget(1..onto);
        vec![self.path(0)]
    }

    fn rebase_by_qemu(&mut self) -> Vec<PathBuf> {
        let depth = self.model.layers.len();
        let onto = self.rng.within(1..depth as u64 + 1) as usize;
        let top = self.path(0);
        let mut args = vec!["rebase".to_owned(), "-f".into(), "qcow2".into(), "-b".into()];
        match self.model.layers.get(onto) {
            None => args.push(String::new()),
            Some(layer) => {
                args.extend([name(&layer.path), "-F".into(), layer.format.name().into()]);
            }
        }
        args.push(top.to_str().unwrap().to_owned());
        self.note(&format!("qemu-img {}", args.join(" ")));
        Qemu::img(&args).success();
        self.model.forget(1..onto);
        vec![top]
    }

    /// Onto an image that has nothing to do with the chain.
    fn rebase_onto_stranger(&mut self) -> Vec<PathBuf> {
        let format = if self.rng.one_in(2) { Format::Raw } else { Format::Qcow2 };
        let stranger: Layer = self.make_base(format);
        let rebase = Rebase::new(self.path(0), qcow2()).onto(name(&stranger.path), format);
        let plan = rebase.plan().unwrap();
        self.note(&format!("rebase onto a stranger: {plan}"));
        rebase.run(Watch::none()).unwrap();
        self.differs_as_the_model_says(&stranger);
        let path = stranger.path.clone();
        self.model.forget(1..self.model.layers.len());
        self.model.layers.push(stranger);
        vec![self.path(0), path]
    }

    /// The ranges that differ between two images are those of the model.
    fn differs_as_the_model_says(&self, other: &Layer) {
        let open = |path: &Path, format| {
            let options = OpenOptions::new().format(format).read_only(true);
            qimg::chain::Chain::open(path, &options).unwrap()
        };
        let (old, new) = (open(&other.path, other.format), open(&self.path(0), Format::Qcow2));
        let ranges = Difference::between(&old, &new).ranges(Watch::none()).unwrap();
        let (old, new) = (other.view.as_ref().unwrap(), self.model.top().view.as_ref().unwrap());
        let sector = |view: &[u8], at: usize| {
            let mut bytes = [0; 512];
            let inside = view.get(at * 512..).unwrap_or(&[]);
            let len = inside.len().min(512);
            bytes[..len].copy_from_slice(&inside[..len]);
            bytes
        };
        for at in 0..old.len().max(new.len()).div_ceil(512) {
            let told = ranges.iter().any(|range| range.contains(&(at as u64 * 512)));
            assert_eq!(told, sector(old, at) != sector(new, at), "sector {at}");
        }
    }
}
