//! Which part of a request is served next, and whether it fits as it is.

use core::ops::Deref;

use crate::Alignment;

/// Most bytes bounced at once, edges not counted.
pub(super) const BOUNCE_BYTES_MAX: usize = 1 << 20;

/// Fitting bytes between others that do not fit are bounced along with them when they are fewer:
/// copying them is cheaper than one more request to the host.
const FITTING_BYTES_MIN: usize = 32 << 10;

/// The next part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Number of bytes, at least one.
    pub(super) len: usize,
    /// Position, lengths and addresses are as the host wants them.
    pub(super) fits: bool,
}

/// The part that begins `done` bytes into a request that has more than `done` bytes.
pub(super) fn next_part<B: Deref<Target = [u8]>>(
    alignment: Alignment,
    offset: u64,
    bufs: &[B],
    done: usize,
) -> Part {
    let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
    let left = wanted - done;
    let fitting = fitting_from(alignment, offset, bufs, done);
    // The end of a request is never worth a bounce if it fits.
    if fitting == left || fitting >= FITTING_BYTES_MIN {
        return Part { len: fitting, fits: true };
    }
    let unit = alignment.request() as usize;
    let limit = left.min(BOUNCE_BYTES_MAX);
    let mut start = 0;
    for buf in bufs {
        let end = start + buf.len();
        // The first block that begins in this buffer and behind `done`.
        let block = (offset + start.max(done + 1) as u64).next_multiple_of(unit as u64);
        let candidate = (block - offset) as usize;
        start = end;
        if candidate >= end {
            continue;
        }
        if candidate - done >= limit {
            break;
        }
        let fitting = fitting_from(alignment, offset, bufs, candidate);
        if fitting >= FITTING_BYTES_MIN {
            return Part { len: candidate - done, fits: false };
        }
    }
    if limit == left {
        return Part { len: left, fits: false };
    }
    // More to come: it goes on at the start of a block.
    let end = offset + (done + limit) as u64;
    Part { len: limit - (end % unit as u64) as usize, fits: false }
}

/// How many bytes from `from` on can go to the host as they are, in whole blocks.
fn fitting_from<B: Deref<Target = [u8]>>(
    alignment: Alignment,
    offset: u64,
    bufs: &[B],
    from: usize,
) -> usize {
    if !alignment.fits_request(offset + from as u64, 0) {
        return 0;
    }
    let unit = alignment.request() as usize;
    let (mut start, mut fitting) = (0, 0);
    for buf in bufs {
        let end = start + buf.len();
        let at = from.max(start);
        start = end;
        if at >= end {
            continue;
        }
        let rest = &buf[buf.len() - (end - at)..];
        if !alignment.fits_buffer(rest) {
            break;
        }
        let whole = rest.len() - rest.len() % unit;
        fitting += whole;
        if whole < rest.len() {
            break;
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBuffer;

    /// The parts of a request whose buffers are these pieces of aligned memory.
    fn parts(offset: u64, pieces: &[(usize, usize)]) -> Vec<(usize, bool)> {
        let alignment = Alignment::new(512, 512).unwrap();
        let memory = AlignedBuffer::zeroed(alignment, 4 << 20);
        let bufs: Vec<&[u8]> = pieces.iter().map(|&(at, len)| &memory[at..at + len]).collect();
        let wanted: usize = pieces.iter().map(|piece| piece.1).sum();
        let (mut done, mut parts) = (0, Vec::new());
        while done < wanted {
            let part = next_part(alignment, offset, &bufs, done);
            assert!(part.len > 0);
            parts.push((part.len, part.fits));
            done += part.len;
        }
        assert_eq!(done, wanted, "the last part leaves the request");
        parts
    }

    #[test]
    fn what_fits_is_one_part() {
        assert_eq!(parts(512, &[(0, 512)]), [(512, true)]);
        assert_eq!(parts(0, &[(0, 3 << 20)]), [(3 << 20, true)]);
        assert_eq!(parts(1024, &[(512, 512), (4096, 1024), (0, 512)]), [(2048, true)]);
        assert_eq!(parts(1024, &[(512, 512), (7, 0), (4096, 1024)]), [(1536, true)]);
    }

    #[test]
    fn only_the_edges_of_a_large_request_are_bounced() {
        // The end lies inside a block.
        assert_eq!(parts(0, &[(0, (1 << 20) + 100)]), [(1 << 20, true), (100, false)]);
        // The start lies as deep inside a block of the file as the buffer inside one of memory.
        assert_eq!(
            parts(100, &[(100, 1 << 20)]),
            [(412, false), ((1 << 20) - 512, true), (100, false)]
        );
        // One buffer among three has an odd address.
        assert_eq!(
            parts(0, &[(0, 64 << 10), (100, 512), (1 << 20, 64 << 10)]),
            [(64 << 10, true), (512, false), (64 << 10, true)]
        );
    }

    #[test]
    fn small_requests_are_bounced_whole() {
        assert_eq!(parts(0, &[(0, 4096 + 100)]), [(4196, false)]);
        assert_eq!(parts(1, &[(0, 10)]), [(10, false)]);
        assert_eq!(parts(0, &[(1, 512), (512, 512)]), [(1024, false)]);
    }

    #[test]
    fn memory_that_never_fits_is_bounced_in_whole_blocks() {
        let parts = parts(100, &[(1, (3 << 20) - 512)]);
        assert_eq!(parts.len(), 3);
        let mut at = 100;
        for (len, fits) in &parts[..2] {
            at += len;
            assert!(!fits && at.is_multiple_of(512), "{parts:?}");
        }
    }
}
