//! Finding zeros in buffers.

/// Whether all bytes are zero. Written so that the compiler examines a vector at a time.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const STRIDE: usize = 64;
    let (strides, rest) = bytes.split_at(bytes.len() - bytes.len() % STRIDE);
    strides.chunks_exact(STRIDE).all(|stride| stride.iter().fold(0, |seen, byte| seen | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

/// The runs of a buffer that are entirely zero or not, told apart in blocks of `grain` bytes
/// (the last one may be shorter): offset, length, whether it is zero.
pub(crate) fn runs(bytes: &[u8], grain: usize) -> Vec<(usize, usize, bool)> {
    let mut runs: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    for block in bytes.chunks(grain.max(1)) {
        let zero = is_zero(block);
        match runs.last_mut() {
            Some((_, len, last)) if *last == zero => *len += block.len(),
            _ => runs.push((at, block.len(), zero)),
        }
        at += block.len();
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_recognised_at_every_length() {
        for len in 0..200 {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for at in 0..len {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {len}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn runs_are_as_long_as_they_can_be() {
        let mut bytes = vec![0; 4096 * 4 + 100];
        bytes[4096] = 1;
        bytes[4096 * 3 - 1] = 1;
        assert_eq!(runs(&bytes, 4096), [(0, 4096, true), (4096, 8192, false), (12288, 4196, true)]);
        assert_eq!(runs(&[], 512), []);
        assert_eq!(runs(&[1, 0], 512), [(0, 2, false)]);
    }
}
