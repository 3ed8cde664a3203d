//! What each layer of a chain must show, as plain bytes.

use std::path::PathBuf;

use qimg::chain::Format;

/// A layer and what a guest would see if it were the top.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Bytes per cluster; a sector for raw.
    pub(crate) cluster: u64,
    /// `None`: some operation of the real tool has left it behind, and it shows whatever it shows.
    pub(crate) view: Option<Vec<u8>>,
}

impl Layer {
    pub(crate) fn size(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.len() as u64)
    }
}

/// A chain, top first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) layers: Vec<Layer>,
    forgotten: Vec<PathBuf>,
}

impl Model {
    pub(crate) fn top(&self) -> &Layer {
        &self.layers[0]
    }

    pub(crate) fn top_bytes(&mut self) -> &mut Vec<u8> {
        self.layers[0].view.as_mut().unwrap()
    }

    /// A new top that shows what the one before shows, cut or extended with zeros.
    pub(crate) fn push(&mut self, path: PathBuf, cluster: u64, size: u64) {
        let mut view = self.top().view.clone().unwrap();
        view.resize(size as usize, 0);
        self.layers.insert(0, Layer { path, format: Format::Qcow2, cluster, view: Some(view) });
    }

    /// `into` takes what `from` shows, and grows where it must.
    pub(crate) fn commit_data(&mut self, from: usize, into: usize) {
        let view = self.layers[from].view.clone().unwrap();
        let lower = self.layers[into].view.as_mut().unwrap();
        if lower.len() < view.len() {
            lower.resize(view.len(), 0);
        }
        lower[..view.len()].copy_from_slice(&view);
    }

    /// Layers leave the chain. Their files stay until [`bury`](Self::bury).
    pub(crate) fn forget(&mut self, layers: core::ops::Range<usize>) {
        self.forgotten.extend(self.layers.drain(layers).map(|layer| layer.path));
    }

    /// What an operator does when the files are no longer needed: they still name others of the chain
    /// as their backing files.
    pub(crate) fn bury(&mut self) {
        for path in self.forgotten.drain(..) {
            std::fs::remove_file(path).unwrap();
        }
    }
}
