//! Compressing what was read, cluster by cluster: done by the readers, so that all cores help.

use std::sync::Arc;

use chain::Chain;
use cow_engine::Compressor;

use super::plan::Units;
use super::{ConvertError, ConvertOptions};
use crate::zeros;

/// What becomes of one cluster of a piece.
#[derive(Debug)]
pub(super) enum Packed {
    /// All zeros.
    Zero,
    /// Does not get smaller: stored as it is.
    Plain,
    /// The compressed bytes.
    Blob(Vec<u8>),
}

/// Compresses the clusters of pieces; one per reader.
#[derive(Debug)]
pub(super) struct Packer {
    compressor: Compressor,
    cluster_bytes: usize,
    /// Whether clusters of zeros are left to the writer to decide about.
    sparse: bool,
}

impl Packer {
    /// A packer for the target, if the copy is to be compressed.
    pub(super) fn new(
        target: &Chain,
        options: &ConvertOptions,
        units: Units,
    ) -> Result<Option<Self>, ConvertError> {
        if !options.compress {
            return Ok(None);
        }
        let compressor = target
            .compressor_with_level(options.compression_level)
            .map_err(|source| ConvertError::Write { offset: 0, source: Arc::new(source) })?;
        let cluster_bytes = units.cluster as usize; // at most 2 MiB
        Ok(Some(Self { compressor, cluster_bytes, sparse: options.sparse != 0 }))
    }

    /// Compresses a piece, which starts at the border of a cluster. The last cluster of the disk
    /// may be shorter; it is padded with zeros.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> Vec<Packed> {
        bytes.chunks(self.cluster_bytes).map(|cluster| self.pack_cluster(cluster)).collect()
    }

    fn pack_cluster(&mut self, cluster: &[u8]) -> Packed {
        if self.sparse && zeros::is_zero(cluster) {
            return Packed::Zero;
        }
        let blob = if cluster.len() == self.cluster_bytes {
            self.compressor.compress(cluster)
        } else {
            let mut padded = cluster.to_vec();
            padded.resize(self.cluster_bytes, 0);
            self.compressor.compress(&padded)
        };
        blob.map_or(Packed::Plain, |blob| Packed::Blob(blob.to_vec()))
    }
}
