//! The walk: each layer is asked in turn, nothing is remembered, without recursion however deep the
//! chain is. What the [index](crate::index) remembers is what the walk would find.

use std::sync::Arc;

use cow_engine::RunKind;

use crate::error::Result;
use crate::layer::{Answer, Disk, Layer};
use crate::status::Status;

/// A part of a read that nobody has answered yet.
struct Open<'b> {
    depth: usize,
    offset: u64,
    buf: &'b mut [u8],
}

/// Fills `buf` with what the layers, nearest first, show at `offset`.
pub(crate) fn read_at(layers: &[Arc<Layer>], offset: u64, buf: &mut [u8]) -> Result<()> {
    let mut open = vec![Open { depth: 0, offset, buf }];
    while let Some(part) = open.pop() {
        read_part(layers, part, &mut open)?;
    }
    Ok(())
}

fn read_part<'b>(layers: &[Arc<Layer>], part: Open<'b>, open: &mut Vec<Open<'b>>) -> Result<()> {
    let Open { depth, offset, buf } = part;
    let Some(layer) = layers.get(depth) else {
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

/// What is known about up to `len` bytes at `offset`; depths count from the layer above all of
/// these, which is the top. The top keeps host space `reserved` for what it does not own.
pub(crate) fn status_at(
    layers: &[Arc<Layer>],
    offset: u64,
    len: u64,
    reserved: Option<u64>,
) -> Result<Status> {
    let (mut len, mut reserved) = (len, reserved);
    for (above, layer) in layers.iter().enumerate() {
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
    Ok(Status::absent(len, layers.len()).reserving(reserved))
}
