//! Lists of buffers seen as one run of bytes, for requests that have to be copied.

use std::io::{IoSlice, IoSliceMut};

/// Copies into `target` what lies `skip` bytes into the list.
pub(crate) fn copy_out(bufs: &[IoSlice<'_>], mut skip: usize, mut target: &mut [u8]) {
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
pub(crate) fn copy_in(bufs: &mut [IoSliceMut<'_>], mut skip: usize, mut source: &[u8]) {
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

/// `len` bytes of the list, `skip` bytes into it, as a list of their own.
pub(super) fn slices_out<'a>(
    bufs: &'a [IoSlice<'_>],
    mut skip: usize,
    mut len: usize,
) -> Vec<IoSlice<'a>> {
    let mut slices = Vec::new();
    for buf in bufs {
        let Some(rest) = buf.get(skip..) else {
            skip -= buf.len();
            continue;
        };
        skip = 0;
        let count = rest.len().min(len);
        if count > 0 {
            slices.push(IoSlice::new(&rest[..count]));
        }
        len -= count;
    }
    slices
}

/// As [`slices_out`], to be written to.
pub(super) fn slices_in<'a>(
    bufs: &'a mut [IoSliceMut<'_>],
    mut skip: usize,
    mut len: usize,
) -> Vec<IoSliceMut<'a>> {
    let mut slices = Vec::new();
    for buf in bufs {
        let buf_len = buf.len();
        let Some(rest) = buf.get_mut(skip..) else {
            skip -= buf_len;
            continue;
        };
        skip = 0;
        let count = rest.len().min(len);
        if count > 0 {
            slices.push(IoSliceMut::new(&mut rest[..count]));
        }
        len -= count;
    }
    slices
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

                let parts = parts.map(IoSlice::new);
                let joined: Vec<u8> = slices_out(&parts, start, end - start)
                    .iter()
                    .flat_map(|p| p.to_vec())
                    .collect();
                assert_eq!(joined, target);
                let mut bufs = [&mut a[..], &mut b, &mut c].map(IoSliceMut::new);
                for slice in &mut slices_in(&mut bufs, start, end - start) {
                    slice.fill(b'#');
                }
                expected[start..end].fill(b'#');
                assert_eq!([&a[..], &b, &c].concat(), expected);
            }
        }
    }
}
