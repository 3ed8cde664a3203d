//! Stamped sectors: every sector says which write it comes from, and that it belongs where it is.

use testkit::ModelDisk;

pub(crate) const SECTOR: usize = 512;

/// Stamp of a sector that was never written or was zeroed.
pub(crate) const ZERO: u64 = 0;

/// The bytes of `count` sectors from `first` on with one stamp; zeros for [`ZERO`].
pub(crate) fn sectors(stamp: u64, first: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * SECTOR);
    for sector in first..first + count {
        let word = if stamp == ZERO { 0 } else { stamp << 16 | sector as u64 };
        bytes.extend(word.to_be_bytes().repeat(SECTOR / 8));
    }
    bytes
}

/// The stamps of sectors from `first` on; complains about a sector that is torn or belongs
/// elsewhere.
pub(crate) fn stamps(bytes: &[u8], first: usize) -> Result<Vec<u64>, String> {
    let stamp = |(index, sector): (usize, &[u8])| {
        let index = first + index;
        let word = u64::from_be_bytes(sector[..8].try_into().unwrap());
        if sector[8..] != sector[..SECTOR - 8] {
            return Err(format!("sector {index} is a mixture: {word:#x} and others"));
        }
        match word {
            0 => Ok(ZERO),
            word if word & 0xffff == index as u64 => Ok(word >> 16),
            word => Err(format!("sector {index} holds {word:#x}, which belongs elsewhere")),
        }
    };
    bytes.chunks(SECTOR).enumerate().map(stamp).collect()
}

/// A disk of stamped sectors, for what lies below.
pub(crate) fn disk(stamp: u64, count: usize) -> ModelDisk {
    ModelDisk::from_bytes(sectors(stamp, 0, count))
}
