//! `TestBacking`: bytes as the layer below an image.

use std::sync::Arc;

use cow_engine::{Backing, BelowError};

/// A layer below that is nothing but its bytes.
#[derive(Debug)]
pub(crate) struct TestBacking {
    bytes: Vec<u8>,
    knows_zeros: bool,
}

impl TestBacking {
    /// A layer that knows which of its ranges are zeros.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, knows_zeros: true }
    }

    /// A layer that never knows without reading, such as a file on a host without holes.
    pub(crate) fn ignorant(bytes: Vec<u8>) -> Self {
        Self { bytes, knows_zeros: false }
    }
}

impl Backing for TestBacking {
    fn virtual_size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let inside = rest.len().min(buf.len());
        buf[..inside].copy_from_slice(&rest[..inside]);
        buf[inside..].fill(0);
        Ok(())
    }

    fn reads_as_zeros(&self, offset: u64, len: u64) -> Result<bool, BelowError> {
        let start = self.bytes.len().min(offset as usize);
        let end = self.bytes.len().min((offset + len) as usize);
        Ok(self.knows_zeros && self.bytes[start..end].iter().all(|&byte| byte == 0))
    }
}

/// A layer that always fails.
#[derive(Debug)]
pub(crate) struct BrokenBacking;

#[derive(Debug)]
struct Broken;

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the layer is gone")
    }
}

impl core::error::Error for Broken {}

impl Backing for BrokenBacking {
    fn virtual_size(&self) -> u64 {
        u64::MAX
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> Result<(), BelowError> {
        Err(Arc::new(Broken))
    }

    fn reads_as_zeros(&self, _offset: u64, _len: u64) -> Result<bool, BelowError> {
        Err(Arc::new(Broken))
    }
}
