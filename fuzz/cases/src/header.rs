//! Header and extensions: what decodes encodes to itself, and rewriting loses nothing.

use qimg::format::{
    AutoclearFeatures, Extension, FeatureKind, FieldUpdate, Header, IncompatibleFeatures,
    TablePointer,
};

/// Takes the bytes for cluster 0.
///
/// # Panics
/// A promise of the header's decoder, encoder or rewriting is broken.
pub fn header(bytes: &[u8]) {
    let _ = Header::peek_cluster_bits(bytes);
    let for_check = Header::decode_for_check(bytes);
    match Header::decode(bytes) {
        Ok(header) => {
            assert_eq!(for_check.as_ref(), Ok(&header), "a check accepts what may be used");
            faithful(&header, bytes);
            look(&header);
            rewrite(&header);
            update(&header);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?} is one line");
            if let Ok(header) = for_check {
                faithful(&header, bytes);
                look(&header);
            }
        }
    }
}

fn faithful(header: &Header, bytes: &[u8]) {
    let encoded = header.encode();
    let known = bytes.len().min(encoded.len());
    assert!(encoded[..known] == bytes[..known], "decode then encode gives the same bits");
    assert!(encoded[known..].iter().all(|&byte| byte == 0), "what was not there is zeros");
}

/// Everything a header can be asked.
fn look(header: &Header) {
    let geometry = header.geometry();
    assert!(header.virtual_size().is_multiple_of(512));
    assert!(u64::from(header.header_length()) <= geometry.cluster_bytes());
    assert!(header.unknown_fields().len() < header.header_length() as usize);
    let _ = (header.backing_format(), header.data_file_name(), header.bitmaps(), header.luks());
    let _ = header.base_pin().map(|pin| pin.is_about(header.backing_name().unwrap_or_default()));
    for extension in header.extensions() {
        let _ = (extension.magic(), extension.data().len());
        if let Extension::FeatureNames(names) = extension {
            assert!(names.rows().count() <= names.as_bytes().len() / 48);
            for bit in [0, 1, 63, 64, u32::MAX] {
                for kind in
                    [FeatureKind::Incompatible, FeatureKind::Compatible, FeatureKind::Autoclear]
                {
                    if let Some(name) = names.name(kind, bit) {
                        let text = name.to_string();
                        assert!(!text.chars().any(char::is_control), "{text:?} goes to terminals");
                    }
                }
            }
        }
    }
    let _ = header.validate_areas_disjoint();
    for len in [0, geometry.cluster_bytes(), u64::MAX] {
        let _ = header.validate_against_file_len(len);
    }
}

fn rewrite(header: &Header) {
    if let Ok(rewritten) = header.rewritten() {
        let again = decode(&rewritten);
        assert_eq!(again.rewritten().as_ref(), Ok(&rewritten), "rewriting twice changes nothing");
        same_meaning(header, &rewritten);
    }
    if let Ok(other) = header.with_backing(Some(b"other.raw"), Some(b"raw")) {
        let other = decode(&other);
        assert_eq!(other.backing_name(), Some(&b"other.raw"[..]));
        assert_eq!(other.backing_format(), Some(&b"raw"[..]));
        assert!(foreign(header) == foreign(&other), "unknown extensions are kept");
    }
    switch(header);
    if let Ok(alone) = header.with_backing(None, None) {
        let alone = decode(&alone);
        assert_eq!((alone.backing_name(), alone.backing_format()), (None, None));
    }
    if let Ok(without) = header.with_bitmaps(None) {
        assert_eq!(decode(&without).bitmaps(), None);
    }
}

fn decode(header: &Header) -> Header {
    let again = Header::decode(&header.encode()).expect("a header made here decodes");
    assert_eq!(again, *header);
    again
}

