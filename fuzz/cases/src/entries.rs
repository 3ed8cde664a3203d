//! L1 and L2 entries in every dialect: the same bits mean the same, and no change makes anything
//! up or forgets anything.

use core::ops::Range;

use qimg::cluster_map::{
    ClusterType, ClusterWrite, Dialect, Mapping, RunKind, SubclusterType, Subclusters,
    WriteDecision, ZeroMode, zeroed_bitmap, zeroed_mapping,
};
use qimg::format::{
    ClusterBits, CompressedDescriptor, Geometry, GuestOffset, HostOffset, L1Entry, L2Bitmap,
    L2Entry, L2Layout, RefcountOrder,
};

use crate::input::Input;

/// Takes the first byte for the shape of the image, then for each entry 16 bytes of an extended
/// one and 4 bytes of the range that a write touches.
///
/// # Panics
/// A promise of the interpretation of entries is broken.
pub fn entries(bytes: &[u8]) {
    let mut input = Input(bytes);
    let shape = input.u8();
    let bits = ClusterBits::new(9 + u32::from(shape % 13)).expect("9..=21");
    while !input.is_empty() {
        let (entry, bitmap) = (L2Entry::from_bits(input.u64()), L2Bitmap::from_bits(input.u64()));
        let touched = range(&mut input, bits);
        let standard = geometry(bits, L2Layout::Standard).expect("standard entries fit all");
        l1(entry.bits());
        for dialect in [Dialect::version_2(standard), Dialect::version_3(standard)] {
            for dialect in [dialect, dialect.with_external_data()] {
                cluster(dialect, entry, touched.clone());
            }
        }
        if let Some(extended) = geometry(bits, L2Layout::Extended) {
            let dialect = Dialect::version_3(extended);
            for dialect in [dialect, dialect.with_external_data()] {
                subclusters(dialect, Mapping::extended(entry, bitmap), touched.clone());
            }
        }
    }
}

/// Bytes of a cluster, at least one.
fn range(input: &mut Input<'_>, bits: ClusterBits) -> Range<u64> {
    let cluster_bytes = 1 << bits.get();
    let scale = bits.get().saturating_sub(16);
    let start = (u64::from(input.u16()) << scale) % cluster_bytes;
    let len = (u64::from(input.u16()) << scale) % (cluster_bytes - start);
    start..start + len + 1
}

fn geometry(bits: ClusterBits, layout: L2Layout) -> Option<Geometry> {
    Geometry::new(bits, RefcountOrder::DEFAULT, layout).ok()
}

fn l1(word: u64) {
    let entry = L1Entry::from_bits(word);
    assert_eq!(entry.bits(), word);
    assert_eq!(entry.with_copied(entry.is_copied()), entry);
    if let Some(table) = entry.table_offset() {
        assert!(table != HostOffset::ZERO && table.get() < 1 << 56, "{table}");
        assert_eq!(L1Entry::owned(table).table_offset(), Some(table));
    }
}

/// The guest cluster that all this is about: with an external data file, the place of its data.
fn guest(dialect: Dialect, entry: L2Entry) -> GuestOffset {
    let at = entry.host_offset().get();
    GuestOffset::new(dialect.geometry().cluster_start(at))
}

