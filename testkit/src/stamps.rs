//! Stamped sectors: every sector says which write it comes from, and that it belongs where it is.

use crate::ModelDisk;

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// Stamp of a sector that was never written or was zeroed.
pub const ZERO: u64 = 0;

/// The bytes of `count` sectors from `first` on with one stamp; zeros for [`ZERO`].
#[must_use]
pub fn sectors(stamp: u64, first: usize, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * SECTOR];
    if stamp == ZERO {
        return bytes;
    }
    for (sector, bytes) in bytes.chunks_exact_mut(SECTOR).enumerate() {
        let word = (stamp << 16 | (first + sector) as u64).to_be_bytes();
        bytes.as_chunks_mut::<8>().0.fill(word);
    }
    bytes
}

/// The stamps of sectors from `first` on.
///
/// # Errors
/// A sector is torn, or belongs elsewhere.
pub fn stamps(bytes: &[u8], first: usize) -> Result<Vec<u64>, String> {
    let stamp = |(index, sector): (usize, &[u8])| {
        let index = first + index;
        let word = u64::from_be_bytes(sector[..8].try_into().unwrap());
        if sector[8..] != sector[..SECTOR - 8] {
            return Err(format!("CE-1: sector {index} is a mixture: {word:#x} and others"));
        }
        match word {
            0 => Ok(ZERO),
            word if word & 0xffff == index as u64 => Ok(word >> 16),
            word => Err(format!("CE-1: sector {index} holds {word:#x}, which belongs elsewhere")),
        }
    };
    bytes.chunks(SECTOR).enumerate().map(stamp).collect()
}

/// A disk of stamped sectors, for what lies below.
#[must_use]
pub fn disk(stamp: u64, count: usize) -> ModelDisk {
    ModelDisk::from_bytes(sectors(stamp, 0, count))
}

#[test]
fn a_sector_says_where_it_belongs() {
    let bytes = sectors(7, 3, 2);
    assert_eq!(stamps(&bytes, 3).unwrap(), [7, 7]);
    assert!(stamps(&bytes, 4).unwrap_err().contains("belongs elsewhere"));
    let mut torn = bytes;
    torn[511] ^= 1;
    assert!(stamps(&torn, 3).unwrap_err().contains("mixture"));
    assert_eq!(stamps(&sectors(ZERO, 9, 1), 9).unwrap(), [ZERO]);
}