/// All that a rewrite has no business to change.
fn same_meaning(old: &Header, new: &Header) {
    assert_eq!(old.version(), new.version());
    assert_eq!(old.geometry(), new.geometry());
    assert_eq!(old.virtual_size(), new.virtual_size());
    assert_eq!(old.crypt_method(), new.crypt_method());
    assert_eq!(old.compression_type(), new.compression_type());
    assert_eq!(old.l1_table(), new.l1_table());
    assert_eq!(old.refcount_table(), new.refcount_table());
    assert_eq!(old.snapshot_table(), new.snapshot_table());
    assert_eq!(old.backing_name(), new.backing_name());
    assert_eq!(old.data_file_name(), new.data_file_name());
    assert_eq!(old.luks(), new.luks());
    assert!(old.unknown_fields() == new.unknown_fields(), "unknown fields are kept");
    assert!(unknown(old) == unknown(new), "unknown extensions are kept");
    let (old, new) = (old.features(), new.features());
    assert_eq!((old.incompatible, old.compatible), (new.incompatible, new.compatible));
}

fn unknown(header: &Header) -> Vec<(u32, Vec<u8>)> {
    let unknown = |extension: &&Extension| matches!(extension, Extension::Unknown { .. });
    header.extensions().filter(unknown).map(|found| (found.magic(), found.data())).collect()
}

/// Unknown extensions but for records of other versions about the backing file, which go with it.
fn foreign(header: &Header) -> Vec<(u32, Vec<u8>)> {
    const BASE_PIN: u32 = 0x7169_6d67;
    unknown(header).into_iter().filter(|(magic, _)| *magic != BASE_PIN).collect()
}

/// The stages of a switch end with its header, and begin with one that says what the old one says.
fn switch(header: &Header) {
    let pin = header.base_pin();
    let Ok(switch) = header.plan_backing_switch(Some(b"next.raw"), Some(b"raw"), pin.as_ref())
    else {
        return;
    };
    let mut cluster = header.encode();
    for stage in switch.stages() {
        if switch.survives_power_cuts() {
            let between = Header::decode(&cluster).expect("each stage leaves a header");
            let new = between.backing_name() == switch.to().backing_name();
            let expected = if new { switch.to() } else { header };
            assert_eq!(between.backing_name(), expected.backing_name());
            assert_eq!(between.backing_format(), expected.backing_format());
            assert!(foreign(&between) == foreign(header), "unknown extensions are kept");
        }
        let at = stage.offset.get() as usize;
        cluster[at..at + stage.bytes.len()].copy_from_slice(&stage.bytes);
    }
    assert_eq!(Header::decode(&cluster).as_ref(), Ok(switch.to()));
}

/// Changing a field gives the header whose bytes differ where the update says.
fn update(header: &Header) {
    let l1 = TablePointer { offset: header.l1_table_offset(), count: 4_194_304 };
    check_update(header, header.clone().with_l1_table(l1).ok(), &FieldUpdate::l1_table(l1));
    let refcounts = TablePointer { count: 1, ..header.refcount_table() };
    let changed = header.clone().with_refcount_table(refcounts).ok();
    check_update(header, changed, &FieldUpdate::refcount_table(refcounts));
    let snapshots = TablePointer { count: 65_536, ..header.snapshot_table() };
    let changed = header.clone().with_snapshot_table(snapshots).ok();
    check_update(header, changed, &FieldUpdate::snapshot_table(snapshots));
    let changed = header.clone().with_virtual_size(512).ok();
    check_update(header, changed, &FieldUpdate::virtual_size(512));
    let mut features = header.features();
    features.incompatible = features.incompatible.with(IncompatibleFeatures::DIRTY);
    let changed = header.clone().with_features(features).ok();
    check_update(header, changed, &FieldUpdate::incompatible_features(features.incompatible));
    let mut features = header.features();
    features.autoclear = AutoclearFeatures::from_bits(0);
    let changed = header.clone().with_features(features).ok();
    if header.header_length() > 72 {
        check_update(header, changed, &FieldUpdate::autoclear_features(features.autoclear));
    }
}

fn check_update(header: &Header, changed: Option<Header>, update: &FieldUpdate) {
    let Some(changed) = changed else { return };
    let mut bytes = header.encode();
    let at = update.offset() as usize;
    bytes[at..at + update.bytes().len()].copy_from_slice(update.bytes());
    assert!(changed.encode() == bytes, "the update at {at} writes the changed field");
}
