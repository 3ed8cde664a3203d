//! Header extensions: where their area ends, which are refused, what survives.

use super::*;

/// An image without extensions whose area holds these bytes.
fn with_area(area: &[u8], pokes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = poked(&[(112, &[0; 400])]);
    bytes[112..112 + area.len()].copy_from_slice(area);
    for (at, new) in pokes {
        bytes[*at..at + new.len()].copy_from_slice(new);
    }
    bytes
}

fn extension(magic: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [word(magic), word(u32::try_from(data.len()).unwrap())].concat();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn magics(header: &Header) -> Vec<u32> {
    header.extensions().map(Extension::magic).collect()
}

#[test]
fn unknown_extensions_survive_with_their_order_and_padding() {
    let area = [
        &extension(0x1111_1111, b"first")[..],
        &extension(0x2222_2222, b"")[..],
        &extension(0x3333_3333, b"12345678")[..],
    ]
    .concat();
    let mut bytes = with_area(&area, &[]);
    bytes[112 + 13..112 + 16].copy_from_slice(b"pad");
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(magics(&header), [0x1111_1111, 0x2222_2222, 0x3333_3333]);
    assert_eq!(header.encode(), bytes);
    let rewritten = header.rewritten().unwrap();
    assert_eq!(magics(&rewritten), [0x6803_f857, 0x1111_1111, 0x2222_2222, 0x3333_3333]);
    let first = rewritten.extensions().nth(1).unwrap();
    assert_eq!(first.data(), b"first");
    assert_eq!(rewritten.rewritten().unwrap(), rewritten);
}

#[test]
fn the_area_ends_at_the_backing_name() {
    let area = extension(0x1111_1111, b"abcdefgh");
    let at = |offset: u64| with_area(&area, &[(8, &long(offset)), (16, &word(4))]);
    assert!(Header::decode(&at(128)).is_ok());
    insta::assert_snapshot!(Header::decode(&at(127)).unwrap_err(), @"header extension 0x11111111: length at offset 0x74 is 8, allowed is an end before the backing file name and inside cluster 0");
    // A name that starts inside the padding cuts it short.
    let area = extension(0x1111_1111, b"abc");
    let mut bytes = with_area(&area, &[(8, &long(123)), (16, &word(4))]);
    bytes[123..127].copy_from_slice(b"base");
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.backing_name(), Some(&b"base"[..]));
    assert_eq!(header.encode(), bytes);
}

#[test]
fn the_end_marker_is_optional_but_a_broken_head_is_not_an_end() {
    let area = extension(0x1111_1111, b"");
    let ends_at = |offset: u64| with_area(&area, &[(8, &long(offset)), (16, &word(4))]);
    assert!(Header::decode(&ends_at(120)).is_ok());
    for offset in [121, 124, 127] {
        assert!(Header::decode(&ends_at(offset)).is_err(), "offset {offset}");
    }
    insta::assert_snapshot!(Header::decode(&ends_at(124)).unwrap_err(), @"header: extension at offset 0x78 is cut off after 4 bytes, allowed is a head of 8 bytes or the end of the area");
}

#[test]
fn what_follows_the_end_marker_is_kept_until_a_rewrite() {
    let mut bytes = with_area(&extension(0x1111_1111, b""), &[]);
    bytes[124..128].copy_from_slice(&word(77));
    bytes[300..305].copy_from_slice(b"stray");
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.encode(), bytes);
    assert!(!header.rewritten().unwrap().encode().windows(5).any(|five| five == b"stray"));
}

#[test]
fn typed_extensions_that_break_their_rules_are_refused() {
    let bitmaps = |count: u32, reserved: u32, bytes: u64, offset: u64| {
        let data = [&word(count)[..], &word(reserved), &long(bytes), &long(offset)].concat();
        extension(0x2385_2875, &data)
    };
    let luks = [long(0x50001), long(4096)].concat();
    let trusted: &[(usize, &[u8])] = &[(88, &long(1))];
    let encrypted: &[(usize, &[u8])] = &[(32, &word(2))];
    let texts = [
        (extension(0xe279_2aca, b"0123456789abcdef"), &[][..]),
        (extension(0x2385_2875, b"short"), &[][..]),
        (bitmaps(1, 7, 32, 0x50000), trusted),
        (bitmaps(0, 0, 32, 0x50000), trusted),
        (extension(0x0537_be77, &luks), &[][..]),
        (extension(0x0537_be77, &luks), encrypted),
        (extension(0x0537_be77, b"8 bytes."), encrypted),
        (extension(0x1111_1111, b""), encrypted),
        ([word(0x1111_1111), word(65536 - 119)].concat(), &[][..]),
        ([word(0x1111_1111), word(u32::MAX)].concat(), &[][..]),
    ]
    .map(|(area, pokes)| Header::decode(&with_area(&area, pokes)).unwrap_err().to_string());
    insta::assert_snapshot!(texts.join("\n"), @r"
    header extension 0xe2792aca: length at offset 0x74 is 16, allowed is 0..=15
    header extension 0x23852875: length at offset 0x74 is 5, allowed is 24
    header extension 0x23852875: reserved at offset 0x7c is 7, allowed is 0
    header extension 0x23852875: nb_bitmaps at offset 0x78 is 0, allowed is 1..=65535
    header extension 0x0537be77: magic at offset 0x70 is 0x537be77, allowed is this extension only with crypt_method 2
    header extension 0x0537be77: offset at offset 0x78 is 0x50001, allowed is a multiple of the cluster size
    header extension 0x0537be77: length at offset 0x74 is 8, allowed is 16
    header: crypt_method at offset 0x20 is 2, allowed is 2 only with the LUKS header extension
    header extension 0x11111111: length at offset 0x74 is 65417, allowed is an end before the backing file name and inside cluster 0
    header extension 0x11111111: length at offset 0x74 is 4294967295, allowed is an end before the backing file name and inside cluster 0
    ");
    assert!(Header::decode(&with_area(&bitmaps(0, 7, 0, 1), &[])).is_ok(), "not trusted");
}

#[test]
fn typed_extensions_are_found_by_their_getters() {
    let area = [
        extension(0xe279_2aca, b"raw"),
        extension(0x4441_5441, b"data.raw"),
        extension(0x0537_be77, &[long(0x50000), long(4096)].concat()),
        extension(0x2385_2875, &[&word(2)[..], &word(0), &long(64), &long(0x60000)].concat()),
        extension(0xe279_2aca, b"qcow2"),
    ]
    .concat();
    let bytes = with_area(&area, &[(32, &word(2)), (88, &long(1))]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.backing_format(), Some(&b"qcow2"[..]), "the last one counts");
    assert_eq!(header.data_file_name(), Some(&b"data.raw"[..]));
    assert_eq!(header.luks().unwrap().offset, HostOffset::new(0x50000));
    assert_eq!(header.luks().unwrap().bytes, 4096);
    let bitmaps = header.bitmaps().unwrap();
    assert_eq!((bitmaps.count(), bitmaps.directory_bytes()), (2, 64));
    assert_eq!(bitmaps.directory_offset(), HostOffset::new(0x60000));
    assert_eq!(header.encode(), bytes);
}