fn cluster(dialect: Dialect, entry: L2Entry, touched: Range<u64>) {
    let geometry = dialect.geometry();
    if let Some(descriptor) = CompressedDescriptor::decode(geometry, entry) {
        assert_eq!(descriptor.encode(geometry), entry.with_copied(false));
        assert!(descriptor.readable_bytes() <= 2 * geometry.cluster_bytes());
    }
    let guest = guest(dialect, entry);
    let kind = ClusterType::classify(dialect, guest, entry).ok();
    if !dialect.has_external_data() {
        let elsewhere = ClusterType::classify(dialect, GuestOffset::new(1 << 40), entry).ok();
        assert_eq!(elsewhere, kind, "the meaning does not depend on the place");
    }
    let mapping = Mapping::standard(entry);
    let decision = WriteDecision::decide(dialect, guest, mapping, touched.clone()).ok();
    assert_eq!(decision.is_some(), kind.is_some(), "what is readable is writable");
    let (Some(kind), Some(decision)) = (kind, decision) else { return };
    let _ = kind.name();
    match kind {
        ClusterType::Normal { host } | ClusterType::ZeroAllocated { host } => {
            assert!(geometry.is_cluster_aligned(host.get()) && host.get() < 1 << 56, "{host}");
            assert!(host != HostOffset::ZERO || dialect.has_external_data());
        }
        ClusterType::Compressed(_) => assert!(!dialect.has_external_data()),
        ClusterType::Unallocated | ClusterType::ZeroPlain => {}
    }
    match decision {
        WriteDecision::InPlace { host } => {
            assert!(entry.is_copied() || dialect.has_external_data(), "nobody shares it");
            assert_eq!(kind, ClusterType::Normal { host });
        }
        WriteDecision::NewCluster(write) => {
            assert_eq!(write.cow_start.len, touched.start, "all before it comes along");
            assert_eq!(touched.end + write.cow_end.len, geometry.cluster_bytes(), "all behind it");
            assert_eq!(write.bitmap, L2Bitmap::EMPTY);
        }
    }
    let _ = RunKind::of(kind, geometry.cluster_bytes() - 1);
    zeroed(dialect, mapping, kind);
}

/// Zeroing a whole cluster by metadata leaves an entry that reads as zeros.
fn zeroed(dialect: Dialect, mapping: Mapping, kind: ClusterType) {
    for mode in [ZeroMode::Keep, ZeroMode::Unmap] {
        let Some(zeroed) = zeroed_mapping(dialect, mapping, kind, mode) else {
            assert!(!dialect.has_zero_flag());
            continue;
        };
        let guest = guest(dialect, zeroed.entry);
        let kept = if dialect.has_subclusters() {
            let answer = Subclusters::classify(dialect, guest, zeroed).expect("made here");
            let run = answer.run_from(0);
            assert_eq!(run.count, L2Bitmap::SUBCLUSTER_COUNT, "all alike");
            match run.kind {
                SubclusterType::ZeroPlain => None,
                SubclusterType::ZeroAllocated { host } => Some(host),
                other => panic!("{zeroed} does not read as zeros but is {other:?}"),
            }
        } else {
            match ClusterType::classify(dialect, guest, zeroed.entry).expect("made here") {
                ClusterType::ZeroPlain => None,
                ClusterType::ZeroAllocated { host } => Some(host),
                other => panic!("{zeroed} does not read as zeros but is {other:?}"),
            }
        };
        if let Some(kept) = kept {
            assert_eq!(mode, ZeroMode::Keep);
            let old = match kind {
                ClusterType::Normal { host } | ClusterType::ZeroAllocated { host } => Some(host),
                _ => None,
            };
            assert_eq!(old, Some(kept), "what is kept was there");
        }
    }
}

