//! The chain on disk beside its model, and what must hold after every deed.

use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions};
use testkit::{Folder, Pattern, Qemu, Rng};

use super::files::Files;
use super::model::{Layer, Model};

/// The chain, its model and its history.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) rng: Rng,
    pub(crate) model: Model,
    history: Vec<String>,
    number: usize,
}

impl Drop for World {
    /// A failed history must be told.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history:\n  {}", self.history.join("\n  "));
        }
    }
}

pub(crate) fn qcow2() -> OpenOptions {
    OpenOptions::new().format(Format::Qcow2)
}

impl World {
    /// A base and one overlay.
    pub(crate) fn new(rng: Rng, base: Format) -> Self {
        let mut world = Self {
            folder: Folder::new(),
            rng,
            model: Model::default(),
            history: Vec::new(),
            number: 0,
        };
        let base = world.make_base(base);
        world.model.layers.push(base);
        world.push_by_qemu();
        world.write();
        world
    }

    pub(crate) fn note(&mut self, line: &str) {
        self.history.push(format!("{}: {line}", self.history.len()));
    }

    /// A path for a new file.
    pub(crate) fn fresh(&mut self, extension: &str) -> PathBuf {
        self.number += 1;
        self.folder.path(format!("{}.{extension}", self.number))
    }

    /// An image that rests on nothing, with something in it.
    pub(crate) fn make_base(&mut self, format: Format) -> Layer {
        let size = self.rng.within(300..2600) * 512;
        let mut bytes = Pattern::new(self.rng.next_u64()).bytes(0, size as usize);
        for _ in 0..4 {
            let start = self.rng.below(size) as usize;
            let end = (start + self.rng.below(400_000) as usize).min(size as usize);
            bytes[start..end].fill(0);
        }
        let raw = self.fresh("raw");
        std::fs::write(&raw, &bytes).unwrap();
        self.note(&format!("base {} of {size} bytes, {format}", raw.display()));
        if format == Format::Raw {
            return Layer { path: raw, format, cluster: 512, view: Some(bytes) };
        }
        let path = self.fresh("qcow2");
        let (options, cluster) = self.options();
        let (from, to) = (raw.to_str().unwrap(), path.to_str().unwrap());
        let args = ["convert", "-f", "raw", "-O", "qcow2", "-o", &options];
        let compressed = self.rng.one_in(3).then_some("-c");
        Qemu::img(args.into_iter().chain(compressed).chain([from, to])).success();
        std::fs::remove_file(&raw).unwrap();
        Layer { path, format, cluster, view: Some(bytes) }
    }

    /// Options of a new image, and its cluster size.
    pub(crate) fn options(&mut self) -> (String, u64) {
        let bits = *self.rng.pick(&[9, 12, 14, 16, 16, 17]);
        let version = *self.rng.pick(&["0.10", "1.1", "1.1", "1.1"]);
        let mut options = format!("cluster_size={},compat={version}", 1 << bits);
        if version == "1.1" && bits >= 14 && self.rng.one_in(3) {
            options += ",extended_l2=on";
        }
        if version == "1.1" && self.rng.one_in(4) {
            options += ",lazy_refcounts=on";
        }
        (options, 1 << bits)
    }

    /// A size for a new top: mostly that of the one before.
    pub(crate) fn new_size(&mut self) -> u64 {
        let size = self.model.top().size();
        match self.rng.below(4) {
            0 => (size * self.rng.within(60..150) / 100).max(100_000) / 512 * 512,
            _ => size,
        }
    }

    pub(crate) fn push_by_qemu(&mut self) {
        let (path, size, (options, cluster)) =
            (self.fresh("qcow2"), self.new_size(), self.options());
        let (below, format) = (self.model.top().path.clone(), self.model.top().format);
        let name = below.file_name().unwrap().to_str().unwrap();
        let size_text = size.to_string();
        let file = path.to_str().unwrap();
        let args = ["create", "-q", "-f", "qcow2", "-o", &options, "-b", name, "-F", format.name()];
        Qemu::img(args.into_iter().chain([file, &size_text])).success();
        self.note(&format!("qemu-img {} {file} {size_text}", args.join(" ")));
        self.model.push(path, cluster, size);
    }

