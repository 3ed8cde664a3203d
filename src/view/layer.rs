//! What a layer keeps, seen and unseen.

use std::sync::Arc;

use block_io::ExtentKind;
use chain::{Chain, Layer};
use cow_engine::{Image, Run, RunKind};

use super::{GuestMap, ViewError, ViewOptions};
use crate::check::{CheckError, CheckOptions, CheckReport, check};
use crate::info::{Info, of_layer};
use crate::map::map;

/// A layer, measured. Amounts are in bytes of guest data.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerView {
    /// What the file is: sizes, format, header, snapshots, bitmaps.
    pub info: Info,
    /// Data that a guest sees. Clusters in holes of the host's file are zeros, though stored.
    pub visible_data: u64,
    /// Zeros that a guest sees because this layer says so.
    pub visible_zero: u64,
    /// What the layer keeps clusters for, seen or not.
    pub stored: u64,
    /// What of it lies under layers above, or behind the end of the disk: no guest sees it.
    pub hidden: u64,
    /// What of it is compressed.
    pub compressed: u64,
    /// Zeros that the layer says are there, without keeping them.
    pub zero: u64,
    /// Whether the metadata hold together; `None` for raw layers, and if nobody asked.
    pub check: Option<Result<CheckReport, CheckError>>,
}

/// Guest bytes that a layer is asked about at once.
const STEP_BYTES: u64 = 1 << 34;

/// What a layer alone says about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Data { compressed: bool },
    Zero,
    Nothing,
}

impl LayerView {
    pub(super) fn of(
        chain: &Chain,
        depth: usize,
        layer: &Layer,
        guest: &GuestMap,
        options: ViewOptions,
    ) -> Result<Self, ViewError> {
        let path = layer.path().to_owned();
        let info = of_layer(layer).map_err(|source| ViewError::Info { path, source })?;
        let (visible_data, visible_zero) = guest.shown_by(depth);
        let check = layer.image().filter(|_| options.check);
        let check = check.map(|_| check_of(layer));
        let mut view = Self {
            info,
            visible_data,
            visible_zero,
            stored: 0,
            hidden: 0,
            compressed: 0,
            zero: 0,
            check,
        };
        let mut at = 0;
        while at < layer.virtual_size() {
            let (len, own) = own_at(layer, at)?;
            view.add(chain, depth, (at, len), own)?;
            at += len;
        }
        Ok(view)
    }

    fn add(
        &mut self,
        chain: &Chain,
        depth: usize,
        (start, len): (u64, u64),
        own: Own,
    ) -> Result<(), ViewError> {
        let compressed = match own {
            Own::Nothing => return Ok(()),
            Own::Zero => {
                self.zero += len;
                return Ok(());
            }
            Own::Data { compressed } => compressed,
        };
        self.stored += len;
        self.compressed += if compressed { len } else { 0 };
        let mut seen = 0;
        for extent in map(chain, start..start.saturating_add(len)) {
            let status = extent?.status;
            seen += if status.present && status.depth == depth { status.len } else { 0 };
        }
        self.hidden += len - seen.min(len);
        Ok(())
    }
}

fn check_of(layer: &Layer) -> Result<CheckReport, CheckError> {
    check(layer.storage().as_ref(), CheckOptions::default())
}

/// What a layer alone says about the bytes at `offset`, and for how many of them; at least one.
fn own_at(layer: &Layer, offset: u64) -> Result<(u64, Own), ViewError> {
    let rest = layer.virtual_size() - offset;
    match layer.image() {
        Some(image) => own_of_image(layer, image, offset, rest.min(STEP_BYTES)),
        None => own_of_raw(layer, offset, rest),
    }
}

fn own_of_image(
    layer: &Layer,
    image: &Image,
    offset: u64,
    len: u64,
) -> Result<(u64, Own), ViewError> {
    let run = image.first_run(offset, len).map_err(|source| ViewError::Layer {
        path: layer.path().to_owned(),
        source: Arc::new(source),
    })?;
    let Some(Run { len: found, kind, .. }) = run else { return Ok((len, Own::Nothing)) };
    let own = match kind {
        RunKind::Data { .. } => Own::Data { compressed: false },
        RunKind::Compressed { .. } => Own::Data { compressed: true },
        RunKind::Zero { .. } => Own::Zero,
        RunKind::Below { .. } => Own::Nothing,
    };
    Ok((found.clamp(1, len), own))
}

/// Holes of a raw file are zeros that nobody keeps.
fn own_of_raw(layer: &Layer, offset: u64, rest: u64) -> Result<(u64, Own), ViewError> {
    let extent = layer.storage().extent_at(offset).map_err(|source| ViewError::Info {
        path: layer.path().to_owned(),
        source: source.into(),
    })?;
    Ok(match extent {
        None => (rest, Own::Nothing),
        Some(extent) => {
            let own = match extent.kind {
                ExtentKind::Data => Own::Data { compressed: false },
                _ => Own::Zero,
            };
            (extent.len.clamp(1, rest), own)
        }
    })
}
