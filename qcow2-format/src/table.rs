//! Tables of big-endian 64-bit words: L1, L2 (standard), refcount and bitmap tables.

use alloc::vec::Vec;

use static_assertions::const_assert_eq;
use zerocopy::byteorder::big_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

const_assert_eq!(size_of::<U64>(), 8);

/// The words of a table, in place. Bytes that do not fill a last word are left out.
#[must_use]
pub fn table_words(bytes: &[u8]) -> &[U64] {
    <[U64]>::ref_from_prefix_with_elems(bytes, bytes.len() / 8).map_or(&[], |(words, _)| words)
}

/// The words of a table, in place and changeable. Bytes that do not fill a last word are left
/// out.
#[must_use]
pub fn table_words_mut(bytes: &mut [u8]) -> &mut [U64] {
    let count = bytes.len() / 8;
    <[U64]>::mut_from_prefix_with_elems(bytes, count).map_or(&mut [], |(words, _)| words)
}

/// The bytes of a table made of `words`, as they go to disk.
#[must_use]
pub fn encode_table(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let words: Vec<U64> = words.into_iter().map(U64::new).collect();
    words.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_big_endian_and_whole() {
        let bytes = encode_table([1, 0x8000_0000_0005_0000]);
        assert_eq!(bytes[7], 1);
        assert_eq!(bytes[8], 0x80);
        let mut longer = bytes.clone();
        longer.extend([1, 2, 3]);
        let words: Vec<u64> = table_words(&longer).iter().map(|word| word.get()).collect();
        assert_eq!(words, [1, 0x8000_0000_0005_0000]);
        table_words_mut(&mut longer)[0] = U64::new(2);
        assert_eq!(longer[7], 2);
        assert_eq!(longer[16..], [1, 2, 3]);
        assert!(table_words(&[1, 2, 3]).is_empty());
    }
}