    /// Some writes to the top, through our library or by `qemu-io`.
    pub(crate) fn write(&mut self) {
        let (size, cluster) = (self.model.top().size(), self.model.top().cluster);
        let path = self.model.top().path.clone();
        let mut commands = Vec::new();
        for _ in 0..self.rng.within(1..6) {
            let len = match self.rng.below(3) {
                0 => cluster * self.rng.within(1..4),
                1 => self.rng.within(1..2000),
                _ => self.rng.within(1..120_000),
            };
            let offset = match self.rng.below(4) {
                0 => size.saturating_sub(len),
                1 => self.rng.below(size),
                _ => self.rng.below(size) / cluster * cluster,
            };
            let len = len.min(size - offset);
            let fill = self.rng.within(1..256) as u8;
            let command = match self.rng.below(5) {
                0 => format!("write -z {offset} {len}"),
                1 => format!("write -z -u {offset} {len}"),
                _ => format!("write -P {fill} {offset} {len}"),
            };
            let byte = if command.contains("-z") { 0 } else { fill };
            self.model.top_bytes()[offset as usize..(offset + len) as usize].fill(byte);
            commands.push((command, offset, len, byte));
        }
        if self.rng.one_in(2) {
            let chain = Chain::open(&path, &qcow2().repair_dirty(qimg::check::repair_on_open()));
            let chain = chain.unwrap();
            for (command, offset, len, byte) in &commands {
                self.note(&format!("library: {command}"));
                match byte {
                    0 => chain.write_zeroes_at(*offset, *len, command.contains("-u")).unwrap(),
                    byte => chain.write_at(*offset, &vec![*byte; *len as usize]).unwrap(),
                }
            }
            chain.close().unwrap();
        } else {
            let mut args = vec!["-f", "qcow2"];
            commands.iter().for_each(|(command, ..)| args.extend(["-c", command]));
            args.push(path.to_str().unwrap());
            self.note(&format!("qemu-io {}", args.join(" ")));
            Qemu::io(args).success();
        }
    }

    /// All layers show what the model says; the real tools find nothing wrong.
    pub(crate) fn assert_sound(&mut self) {
        for (depth, layer) in self.model.layers.iter().enumerate() {
            if let Some(view) = &layer.view {
                shows(&layer.path, layer.format, view, depth);
            }
            if layer.format == Format::Qcow2 {
                Qemu::check(&layer.path);
            }
        }
        let top = self.model.top();
        if self.rng.one_in(3) {
            let raw = self.folder.path("flat.raw");
            std::fs::write(&raw, top.view.as_ref().unwrap()).unwrap();
            Qemu::assert_same((top.format.name(), &top.path), ("raw", &raw));
            std::fs::remove_file(&raw).unwrap();
        }
        let chain = open(&top.path, top.format);
        let paths: Vec<_> = chain.layers().map(|layer| layer.path().to_owned()).collect();
        let expected: Vec<_> = self.model.layers.iter().map(|layer| layer.path.clone()).collect();
        assert_eq!(paths, expected);
    }

    pub(crate) fn files(&self) -> Files {
        Files::in_folder(self.folder.root())
    }
}

fn open(path: &Path, format: Format) -> Chain {
    let options = OpenOptions::new().format(format).read_only(true);
    Chain::open(path, &options).unwrap()
}

#[track_caller]
fn shows(path: &Path, format: Format, view: &[u8], depth: usize) {
    let chain = open(path, format);
    assert_eq!(chain.virtual_size(), view.len() as u64, "{} at depth {depth}", path.display());
    let mut bytes = vec![0; view.len()];
    chain.read_at(0, &mut bytes).unwrap();
    if let Some(at) = bytes.iter().zip(view).position(|(found, wanted)| found != wanted) {
        let (found, wanted) = (bytes[at], view[at]);
        panic!("{} at depth {depth}: byte {at:#x} is {found}, not {wanted}", path.display());
    }
}
