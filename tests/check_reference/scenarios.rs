//! Damage on purpose: every kind of finding.

use qimg::check::{CheckError, CheckOptions, CheckReport, Outcome, Repair, check};
use qimg::format::Header;
use qimg::io::MemoryStorage;
use testkit::{Folder, Qemu};

use super::poke::{BLOCK, L1, L2, Poke, REFCOUNT_TABLE, long, make, poked};
use super::reference::{Verdict, ours, theirs};

/// Both say the same; returns the lines.
fn both(folder: &Folder, bytes: &[u8]) -> Vec<String> {
    let path = folder.write("damaged.qcow2", bytes);
    let theirs = theirs(&path, Repair::None).unwrap();
    let ours = Verdict::from(&ours(bytes, Repair::None).0.unwrap());
    assert_eq!(ours, theirs);
    ours.lines
}

#[test]
fn entries_of_l1_and_l2_tables() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k");
    let cases: [&[Poke<'_>]; 12] = [
        &[],
        &[(L1, &long(0xc000_0000_0004_0001))],
        &[(L1, &long(0x4_0000))],
        &[(L1, &long(0x8000_0001_0000_0000))],
        &[(L2, &long(0x8000_0000_0005_0002))],
        &[(L2, &long(0x8000_0000_0005_0200))],
        &[(L2, &long(0x5_0000))],
        &[(L2, &long(0x8000_0000_0004_0000))],
        &[(L2, &long(0x8000_0001_0000_0000))],
        &[(L2 + 8, &long(0x6_0001))],
        &[(L2 + 16, &long(0x8000_0000_0007_0201))],
        &[(L2 + 32 * 8, &long(0xc000_0000_000a_0033))],
    ];
    let lines: Vec<_> =
        cases.iter().flat_map(|pokes| both(&folder, &poked(&made, pokes))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    ERROR found L1 entry with reserved bits set: c000000000040001
    ERROR OFLAG_COPIED L2 cluster: l1_index=0 l1_entry=40000 refcount=1
    ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x100000000 size 0x10000
    Leaked cluster 4 refcount=1 reference=0
    Leaked cluster 5 refcount=1 reference=0
    Leaked cluster 6 refcount=1 reference=0
    Leaked cluster 7 refcount=1 reference=0
    Leaked cluster 8 refcount=1 reference=0
    Leaked cluster 9 refcount=1 reference=0
    Leaked cluster 10 refcount=2 reference=0
    ERROR OFLAG_COPIED L2 cluster: l1_index=0 l1_entry=8000000100000000 refcount=0
    ERROR found l2 entry with reserved bits set: 8000000000050002
    ERROR offset=50200: Data cluster is not properly aligned; L2 entry corrupted.
    ERROR cluster 6 refcount=1 reference=2
    ERROR OFLAG_COPIED data cluster: l2_entry=50000 refcount=1
    ERROR cluster 4 refcount=1 reference=2
    Leaked cluster 5 refcount=1 reference=0
    ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x100000000 size 0x10000
    Leaked cluster 5 refcount=1 reference=0
    ERROR OFLAG_COPIED data cluster: l2_entry=8000000100000000 refcount=0
    ERROR OFLAG_COPIED data cluster: l2_entry=60001 refcount=1
    ERROR offset=70200: Preallocated cluster is not properly aligned; L2 entry corrupted.
    ERROR cluster 8 refcount=1 reference=2
    ERROR: coffset=0xa0033: copied flag must never be set for compressed clusters
    ");
}

#[test]
fn the_refcount_structure() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k");
    let cases: [&[Poke<'_>]; 7] = [
        &[(REFCOUNT_TABLE, &long(0x2_0001))],
        &[(REFCOUNT_TABLE, &long(0x2_0200))],
        &[(REFCOUNT_TABLE + 8, &long(0x2000_0000))],
        &[(REFCOUNT_TABLE + 8, &long(0x2_0000))],
        &[(BLOCK + 10, &[0, 0])],
        &[(BLOCK + 10, &[0, 3]), (BLOCK + 20, &[0, 1])],
        // Behind the end of the file nobody looks.
        &[(BLOCK + 40, &[0, 3])],
    ];
    let lines: Vec<_> =
        cases.iter().flat_map(|pokes| both(&folder, &poked(&made, pokes))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    ERROR refcount table entry 0 has reserved bits set
    Leaked cluster 2 refcount=1 reference=0
    ERROR refcount block 0 is not cluster aligned; refcount table entry corrupted
    Can't get refcount for cluster 0: Input/output error
    Can't get refcount for cluster 1: Input/output error
    Can't get refcount for cluster 2: Input/output error
    Can't get refcount for cluster 3: Input/output error
    Can't get refcount for cluster 4: Input/output error
    Can't get refcount for cluster 5: Input/output error
    Can't get refcount for cluster 6: Input/output error
    Can't get refcount for cluster 7: Input/output error
    Can't get refcount for cluster 8: Input/output error
    Can't get refcount for cluster 9: Input/output error
    Can't get refcount for cluster 10: Input/output error
    ERROR refcount block 1 is outside image
    ERROR refcount block 1 refcount=2
    ERROR cluster 2 refcount=1 reference=2
    ERROR cluster 5 refcount=0 reference=1
    ERROR OFLAG_COPIED data cluster: l2_entry=8000000000050000 refcount=0
    Leaked cluster 5 refcount=3 reference=1
    ERROR cluster 10 refcount=1 reference=2
    ERROR OFLAG_COPIED data cluster: l2_entry=8000000000050000 refcount=3
    ");
}

#[test]
fn subcluster_bitmaps() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k,extended_l2=on");
    let cases: [&[Poke<'_>]; 6] = [
        &[(L2 + 8, &long(0x0001_0000_ffff_ffff))],
        &[(L2 + 16 * 40 + 8, &long(1))],
        &[(L2 + 16 * 32 + 8, &long(1))],
        // Bit 0 of the descriptor has no meaning here.
        &[(L2, &long(0x8000_0000_0005_0001))],
        &[(L2, &long(0x8000_0000_0005_0200)), (L2 + 8, &long(0))],
        &[(L2, &long(0x8000_0000_0005_0200)), (L2 + 8, &long(0x1_0000_0001))],
    ];
    let lines: Vec<_> =
        cases.iter().flat_map(|pokes| both(&folder, &poked(&made, pokes))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    ERROR offset=50000: Allocated cluster has corrupted subcluster allocation bitmap
    ERROR: Unallocated cluster has non-zero subcluster allocation map
    ERROR compressed cluster 32 with non-zero subcluster allocation bitmap, entry=0x40000000000a0000
    Leaked cluster 10 refcount=2 reference=1
    ERROR offset=50200: Preallocated cluster is not properly aligned; L2 entry corrupted.
    ERROR cluster 6 refcount=1 reference=2
    ERROR offset=50200: Allocated cluster has corrupted subcluster allocation bitmap
    ERROR offset=50200: Data cluster is not properly aligned; L2 entry corrupted.
    ERROR cluster 6 refcount=1 reference=2
    ");
}

#[test]
fn counts_that_are_too_narrow() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k,refcount_bits=1");
    let lines = both(&folder, &poked(&made, &[(L2, &long(0x8000_0000_0006_0000))]));
    insta::assert_snapshot!(lines.join("\n"), @r"
    ERROR: overflow cluster offset=0x60000
    Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing
    Leaked cluster 5 refcount=1 reference=0
    ");
}

#[test]
fn data_in_another_file_has_no_counts() {
    let folder = Folder::new();
    let data = folder.path("data.raw");
    let made = make(&folder, &format!("data_file={}", data.display()));
    let cases: [&[Poke<'_>]; 5] = [
        &[],
        &[(L2 + 8, &long(0x8000_0000_0002_0000))],
        &[(L2 + 8, &long(0x1_0000))],
        &[(L2 + 8, &long(0x4000_0000_0001_0000))],
        &[(L2 + 8, &long(0x8000_0000_0001_0200))],
    ];
    let lines: Vec<_> =
        cases.iter().flat_map(|pokes| both(&folder, &poked(&made, pokes))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    ERROR OFLAG_COPIED data cluster: l2_entry=10000 refcount=1
    ERROR compressed cluster 1 with data file, entry=0x4000000000010000
    ERROR offset=10200: Data cluster is not properly aligned; L2 entry corrupted.
    ");
}

/// Two snapshots, and other data in between.
fn with_snapshots(folder: &Folder) -> Vec<u8> {
    make(folder, "cluster_size=64k");
    let path = folder.path("made.qcow2");
    let image = path.to_str().unwrap();
    Qemu::img(["snapshot", "-c", "one", image]).success();
    Qemu::io(["-f", "qcow2", "-c", "write -P 7 64k 64k", image]).success();
    Qemu::img(["snapshot", "-c", "two", image]).success();
    std::fs::read(path).unwrap()
}

#[test]
fn snapshots() {
    let folder = Folder::new();
    let made = with_snapshots(&folder);
    let table = Header::decode(&made).unwrap().snapshot_table_offset().get();
    let at = usize::try_from(table).unwrap();
    let l1 = u64::from_be_bytes(made[at..at + 8].try_into().unwrap());
    let cases: [&[Poke<'_>]; 8] = [
        &[],
        &[(at, &long(l1 + 512))],
        &[(at, &long(1 << 40))],
        &[(at, &long(L1 as u64))],
        &[(at + 8, &[0, 0x40, 0, 1])],
        &[(60, &[0, 0, 0, 1])],
        &[(60, &[0, 0, 0, 3])],
        &[(64, &long(1 << 40))],
    ];
    let lines = cases.iter().flat_map(|pokes| both(&folder, &poked(&made, pokes)));
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("Leaked")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    ERROR snapshot 1 (one) l1_offset=0xb0200: L1 table is not cluster aligned; snapshot table entry corrupted
    ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x10000000000 size 0x8
    ERROR cluster 3 refcount=1 reference=2
    ERROR cluster 13 refcount=2 reference=3
    ERROR cluster 14 refcount=2 reference=3
    ERROR snapshot 1 (one) l1_size=0x400001: L1 table is too large; snapshot table entry corrupted
    ERROR snapshot table entry 2 is incomplete
    ERROR snapshot table entry 0 is incomplete
    ERROR snapshot table entry 1 is incomplete
    ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x10000000000 size 0x50
    ");
}

#[test]
fn a_snapshot_table_that_neither_understands() {
    let folder = Folder::new();
    let made = with_snapshots(&folder);
    let table = Header::decode(&made).unwrap().snapshot_table_offset().get();
    let at = usize::try_from(table).unwrap();
    // Neither understands a table with too much extra data.
    let broken = poked(&made, &[(at + 36, &[0, 0, 4, 8])]);
    let broken_path = folder.write("broken.qcow2", &broken);
    assert!(theirs(&broken_path, Repair::None).is_none());
    assert!(matches!(ours(&broken, Repair::None).0, Err(CheckError::Format(_))));
}

#[test]
fn traps_58_to_60_bitmaps() {
    let folder = Folder::new();
    let path = folder.path("made.qcow2");
    let image = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", image, "64M"]).success();
    Qemu::img(["bitmap", "--add", image, "b0"]).success();
    Qemu::io(["-f", "qcow2", "-c", "write 0 256k", image]).success();
    Qemu::img(["bitmap", "--add", image, "b1"]).success();
    let made = std::fs::read(path).unwrap();
    let extension = Header::decode(&made).unwrap().bitmaps().unwrap();
    let directory = usize::try_from(extension.directory_offset().get()).unwrap();
    let word = |at: usize| u64::from_be_bytes(made[at..at + 8].try_into().unwrap());
    let (first, second) = (word(directory), word(directory + 32));
    let table = usize::try_from(first).unwrap();
    let cases: [&[Poke<'_>]; 8] = [
        &[],
        &[(88, &long(0))],
        &[(directory, &long(1 << 40))],
        &[(directory, &long(second))],
        &[(directory + 12, &[0, 0, 0, 3])],
        &[(table, &long(1))],
        &[(table, &long(0x5_0000))],
        &[(table, &long(1 << 40))],
    ];
    let lines: Vec<_> =
        cases.iter().flat_map(|pokes| both(&folder, &poked(&made, pokes))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    Leaked cluster 4 refcount=1 reference=0
    Leaked cluster 5 refcount=1 reference=0
    Leaked cluster 14 refcount=1 reference=0
    Leaked cluster 15 refcount=1 reference=0
    ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x10000000000 size 0x8
    Leaked cluster 4 refcount=1 reference=0
    Leaked cluster 5 refcount=1 reference=0
    Leaked cluster 4 refcount=1 reference=0
    Leaked cluster 5 refcount=1 reference=0
    ERROR cluster 14 refcount=1 reference=2
    Leaked cluster 4 refcount=1 reference=0
    Leaked cluster 4 refcount=1 reference=0
    ERROR cluster 5 refcount=1 reference=2
    ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x10000000000 size 0x10000
    Leaked cluster 4 refcount=1 reference=0
    ");
    let refused: [&[Poke<'_>]; 5] = [
        &[(directory, &long(first + 512))],
        &[(directory + 8, &[0, 0, 0, 2])],
        &[(directory + 12, &[0, 0, 0, 4])],
        &[(table, &long(2))],
        &[(table, &long(0x5_0001))],
    ];
    for pokes in refused {
        let broken = poked(&made, pokes);
        assert!(theirs(&folder.write("broken.qcow2", &broken), Repair::None).is_none());
        assert!(ours(&broken, Repair::None).0.is_err(), "{pokes:?}");
    }
}

#[test]
fn the_area_of_an_encrypted_image_is_counted_without_a_key() {
    let folder = Folder::new();
    let path = folder.path("luks.qcow2");
    let image = path.to_str().unwrap();
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let secret = ["--object", "secret,id=s,data=x"];
    let create = ["create", "-q", "-f", "qcow2", "-o", options, image, "1M"];
    let (verb, rest) = create.split_first().unwrap();
    Qemu::img([verb].into_iter().chain(&secret).chain(rest)).success();
    let bytes = std::fs::read(&path).unwrap();
    let report = ours(&bytes, Repair::None).0.unwrap();
    assert_eq!(report.outcome(), Outcome::Consistent);
    assert_eq!(report.image_end_offset, bytes.len() as u64);
}

#[test]
fn the_report_is_the_same_for_any_number_of_threads() {
    let folder = Folder::new();
    let path = folder.path("made.qcow2");
    let image = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", image, "4M"]).success();
    Qemu::io(["-f", "qcow2", "-c", "write 0 4M", image]).success();
    let mut bytes = std::fs::read(&path).unwrap();
    for at in (0x10000..0x100_0000).step_by(4096 + 8) {
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x82;
        }
    }
    let storage = MemoryStorage::from(&bytes[..]);
    let reports: Vec<CheckReport> = [1, 2, 7]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| check(&storage, CheckOptions::default()).unwrap())
        })
        .collect();
    assert!(reports[0].findings.len() > 20, "{}", reports[0].findings.len());
    assert!(reports.iter().all(|report| *report == reports[0]));
}

#[test]
fn progress_ends_where_it_said_it_would() {
    let folder = Folder::new();
    let made = make(&folder, "cluster_size=64k");
    let storage = MemoryStorage::from(&made[..]);
    let seen = std::sync::Mutex::new(Vec::new());
    let progress = |now| seen.lock().unwrap().push(now);
    let options = CheckOptions { progress: Some(&progress), ..CheckOptions::default() };
    check(&storage, options).unwrap();
    let seen = seen.lock().unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.tables_done, last.tables_total), (1, 1));
}
