//! Another backing file: every state that a power cut may leave is the old header or the new one.

use super::*;
use crate::base_pin::{BasePin, PinnedFormat};
use crate::extension::{BASE_PIN, Placed};

const SECTOR: usize = 512;

/// What a header says about its backing file.
type Said = (Option<Vec<u8>>, Option<Vec<u8>>, Option<BasePin>);

fn said(header: &Header) -> Said {
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    (own(header.backing_name()), own(header.backing_format()), header.base_pin())
}

fn pin(mark: u128) -> BasePin {
    BasePin {
        format: PinnedFormat::Qcow2,
        virtual_size: 1 << 20,
        file_bytes: 196_624,
        modified: Some(1),
        inode: Some(2),
        mark,
        name_hash: 0,
        content_hash: None,
    }
}

fn plain(cluster_bits: u32, version: Version) -> Header {
    HeaderBuilder::new(geometry(cluster_bits), 32 << 10)
        .version(version)
        .l1_table(table(0x40_0000, 1))
        .refcount_table(table(0x20_0000, 1))
        .build()
        .unwrap()
}

/// A backing file to switch to: length of its name, format, record.
type Target = Option<(usize, Option<&'static [u8]>, Option<u128>)>;

fn switch(header: &Header, target: Target) -> Result<HeaderSwitch, Error> {
    let letter =
        if header.backing_name().is_some_and(|name| name[0] == b'a') { b'b' } else { b'a' };
    let name = target.map(|(len, ..)| vec![letter; len]);
    let format = target.and_then(|(_, format, _)| format);
    let pin = target.and_then(|(.., mark)| mark).map(pin);
    header.plan_backing_switch(name.as_deref(), format, pin.as_ref())
}

/// Plays the switch, tearing each stage in every way that its sectors allow (up to ten of them).
#[track_caller]
fn survive(switch: &HeaderSwitch) {
    let (old, new) = (said(switch.from()), said(switch.to()));
    let mut cluster = switch.from().encode();
    for (number, stage) in switch.stages().iter().enumerate() {
        let start = usize::try_from(stage.offset.get()).unwrap();
        let sectors: Vec<_> =
            (start / SECTOR..(start + stage.bytes.len()).div_ceil(SECTOR)).collect();
        assert!(sectors.len() <= 10, "{} sectors", sectors.len());
        for chosen in 0..1_usize << sectors.len() {
            let mut torn = cluster.clone();
            for (bit, sector) in sectors.iter().enumerate() {
                if chosen >> bit & 1 == 1 {
                    let from = (sector * SECTOR).max(start);
                    let to = ((sector + 1) * SECTOR).min(start + stage.bytes.len());
                    torn[from..to].copy_from_slice(&stage.bytes[from - start..to - start]);
                }
            }
            let found = Header::decode(&torn);
            let found = found.unwrap_or_else(|error| panic!("{switch}\nstage {number}: {error}"));
            let found_said = said(&found);
            assert!(found_said == old || found_said == new, "{switch}\n{found:?}");
            assert_eq!(kept(&found), kept(switch.from()), "{switch}");
        }
        cluster[start..start + stage.bytes.len()].copy_from_slice(&stage.bytes);
    }
    assert_eq!(cluster, switch.to().encode());
    assert_eq!(Header::decode(&cluster).unwrap(), *switch.to());
}

/// What has nothing to do with the backing file, names of features aside.
fn kept(header: &Header) -> (Vec<u8>, Vec<Extension>, TablePointer, Features) {
    let others = header.extensions().filter(|extension| {
        !matches!(extension, Extension::FeatureNames(_) | Extension::BackingFormat(_))
            && extension.magic() != BASE_PIN
    });
    let fields = header.unknown_fields().to_vec();
    (fields, others.cloned().collect(), header.l1_table(), header.features())
}

fn with_unknown(header: &Header, magic: u32, len: usize) -> Header {
    let mut header = header.clone();
    let data = vec![0x5a; len];
    header.extensions.push(Placed::canonical(Extension::Unknown { magic, data }));
    header.rewritten().unwrap()
}

const RAW: Option<&[u8]> = Some(b"raw");
const QCOW2: Option<&[u8]> = Some(b"qcow2");
const TARGETS: [Target; 9] = [
    None,
    Some((4, RAW, None)),
    Some((9, QCOW2, Some(1))),
    Some((300, QCOW2, Some(2))),
    Some((300, None, None)),
    Some((1023, QCOW2, Some(3))),
    Some((1023, RAW, None)),
    Some((700, Some(b"fifteen-bytes!!"), Some(4))),
    Some((1, None, Some(5))),
];

#[test]
fn every_switch_leaves_the_old_backing_file_or_the_new_one() {
    let mut count = [0, 0, 0];
    for cluster_bits in [9, 10, 11, 12, 16] {
        for version in [Version::V2, Version::V3] {
            let plain = plain(cluster_bits, version);
            let starts =
                [Some(plain.clone()), (cluster_bits > 9).then(|| with_unknown(&plain, 77, 40))];
            for (first, second) in pairs() {
                for start in starts.iter().flatten() {
                    // Twice and thrice, so that it starts from every place that it may have left.
                    let mut header = start.clone();
                    for target in [first, second, first] {
                        let Ok(switch) = switch(&header, target) else {
                            count[0] += 1;
                            break;
                        };
                        if switch.survives_power_cuts() {
                            count[1] += 1;
                            survive(&switch);
                        } else {
                            count[2] += 1;
                            assert!(cluster_bits == 10 || cluster_bits == 11, "{switch}");
                        }
                        header = switch.into_header();
                    }
                }
            }
        }
    }
    // Refused for lack of room; survived; had to be written at once.
    insta::assert_debug_snapshot!(count);
}

fn pairs() -> impl Iterator<Item = (Target, Target)> {
    TARGETS.into_iter().flat_map(|first| TARGETS.into_iter().map(move |second| (first, second)))
}

/// Where the reference implementation puts things: names of features before what it does not know.
#[test]
fn a_header_that_another_program_rewrote_is_switched_safely() {
    let pinned =
        switch(&plain(16, Version::V3), Some((300, QCOW2, Some(1)))).unwrap().into_header();
    let mut foreign = pinned.clone();
    foreign.extensions.sort_by_key(|placed| placed.extension.magic() == BASE_PIN);
    let foreign = foreign.placing(&[b'a'; 300], &[], None).unwrap();
    assert_eq!(said(&Header::decode(&foreign.encode()).unwrap()), said(&pinned));
    for target in TARGETS {
        let switch = switch(&foreign, target).unwrap();
        assert!(switch.survives_power_cuts());
        survive(&switch);
    }
}

#[test]
fn large_extensions_stay_where_they_are() {
    let header = with_unknown(&plain(16, Version::V3), 77, 2000);
    let first = switch(&header, Some((20, RAW, None))).unwrap();
    assert!(
        !first.survives_power_cuts(),
        "a format moves an extension that fills more than a sector"
    );
    let header = first.into_header();
    // Not as long, but padded to the same length.
    let second = switch(&header, Some((1000, QCOW2, None))).unwrap();
    assert!(second.survives_power_cuts());
    survive(&second);
}

#[test]
fn a_short_header_of_an_older_writer() {
    let mut header = plain(16, Version::V3);
    (header.header_length, header.beyond_compression_type) = (104, Vec::new());
    header.extensions.clear();
    for target in TARGETS {
        let switch = switch(&header, target).unwrap();
        assert!(switch.survives_power_cuts());
        survive(&switch);
    }
}

#[test]
fn a_switch_without_room_is_refused() {
    let error = switch(&plain(9, Version::V3), Some((400, RAW, None))).unwrap_err();
    insta::assert_snapshot!(error, @"header: 536 bytes do not fit into the 512 of cluster 0");
}

#[test]
fn the_same_backing_file_again_writes_nothing() {
    let header = switch(&plain(16, Version::V3), Some((20, RAW, None))).unwrap().into_header();
    let name = header.backing_name().map(<[u8]>::to_vec);
    let again = header.plan_backing_switch(name.as_deref(), RAW, None).unwrap();
    insta::assert_snapshot!(again, @r#"switch the backing file from "aaaaaaaaaaaaaaaaaaaa" (raw) to "aaaaaaaaaaaaaaaaaaaa" (raw)"#);
}

#[test]
fn plans_look_like_this() {
    let text = |from: Target, to: Target, cluster_bits, version| {
        let header = switch(&plain(cluster_bits, version), from).unwrap().into_header();
        let text = switch(&header, to).unwrap().to_string();
        text.replace(&"a".repeat(90), "a..").replace(&"b".repeat(90), "b..")
    };
    let (v2, v3) = (Version::V2, Version::V3);
    insta::assert_snapshot!("first", text(None, Some((9, QCOW2, None)), 16, v3));
    insta::assert_snapshot!(
        "other_name",
        text(Some((9, RAW, None)), Some((12, QCOW2, None)), 16, v3)
    );
    insta::assert_snapshot!(
        "pinned",
        text(Some((9, RAW, None)), Some((9, QCOW2, Some(1))), 16, v3)
    );
    insta::assert_snapshot!("gone", text(Some((9, RAW, Some(1))), None, 16, v3));
    insta::assert_snapshot!(
        "one_sector",
        text(Some((9, RAW, None)), Some((90, QCOW2, None)), 9, v3)
    );
    insta::assert_snapshot!(
        "version_2",
        text(Some((700, RAW, None)), Some((900, RAW, None)), 16, v2)
    );
    insta::assert_snapshot!(
        "no_room",
        text(Some((800, RAW, None)), Some((801, RAW, None)), 10, v3)
    );
}
