//! Lists of buffers seen as one run of bytes, for requests that have to be copied.

use std::io::{IoSlice, IoSliceMut};

/// Copies into `target` what lies `skip` bytes into the list.
pub(super) fn copy_out(bufs: &[IoSlice<'_>], mut skip: usize, mut target: &mut [u8]) {
    for buf in bufs {
        let Some(rest) = buf.get(skip..) else {
            skip -= buf.len();
            continue;
        };
        skip = 0;
        let count = rest.len().min(target.len());
        let (head, tail) = target.split_at_mut(count);
        head.copy_from_slice(&rest[..count]);
        target = tail;
    }
}

/// Copies `source` into the list, `skip` bytes into it.
pub(super) fn copy_in(bufs: &mut [IoSliceMut<'_>], mut skip: usize, mut source: &[u8]) {
    for buf in bufs {
        let Some(rest) = buf.get_mut(skip..) else {
            skip -= buf.len();
            continue;
        };
        skip = 0;
        let count = rest.len().min(source.len());
        let (head, tail) = source.split_at(count);
        rest[..count].copy_from_slice(head);
        source = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_run_of_bytes() {
        let parts = [&b"ab"[..], b"", b"cde", b"f"];
        for start in 0..=6 {
            for end in start..=6 {
                let mut target = vec![0; end - start];
                copy_out(&parts.map(IoSlice::new), start, &mut target);
                assert_eq!(target, b"abcdef"[start..end]);

                let (mut a, mut b, mut c) = (*b"..", *b"...", *b".");
                let mut bufs = [&mut a[..], &mut b, &mut c].map(IoSliceMut::new);
                copy_in(&mut bufs, start, &target);
                let mut expected = *b"......";
                expected[start..end].copy_from_slice(&target);
                assert_eq!([&a[..], &b, &c].concat(), expected);
            }
        }
    }
}
