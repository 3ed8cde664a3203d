//! `qcow2-rs` over its blocking calls, buffered. Its device is not `Sync`: one thread only.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use qcow2_rs::dev::{Qcow2Dev, Qcow2DevParams};
use qcow2_rs::sync_io::Qcow2IoSync;
use qcow2_rs::utils::qcow2_setup_dev_sync;

use crate::contender::{Disk, Handle};
use crate::failure::{Failure, Outcome};

/// The smallest block it knows.
const BLOCK_BITS: u8 = 9;

struct Qcow2Rs(Qcow2Dev<Qcow2IoSync>);

pub(super) fn open(path: &Path, writable: bool) -> Outcome<Handle> {
    let params = Qcow2DevParams::new(BLOCK_BITS, None, None, !writable, false);
    let device = qcow2_setup_dev_sync(path, &params).map_err(failed)?;
    wait(device.qcow2_prep_io()).map_err(failed)?;
    Ok(Handle::Single(Box::new(Qcow2Rs(device))))
}

fn failed(error: qcow2_rs::error::Qcow2Error) -> Failure {
    Failure::of("qcow2-rs")(&error)
}

/// Its futures do their work when polled; nothing ever has to be waited for.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

impl Disk for Qcow2Rs {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Outcome {
        wait(self.0.read_at(buf, offset)).map(drop).map_err(failed)
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Outcome {
        wait(self.0.write_at(buf, offset)).map_err(failed)
    }

    fn flush(&self) -> Outcome {
        wait(self.0.flush_meta()).map_err(failed)?;
        wait(self.0.fsync_range(0, usize::MAX)).map_err(failed)
    }

    fn close(self: Box<Self>) -> Outcome {
        wait(self.0.flush_meta()).map_err(failed)
    }
}
