//! The chain under test: made by our `qimg create`, exported by our `qimg convert`.

use std::path::{Path, PathBuf};

use testkit::{Folder, Qemu, built_program, run};

/// A base and overlays over it; everything below the top is frozen.
pub(crate) struct Chain {
    layers: Vec<(PathBuf, &'static str)>,
    frozen: Vec<Vec<u8>>,
}

impl Chain {
    pub(crate) fn new(base: PathBuf, format: &'static str) -> Self {
        Self { layers: vec![(base, format)], frozen: Vec::new() }
    }

    pub(crate) fn top(&self) -> &Path {
        &self.layers.last().unwrap().0
    }

    /// Puts an overlay on top.
    pub(crate) fn push(&mut self, folder: &Folder, options: &str) {
        let (below, format) = self.layers.last().unwrap();
        self.frozen.push(std::fs::read(below).unwrap());
        let path = folder.path(format!("overlay-{}.qcow2", self.layers.len()));
        let name = below.file_name().unwrap().to_str().unwrap();
        let args = ["create", "-f", "qcow2", "-o", options, "-b", name, "-F", format];
        let args = args.into_iter().chain([path.to_str().unwrap()]);
        run(&built_program("qimg"), args).success();
        self.layers.push((path, "qcow2"));
    }

    /// What the top shows, as a raw file made by us, with the consent of the real tools.
    pub(crate) fn export(&self, folder: &Folder, name: &str) -> PathBuf {
        let (top, format) = self.layers.last().unwrap();
        let raw = folder.path(name);
        let args = ["convert", "-f", format, "-O", "raw"];
        let names = [top.to_str().unwrap(), raw.to_str().unwrap()];
        run(&built_program("qimg"), args.into_iter().chain(names)).success();
        Qemu::assert_same((format, top), ("raw", &raw));
        raw
    }

    /// All layers are sound, and those below the top are untouched.
    pub(crate) fn assert_sound(&self) {
        for (path, format) in &self.layers {
            if *format == "qcow2" {
                Qemu::check(path);
                let args = ["check", "-f", "qcow2", path.to_str().unwrap()];
                run(&built_program("qimg"), args).success();
            }
        }
        for ((path, _), frozen) in self.layers.iter().zip(&self.frozen) {
            assert!(std::fs::read(path).unwrap() == *frozen, "{} has changed", path.display());
        }
    }
}
