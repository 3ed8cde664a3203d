//! The chain on disk, what each layer must hold, and what was done to get there.

use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions};
use testkit::{Folder, ModelChain, ModelDisk, Pattern, Qemu, Rng};

use super::change::Change;
use super::hand::{HANDS, Hand};

/// Deepest chain of a history.
const LAYERS_MAX: usize = 7;

/// The chain, its model and its history.
pub(crate) struct World {
    folder: Folder,
    rng: Rng,
    /// Base first.
    layers: Vec<Layer>,
    model: ModelChain,
    history: Vec<String>,
}

struct Layer {
    path: PathBuf,
    format: Format,
    cluster: u64,
    /// The bytes of the file since it lies below another one.
    frozen: Option<Vec<u8>>,
}

impl Drop for World {
    /// A failed history must be told.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history:\n  {}", self.history.join("\n  "));
        }
    }
}

impl World {
    /// A base, and the first overlay on it.
    pub(crate) fn new(rng: Rng, base: Format) -> Self {
        let model = ModelChain::new(ModelDisk::default());
        let folder = Folder::new();
        let mut world = Self { folder, rng, layers: Vec::new(), model, history: Vec::new() };
        match base {
            Format::Raw => world.make_raw(),
            Format::Qcow2 => world.make_qcow2(),
        }
        world.make_qcow2();
        world
    }

    fn note(&mut self, line: &str) {
        self.history.push(format!("{}: {line}", self.history.len()));
    }

    fn make_raw(&mut self) {
        let len = self.rng.within(100_000..1_500_000) as usize;
        let mut bytes = Pattern::new(self.rng.next_u64()).bytes(0, len);
        for _ in 0..3 {
            let start = self.rng.below(len as u64) as usize;
            let end = (start + self.rng.below(300_000) as usize).min(len);
            bytes[start..end].fill(0);
        }
        let path = self.folder.write("base.raw", &bytes);
        self.note(&format!("base.raw of {len} bytes"));
        self.layers.push(Layer { path, format: Format::Raw, cluster: 4096, frozen: None });
        bytes.resize(len.next_multiple_of(512), 0);
        self.model = ModelChain::new(ModelDisk::from_bytes(bytes));
    }

    /// A new image of random shape by a random hand, over the top if there is one.
    fn make_qcow2(&mut self) {
        let bits = *self.rng.pick(&[9, 10, 12, 14, 16, 16, 18, 21]);
        let version = *self.rng.pick(&["0.10", "1.1", "1.1"]);
        let zstd = version == "1.1" && self.rng.one_in(2);
        let options = format!(
            "cluster_size={},compat={version},compression_type={}",
            1 << bits,
            if zstd { "zstd" } else { "zlib" }
        );
        let path = self.folder.path(format!("layer-{}.qcow2", self.layers.len()));
        let mut args = vec!["create", "-f", "qcow2", "-o", &options];
        let below = self.layers.last().map(|layer| {
            (layer.path.file_name().unwrap().to_str().unwrap().to_owned(), layer.format.name())
        });
        if let Some((name, format)) = &below {
            args.extend(["-b", name, "-F", format]);
        }
        let size = self.new_size();
        let size_text = size.map(|size| size.to_string());
        args.push(path.to_str().unwrap());
        args.extend(size_text.as_deref());
        let hand = *self.rng.pick(&HANDS);
        let line = format!("{hand:?}: {}", args.join(" "));
        hand.img(&args).success();
        self.note(&line);
        let size = size.unwrap_or(self.model.active().len() as u64) as usize;
        match self.layers.last_mut() {
            None => self.model = ModelChain::new(ModelDisk::new(size)),
            Some(below) => {
                below.frozen = Some(std::fs::read(&below.path).unwrap());
                self.model.push(size);
            }
        }
        self.layers.push(Layer { path, format: Format::Qcow2, cluster: 1 << bits, frozen: None });
    }

