//! Reading through layers: who answers which part, without recursion however deep the chain is.

use std::sync::Arc;

use cow_engine::{Backing, BelowError, RunKind};

use crate::error::Result;
use crate::layer::{Answer, Disk, Layer};
use crate::status::Status;

/// The layers below the top, nearest first. They do not change while they lie there.
#[derive(Clone, Debug)]
pub(crate) struct LowerLayers(pub(crate) Arc<[Arc<Layer>]>);

/// A part of a read that nobody has answered yet.
struct Open<'b> {
    depth: usize,
    offset: u64,
    buf: &'b mut [u8],
}

impl LowerLayers {
    fn virtual_size(&self) -> u64 {
        self.0.first().map_or(0, |layer| layer.virtual_size())
    }

    /// Fills `buf` with what the layers from the first on show at `offset`.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut open = vec![Open { depth: 0, offset, buf }];
        while let Some(part) = open.pop() {
            self.read_part(part, &mut open)?;
        }
        Ok(())
    }

    fn read_part<'b>(&self, part: Open<'b>, open: &mut Vec<Open<'b>>) -> Result<()> {
        let Open { depth, offset, buf } = part;
        let Some(layer) = self.0.get(depth) else {
            buf.fill(0);
            return Ok(());
        };
        // CH-4: beyond the end of a layer there is nothing, whatever lies further below.
        let inside = layer.virtual_size().saturating_sub(offset).min(buf.len() as u64);
        let (buf, beyond) = buf.split_at_mut(inside as usize);
        beyond.fill(0);
        if buf.is_empty() {
            return Ok(());
        }
        match layer.disk() {
            Disk::Raw(raw) => raw.read_at(offset, buf).map_err(|e| layer.storage_error(e)),
            Disk::Qcow2(image) => {
                let plan = image.plan_read(offset, inside).map_err(|e| layer.image_error(e))?;
                let mut rest = buf;
                for run in plan.runs() {
                    let (buf, tail) = rest.split_at_mut(run.len as usize);
                    match run.kind {
                        RunKind::Below { .. } => {
                            open.push(Open { depth: depth + 1, offset: run.guest.get(), buf });
                        }
                        _ => image.read_run(run, buf).map_err(|e| layer.image_error(e))?,
                    }
                    rest = tail;
                }
                Ok(())
            }
        }
    }

    /// What is known about up to `len` bytes at `offset`; depths count from the layer above all
    /// of these, which is the top. The top keeps host space `reserved` for what it does not own.
    pub(crate) fn status_at(&self, offset: u64, len: u64, reserved: Option<u64>) -> Result<Status> {
        let (mut len, mut reserved) = (len, reserved);
        for (above, layer) in self.0.iter().enumerate() {
            let inside = layer.virtual_size().saturating_sub(offset);
            if inside == 0 {
                // Beyond this layer's end: the layer above it answers with zeros.
                return Ok(Status::absent(len, above).reserving(reserved));
            }
            len = len.min(inside);
            match layer.answer(offset, len)? {
                Answer::Here(status) => return Ok(status.at_depth(above + 1).at_most(len)),
                Answer::Below { len: run, reserved: here } => {
                    (len, reserved) = (len.min(run), here);
                }
            }
        }
        Ok(Status::absent(len, self.0.len()).reserving(reserved))
    }
}

impl Backing for LowerLayers {
    fn virtual_size(&self) -> u64 {
        self.virtual_size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        Self::read_at(self, offset, buf).map_err(|error| Arc::new(error) as BelowError)
    }

    fn reads_as_zeros(&self, offset: u64, len: u64) -> Result<bool, BelowError> {
        if len > 0 && self.has_shown_data(offset) {
            return Ok(false);
        }
        let (mut at, mut rest) = (offset, len);
        while rest > 0 {
            let status = match self.0.first() {
                Some(first) if at < first.virtual_size() => self.status_at(at, rest, None),
                _ => return Ok(true),
            };
            let status = status.map_err(|error| Arc::new(error) as BelowError)?;
            if !status.zero || status.len == 0 {
                return Ok(false);
            }
            let step = status.len.min(rest);
            (at, rest) = (at.saturating_add(step), rest - step);
        }
        Ok(true)
    }
}

impl LowerLayers {
    /// Whether the nearest layer is raw and has shown data at `offset` before.
    fn has_shown_data(&self, offset: u64) -> bool {
        let disk = self.0.first().map(|layer| layer.disk());
        matches!(disk, Some(Disk::Raw(raw)) if raw.has_shown_data(offset))
    }
}
