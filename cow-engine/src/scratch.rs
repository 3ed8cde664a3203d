//! Memory for bytes on their way from one place to another, kept by each thread for the next time.

use std::cell::Cell;

use block_io::{AlignedBuffer, Alignment};

/// What a thread keeps at most. Longer pieces are rare, and their copying takes longer than
/// getting memory does.
const KEPT_BYTES_MAX: usize = 128 << 10;

thread_local! {
    static SPARE: Cell<Option<AlignedBuffer>> = const { Cell::new(None) };
}

/// Lends `len` bytes that fit `alignment`. What they hold is left over from earlier.
pub(crate) fn with<T>(alignment: Alignment, len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let spare = SPARE.take().filter(|spare| spare.len() >= len && alignment.fits_buffer(spare));
    let mut buffer = spare.unwrap_or_else(|| AlignedBuffer::zeroed(alignment, len));
    // Taken out meanwhile: a layer below may want one of its own.
    let done = work(&mut buffer[..len]);
    if buffer.len() <= KEPT_BYTES_MAX {
        SPARE.set(Some(buffer));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_kept_and_fits() {
        let aligned = Alignment::new(512, 4096).unwrap();
        for (alignment, len) in
            [(Alignment::NONE, 100), (aligned, 70_000), (aligned, 5), (Alignment::NONE, 1 << 20)]
        {
            with(alignment, len, |outer| {
                outer.fill(1);
                with(alignment, len, |inner| inner.fill(2));
                assert_eq!(outer.len(), len);
                assert!(alignment.fits_buffer(outer));
                assert!(outer.iter().all(|byte| *byte == 1));
            });
        }
        with(aligned, 1000, |first| first.fill(9));
        assert!(with(aligned, 10, |second| second.iter().all(|byte| *byte == 9)), "it was kept");
    }
}
