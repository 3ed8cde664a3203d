//! Tests of the snapshot table.

use proptest::prelude::*;

use super::*;

fn snapshot(id: &str, name: &str) -> Snapshot {
    let l1_table = TablePointer { offset: HostOffset::new(0x50000), count: 1 };
    let state = SnapshotState { virtual_size: 1 << 20, ..SnapshotState::default() };
    Snapshot::new(l1_table, id.as_bytes(), name.as_bytes(), state).unwrap()
}

fn complete(bytes: &[u8], count: u32) -> SnapshotTable {
    match SnapshotTable::decode(bytes, count).unwrap() {
        SnapshotTableDecode::Complete(table) => table,
        SnapshotTableDecode::NeedsBytes(needed) => panic!("needs {needed} bytes"),
    }
}

#[test]
fn entries_start_at_multiples_of_8_and_the_last_is_not_padded() {
    let table = SnapshotTable::new(vec![snapshot("1", "odd"), snapshot("2", "")]).unwrap();
    let bytes = table.encode();
    // 40 + 24 + 1 + 3 = 68, padded to 72; 40 + 24 + 1 = 65.
    assert_eq!(bytes.len(), 72 + 65);
    assert_eq!(table.bytes(), bytes.len() as u64);
    assert_eq!(&bytes[64..72], b"1odd\0\0\0\0");
    assert_eq!(
        complete(&bytes, 2),
        SnapshotTable::new(complete(&bytes, 2).into_snapshots()).unwrap()
    );
    assert_eq!(complete(&bytes, 2).encode(), bytes);
}

#[test]
fn extra_data_decides_which_fields_exist() {
    let mut head = snapshot("1", "a");
    head.head.vm_state_size = U32::new(7);
    head.extra = Vec::new();
    head.head.extra_data_size = U32::ZERO;
    assert_eq!((head.vm_state_bytes(), head.virtual_size(), head.icount()), (7, None, None));
    assert!(head.lacks_extra_data());
    let head = head.with_required_extra_data(4096);
    assert_eq!((head.vm_state_bytes(), head.virtual_size(), head.icount()), (7, Some(4096), None));
    assert_eq!(snapshot("1", "a").icount(), None, "all ones means absent");
}

#[test]
fn the_64_bit_vm_state_size_overrides_the_32_bit_one() {
    let l1_table = TablePointer { offset: HostOffset::ZERO, count: 0 };
    let state = SnapshotState { vm_state_bytes: 5 << 32, ..SnapshotState::default() };
    let snapshot = Snapshot::new(l1_table, b"1", b"", state).unwrap();
    assert_eq!(snapshot.head.vm_state_size.get(), 0);
    assert_eq!(snapshot.vm_state_bytes(), 5 << 32);
}

#[test]
fn more_bytes_are_asked_for_in_steps() {
    let bytes =
        SnapshotTable::new(vec![snapshot("1", "odd"), snapshot("2", "b")]).unwrap().encode();
    let needs = |len: usize| SnapshotTable::decode(&bytes[..len], 2).unwrap();
    assert_eq!(needs(0), SnapshotTableDecode::NeedsBytes(40));
    assert_eq!(needs(40), SnapshotTableDecode::NeedsBytes(68));
    assert_eq!(needs(68), SnapshotTableDecode::NeedsBytes(112));
    assert_eq!(needs(112), SnapshotTableDecode::NeedsBytes(72 + 66));
    assert!(matches!(needs(72 + 66), SnapshotTableDecode::Complete(_)));
}

#[test]
fn too_many_and_too_long_entries_are_refused() {
    insta::assert_snapshot!(SnapshotTable::decode(&[], 65537).unwrap_err(), @"snapshot table: nb_snapshots is 65537, allowed is 0..=65536");
    let mut bytes = SnapshotTable::new(vec![snapshot("1", "odd")]).unwrap().encode();
    bytes[36..40].copy_from_slice(&1025_u32.to_be_bytes());
    insta::assert_snapshot!(SnapshotTable::decode(&bytes, 1).unwrap_err(), @"snapshot table: extra_data_size at offset 0x24 is 1025, allowed is 0..=1024");
}

#[test]
fn a_snapshot_l1_table_is_checked_when_it_is_used() {
    let geometry = Geometry::new(
        crate::ClusterBits::DEFAULT,
        crate::RefcountOrder::DEFAULT,
        crate::L2Layout::Standard,
    )
    .unwrap();
    let mut broken = snapshot("1", "a");
    assert_eq!(broken.validate_l1_table(geometry), Ok(()));
    broken.head.l1_size = U32::new(4_194_305);
    insta::assert_snapshot!(broken.validate_l1_table(geometry).unwrap_err(), @"snapshot table: l1_size is 4194305, allowed is 0..=4194304");
    broken.head.l1_size = U32::new(1);
    broken.head.l1_table_offset = U64::new(0x50200);
    insta::assert_snapshot!(broken.validate_l1_table(geometry).unwrap_err(), @"snapshot table: l1_table_offset is 0x50200, allowed is a multiple of the cluster size whose table ends below 2^63");
}

proptest! {
    #[test]
    fn any_bytes_decode_without_panic_and_encode_back(
        bytes in proptest::collection::vec(
            prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..600),
        count in 0_u32..6,
    ) {
        if let Ok(SnapshotTableDecode::Complete(table)) = SnapshotTable::decode(&bytes, count) {
            let encoded = table.encode();
            prop_assert_eq!(&bytes[..encoded.len()], &encoded[..]);
            prop_assert_eq!(table.snapshots().len(), count as usize);
        }
    }

    #[test]
    fn tables_come_back_as_they_were(
        names in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..5),
        vm_state_bytes in any::<u64>(),
    ) {
        let l1_table = TablePointer { offset: HostOffset::new(1 << 20), count: 3 };
        let state = SnapshotState { vm_state_bytes, icount: Some(4), ..SnapshotState::default() };
        let snapshots: Vec<Snapshot> = names
            .iter()
            .map(|(id, name)| Snapshot::new(l1_table, id, name, state).unwrap())
            .collect();
        let bytes = SnapshotTable::new(snapshots.clone()).unwrap().encode();
        let decoded = complete(&bytes, u32::try_from(names.len()).unwrap());
        prop_assert_eq!(decoded.encode(), bytes);
        for (decoded, (id, name)) in decoded.snapshots().iter().zip(&names) {
            prop_assert_eq!((decoded.id(), decoded.name()), (&id[..], &name[..]));
            prop_assert_eq!(decoded.vm_state_bytes(), vm_state_bytes);
        }
    }
}
