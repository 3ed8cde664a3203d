//! The canonical form: order, room, what is dropped.

use super::*;
use crate::bitmap::BitmapsExtension;
use crate::luks::LuksPointer;

#[test]
fn the_order_of_extensions_is_fixed() {
    let luks = LuksPointer { offset: HostOffset::new(0x40000), bytes: 4096 };
    let bitmaps = BitmapsExtension::new(1, HostOffset::new(0x90000), 32);
    let header = builder()
        .luks(luks)
        .data_file(Some(b"data"), false)
        .backing(b"base", Some(b"raw"))
        .build()
        .unwrap()
        .with_bitmaps(Some(bitmaps))
        .unwrap();
    let magics: Vec<String> = header.extensions().map(|e| format!("{:08x}", e.magic())).collect();
    assert_eq!(magics, ["e2792aca", "44415441", "0537be77", "6803f857", "23852875"]);
    assert_eq!(Header::decode(&header.encode()).unwrap(), header);
    let without = header.with_bitmaps(None).unwrap();
    assert_eq!(without.bitmaps(), None);
    assert!(without.features().autoclear.is_empty());
}

#[test]
fn bitmaps_that_nobody_vouches_for_are_dropped() {
    let bitmaps = BitmapsExtension::new(1, HostOffset::new(0x90000), 32);
    let header = builder().build().unwrap().with_bitmaps(Some(bitmaps)).unwrap();
    assert!(header.rewritten().unwrap().bitmaps().is_some());
    let cleared = header.with_features(Features::default()).unwrap();
    assert!(cleared.bitmaps().is_some(), "still there, and ignored by whoever looks");
    assert_eq!(cleared.rewritten().unwrap().bitmaps(), None);
}

#[test]
fn small_clusters_have_no_feature_names() {
    let new = |bits| {
        HeaderBuilder::new(geometry(bits), 1 << 20)
            .l1_table(table(0x6000, 64))
            .refcount_table(table(0x2000, 1))
            .build()
            .unwrap()
    };
    assert_eq!(new(12).extensions().count(), 0);
    assert_eq!(new(13).extensions().count(), 1);
}

#[test]
fn a_rewrite_that_does_not_fit_is_refused_and_nothing_changes() {
    let header = HeaderBuilder::new(geometry(9), 32768)
        .l1_table(table(0x600, 1))
        .refcount_table(table(0x200, 1))
        .build()
        .unwrap();
    let fits = header.with_backing(Some(&[b'x'; 512 - 120]), None).unwrap();
    assert_eq!(fits.encode().len(), 512);
    assert_eq!(Header::decode(&fits.encode()).unwrap(), fits);
    let error = header.with_backing(Some(&[b'x'; 512 - 119]), None).unwrap_err();
    insta::assert_snapshot!(error, @"header: 513 bytes do not fit into the 512 of cluster 0");
}

#[test]
fn a_backing_file_is_replaced_and_removed() {
    let header = builder().backing(b"base.raw", Some(b"raw")).build().unwrap();
    let other = header.with_backing(Some(b"other.qcow2"), Some(b"qcow2")).unwrap();
    assert_eq!(other.backing_name(), Some(&b"other.qcow2"[..]));
    assert_eq!(other.backing_format(), Some(&b"qcow2"[..]));
    let none = other.with_backing(None, None).unwrap();
    assert_eq!((none.backing_name(), none.backing_format()), (None, None));
    assert_eq!(none, builder().build().unwrap());
    assert_eq!(none.encode(), bytes());
}