    /// Mostly what the backing file has, else shorter or longer.
    fn new_size(&mut self) -> Option<u64> {
        let below = self.model.active().len() as u64;
        match self.rng.below(4) {
            _ if below == 0 => Some(self.rng.within(200..3000) * 512),
            0 => Some((below * self.rng.within(50..150) / 100).max(100_000) / 512 * 512),
            1 => Some(below),
            _ => None,
        }
    }

    /// A turn of somebody, and everything that must hold after it.
    pub(crate) fn step(&mut self) {
        if self.layers.len() < LAYERS_MAX && self.rng.one_in(14) {
            self.make_qcow2();
        } else {
            self.change();
        }
        self.assert_sound();
        self.read();
    }

    fn top(&self) -> &Path {
        &self.layers.last().unwrap().path
    }

    fn change(&mut self) {
        let mut hand = *self.rng.pick(&HANDS);
        let cluster = self.layers.last().unwrap().cluster;
        let size = self.model.active().len() as u64;
        let mut changes = Vec::new();
        // Our programs do not write compressed clusters one by one.
        if hand != Hand::Ours && self.rng.one_in(3) {
            changes.extend(self.compressed(size, cluster));
        }
        for _ in 0..self.rng.within(1..5) {
            changes.push(Change::random(&mut self.rng, size, cluster));
        }
        if hand == Hand::Library && self.rng.one_in(3) && !changes[0].is_compressed() {
            hand = Hand::Ours;
        }
        for change in &changes {
            self.note(&format!("{hand:?}: {change}"));
            self.model.active_mut().write(change.offset, &change.bytes());
        }
        let top = self.top().to_owned();
        hand.change(&top, &self.folder, &mut self.rng, &changes);
    }

    /// A compressed write to clusters that the top does not own yet, if it finds any.
    fn compressed(&mut self, size: u64, cluster: u64) -> Option<Change> {
        let offset = self.rng.below(size) / cluster * cluster;
        let len = (cluster * self.rng.within(1..4)).min(size - offset);
        let options = OpenOptions::new().format(Format::Qcow2).read_only(true);
        let chain = Chain::open(self.top(), &options).unwrap();
        let status = chain.top_status_at(offset, len).unwrap();
        let free = !status.present || (status.zero && status.host_offset.is_none());
        let len = if status.len < len { status.len / cluster * cluster } else { len };
        (free && len > 0).then(|| Change::compressed(&mut self.rng, offset, len))
    }

    /// The real tool finds nothing wrong with the top; the layers below are what they were.
    fn assert_sound(&self) {
        Qemu::check(self.top());
        for layer in &self.layers {
            if let Some(frozen) = &layer.frozen {
                let now = std::fs::read(&layer.path).unwrap();
                assert!(now == *frozen, "{} has changed", layer.path.display());
            }
        }
    }

    fn read(&mut self) {
        let (top, model) = (self.top().to_owned(), self.model.active());
        let hand = *self.rng.pick(&HANDS);
        match self.rng.below(8) {
            0 => hand.convert(&top, &self.folder, model),
            1..=3 => {
                let offset = self.rng.below(model.len() as u64);
                let len = self.rng.within(1..4096).min(model.len() as u64 - offset);
                hand.read(&top, model, offset, len);
            }
            _ => {}
        }
        // Whoever has written: the library reads everything, after every step.
        Hand::Library.read(&top, model, 0, model.len() as u64);
    }

    /// The end: everybody reads everything, and all find all layers sound.
    pub(crate) fn finish(&mut self) {
        for hand in HANDS {
            hand.convert(self.top(), &self.folder, self.model.active());
        }
        for layer in self.layers.iter().filter(|layer| layer.format == Format::Qcow2) {
            Qemu::check(&layer.path);
            let args = ["check", "-f", "qcow2", layer.path.to_str().unwrap()];
            Hand::Ours.img(&args).success();
        }
    }
}