fn subclusters(dialect: Dialect, mapping: Mapping, touched: Range<u64>) {
    let Mapping { entry, bitmap } = mapping;
    assert_eq!(L2Bitmap::from_parts(bitmap.allocated(), bitmap.zero()), bitmap);
    let guest = guest(dialect, entry);
    let decision = WriteDecision::decide(dialect, guest, mapping, touched.clone()).ok();
    let answer = Subclusters::classify(dialect, guest, mapping).ok();
    assert_eq!(decision.is_some(), answer.is_some(), "what is readable is writable");
    let (Some(answer), Some(decision)) = (answer, decision) else { return };
    let mut next = 0;
    for run in answer.runs() {
        assert_eq!(run.first, next, "no gap, no overlap");
        assert!(run.count > 0);
        next += run.count;
        let inside = run.first..next;
        assert!(inside.clone().all(|index| answer.kind(index).is_like(run.kind)), "{run}");
    }
    assert_eq!(next, L2Bitmap::SUBCLUSTER_COUNT, "runs cover the cluster");
    match decision {
        WriteDecision::InPlace { .. } => {
            for index in parts(dialect, touched) {
                let kind = answer.kind(index);
                assert!(matches!(kind, SubclusterType::Normal { .. }), "{mapping}: {kind:?}");
            }
        }
        WriteDecision::NewCluster(write) => {
            written(dialect, mapping, answer, touched, write);
        }
    }
    zeroed(dialect, mapping, answer.cluster());
    if !entry.is_compressed() {
        let range = 3..17;
        let bitmap = zeroed_bitmap(bitmap, range.clone());
        let zeroed = Subclusters::classify(dialect, guest, Mapping::extended(entry, bitmap));
        let zeroed = zeroed.expect("zeroing leaves nothing illegal");
        for index in 0..L2Bitmap::SUBCLUSTER_COUNT {
            let kind = zeroed.kind(index);
            let is_zero =
                matches!(kind, SubclusterType::ZeroPlain | SubclusterType::ZeroAllocated { .. });
            assert!(is_zero || !range.contains(&index), "{kind:?}");
            assert!(range.contains(&index) || kind == answer.kind(index), "the others stay");
        }
    }
}

/// Indices of the subclusters that a range of bytes touches.
fn parts(dialect: Dialect, bytes: Range<u64>) -> Range<u32> {
    let size = dialect.geometry().subcluster_bytes();
    (bytes.start / size) as u32..bytes.end.div_ceil(size) as u32
}

/// The entry that a write leaves: what it brings is data, what it does not bring means what it
/// meant before, and host bytes that move are brought along.
fn written(
    dialect: Dialect,
    old: Mapping,
    answer: Subclusters,
    touched: Range<u64>,
    write: ClusterWrite,
) {
    assert!(write.cow_start.len <= touched.start);
    assert!(touched.end + write.cow_end.len <= dialect.geometry().cluster_bytes());
    let brought = touched.start - write.cow_start.len..touched.end + write.cow_end.len;
    let host = write.place.unwrap_or(HostOffset::new(7 << 30));
    let new = Mapping::extended(L2Entry::owned(host), write.bitmap);
    let now = Subclusters::classify(dialect, GuestOffset::new(host.get()), new);
    let now = now.unwrap_or_else(|error| panic!("{old} becomes {new}: {error}"));
    let stays = answer.cluster() == ClusterType::Normal { host };
    for index in 0..L2Bitmap::SUBCLUSTER_COUNT {
        let (old_kind, new_kind) = (answer.kind(index), now.kind(index));
        let is_data = matches!(new_kind, SubclusterType::Normal { .. });
        if parts(dialect, touched.clone()).contains(&index) {
            assert!(is_data, "{old} becomes {new}: subcluster {index} was written");
        }
        if is_data {
            let size = dialect.geometry().subcluster_bytes();
            let whole = u64::from(index) * size..u64::from(index + 1) * size;
            let brings_all = brought.start <= whole.start && whole.end <= brought.end;
            let was_data = stays && matches!(old_kind, SubclusterType::Normal { .. });
            assert!(brings_all || was_data, "{old} becomes {new}: subcluster {index} is stale");
            continue;
        }
        let means = |kind| match kind {
            SubclusterType::UnallocatedPlain | SubclusterType::UnallocatedAllocated { .. } => 0,
            SubclusterType::ZeroPlain | SubclusterType::ZeroAllocated { .. } => 1,
            SubclusterType::Normal { .. } | SubclusterType::Compressed(_) => 2,
        };
        assert_eq!(means(old_kind), means(new_kind), "{old} becomes {new}: subcluster {index}");
    }
}
