//! Where the requests of the loop go: a ring, or plain calls where there is none. Both take owned
//! buffers and give them back with a result, so the loop does not care.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use block_io::uring::{Buffer, Queue};
use block_io::{Alignment, FileStorage, Storage};

use super::Failure;

/// A host request that is over.
pub(crate) struct Done {
    pub(crate) token: u64,
    pub(crate) result: block_io::Result<usize>,
    pub(crate) buffers: Vec<Buffer>,
}

/// What is never the token of a request: the bell has rung.
const BELL: u64 = u64::MAX;

pub(crate) enum Lanes {
    Ring {
        queue: Box<Queue>,
        file: Arc<FileStorage>,
        /// A pipe whose read is always under way: another thread ends the wait with a byte.
        bell: Arc<File>,
        ringer: Arc<PipeWriter>,
    },
    Plain {
        file: Arc<FileStorage>,
        done: VecDeque<Done>,
    },
}

impl Lanes {
    /// A ring of this depth; if there is none, or none is wanted, why.
    pub(crate) fn new(
        depth: u32,
        no_ring: bool,
        file: Arc<FileStorage>,
    ) -> Result<(Self, Option<String>), Failure> {
        let plain = |file| Self::Plain { file, done: VecDeque::new() };
        if no_ring {
            return Ok((plain(file), Some("no ring is wanted".to_owned())));
        }
        // A guest request may become several of the host, and there is the bell.
        match Queue::new((depth.saturating_mul(2) + 1).min(4096)) {
            Ok(mut queue) => {
                let (bell, ringer) = std::io::pipe()?;
                let bell = Arc::new(File::from(OwnedFd::from(bell)));
                queue.read(BELL, &bell, 0, Buffer::zeroed(Alignment::NONE, 1));
                let (queue, ringer) = (Box::new(queue), Arc::new(ringer));
                Ok((Self::Ring { queue, file, bell, ringer }, None))
            }
            Err(error @ block_io::Error::NoRing { .. }) => {
                Ok((plain(file), Some(error.to_string())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What ends a wait from another thread.
    pub(crate) fn bell(&self) -> Option<Arc<PipeWriter>> {
        match self {
            Self::Ring { ringer, .. } => Some(Arc::clone(ringer)),
            Self::Plain { .. } => None,
        }
    }

    /// Whether a wait can be ended from another thread.
    pub(crate) fn has_bell(&self) -> bool {
        matches!(self, Self::Ring { .. })
    }

    /// Whether such a part of a request is taken as it is. Plain calls take everything.
    pub(crate) fn fits(&self, offset: u64, part: &[u8]) -> bool {
        let Self::Ring { file, .. } = self else { return true };
        let alignment = file.alignment();
        alignment.fits_request(offset, part.len() as u64) && alignment.fits_buffer(part)
    }

    pub(crate) fn read(&mut self, token: u64, offset: u64, buffer: Buffer) {
        match self {
            Self::Ring { queue, file, .. } => {
                queue.read(token, file, offset, buffer);
            }
            Self::Plain { file, done } => {
                let mut buffers = vec![buffer];
                let mut slices: Vec<_> =
                    buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
                let result = file.read_vectored_at(offset, &mut slices);
                done.push_back(Done { token, result, buffers });
            }
        }
    }

    pub(crate) fn write(&mut self, token: u64, offset: u64, buffers: Vec<Buffer>) {
        match self {
            Self::Ring { queue, file, .. } => {
                queue.write_vectored(token, file, offset, buffers);
            }
            Self::Plain { file, done } => {
                let slices: Vec<_> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
                let len = buffers.iter().map(|buffer| buffer.len()).sum();
                let result = file.write_vectored_at(offset, &slices).map(|()| len);
                done.push_back(Done { token, result, buffers });
            }
        }
    }

    /// Waits for a host request that is over, or for the bell: then there is none.
    pub(crate) fn wait(&mut self) -> Result<Option<Done>, Failure> {
        let (queue, bell) = match self {
            Self::Plain { done, .. } => return Ok(done.pop_front()),
            Self::Ring { queue, bell, .. } => (queue, bell),
        };
        let Some(completion) = queue.wait()? else { return Ok(None) };
        if completion.token != BELL {
            let block_io::uring::Completion { token, result, buffers, .. } = completion;
            return Ok(Some(Done { token, result, buffers }));
        }
        let rung = completion.into_buffer().ok_or("the bell has lost its buffer")?;
        queue.read(BELL, bell, 0, rung);
        Ok(None)
    }
}
