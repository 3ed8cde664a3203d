//! Which entry each operation leaves for each state of a cluster, in every dialect: as a table that
//! people can read, and beside the entries that the real tool leaves for the same commands.

use core::fmt::Write as _;
use std::sync::Arc;

use block_io::{MemoryStorage, StorageExt};
use cow_engine::{Backing, Error, Image, Preallocation, ZeroMode};
use qcow2_format::Version;
use testkit::{Folder, Qemu};

use crate::images;
use crate::kinds::{Data, Kind, Media};
use crate::power::assert_closed;
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;
const KIB: u64 = 1024;

/// A request, with offsets inside one cluster.
#[derive(Clone, Copy)]
enum Do {
    Write(u64, u64),
    Zero(u64, u64, ZeroMode),
    Discard(u64, u64),
    Compress,
}

use Do::{Compress, Discard, Write, Zero};
use ZeroMode::{Keep, Unmap};

/// What a cluster is before the operation, and how it gets there.
const STATES: &[(&str, &[Do])] = &[
    ("untouched", &[]),
    ("zeroed", &[Zero(0, CLUSTER, Unmap)]),
    ("written", &[Write(0, CLUSTER)]),
    ("written, zeroed", &[Write(0, CLUSTER), Zero(0, CLUSTER, Keep)]),
    ("compressed", &[Compress]),
    ("part written", &[Write(4 * KIB, 2 * KIB)]),
    ("part zeroed", &[Zero(8 * KIB, 4 * KIB, Keep)]),
    ("mixed", &[Write(0, 32 * KIB), Zero(8 * KIB, 4 * KIB, Keep), Zero(62 * KIB, 2 * KIB, Keep)]),
];

const OPERATIONS: &[(&str, Do)] = &[
    ("write all", Write(0, CLUSTER)),
    ("write 512 at 1k", Write(KIB, 512)),
    ("write 3k at 9k", Write(9 * KIB, 3 * KIB)),
    ("zero all, keep", Zero(0, CLUSTER, Keep)),
    ("zero all, unmap", Zero(0, CLUSTER, Unmap)),
    ("zero 4k at 8k, keep", Zero(8 * KIB, 4 * KIB, Keep)),
    ("zero 4k at 8k, unmap", Zero(8 * KIB, 4 * KIB, Unmap)),
    ("zero 512 at 1k", Zero(KIB, 512, Keep)),
    ("zero 8k at 5k, unmap", Zero(5 * KIB, 8 * KIB, Unmap)),
    ("zero from 3k, unmap", Zero(3 * KIB, 61 * KIB, Unmap)),
    ("discard all", Discard(0, CLUSTER)),
    ("discard 4k at 8k", Discard(8 * KIB, 4 * KIB)),
    ("compress", Compress),
];

impl Do {
    fn command(self, cluster: u64) -> String {
        match self {
            Write(at, len) => format!("write -P 1 {} {len}", cluster + at),
            Zero(at, len, Keep) => format!("write -z {} {len}", cluster + at),
            Zero(at, len, Unmap) => format!("write -z -u {} {len}", cluster + at),
            Discard(at, len) => format!("discard {} {len}", cluster + at),
            Compress => format!("write -c -P 3 {cluster} {CLUSTER}"),
        }
    }

    fn run(self, image: &Image, cluster: u64) {
        match self {
            Write(at, len) => image.write_at(cluster + at, &vec![1; len as usize]).unwrap(),
            Zero(at, len, mode) => image.write_zeroes_at(cluster + at, len, mode).unwrap(),
            Discard(at, len) => image.discard_at(cluster + at, len).unwrap(),
            Compress => {
                let mut compressor = image.compressor().unwrap();
                let bytes = [3; CLUSTER as usize];
                match image.write_compressed_at(&mut compressor, cluster, &bytes) {
                    // Refused by both sides: in use already, or nowhere to put it.
                    Ok(()) | Err(Error::Allocated { .. } | Error::Plan { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// One row for each state, one column for each operation and one for none: a cluster for each.
fn clusters() -> impl Iterator<Item = (u64, usize, usize)> {
    let columns = OPERATIONS.len() + 1;
    (0..STATES.len() * columns)
        .map(move |number| (number as u64 * CLUSTER, number / columns, number % columns))
}

/// Requests, each with the first guest byte of its cluster.
type Requests = Vec<(u64, Do)>;

/// Everything in order: all states first, flushed, then all operations.
fn requests() -> (Requests, Requests) {
    let states = clusters()
        .flat_map(|(cluster, state, _)| STATES[state].1.iter().map(move |&what| (cluster, what)));
    let operations = clusters()
        .filter(|(_, _, column)| *column > 0)
        .map(|(cluster, _, column)| (cluster, OPERATIONS[column - 1].1));
    (states.collect(), operations.collect())
}

/// The words of the entries, whatever the host offset: a cluster that is there is `1 << 16`.
fn entries(image: &[u8], extended: bool) -> Vec<(u64, u64)> {
    let image = MemoryStorage::from(image);
    let offset = 0x00ff_ffff_ffff_fe00;
    let table = images::word(&image, images::word(&image, 40)) & offset;
    let words = if extended { 2 } else { 1 };
    clusters()
        .map(|(cluster, ..)| {
            let at = table + cluster / CLUSTER * 8 * words;
            let entry = images::word(&image, at);
            let bitmap = if extended { images::word(&image, at + 8) } else { 0 };
            let place = match entry {
                entry if entry >> 62 & 1 == 1 => 0,
                entry => u64::from(entry & offset != 0) << 16,
            };
            (entry & (3 << 62 | 0x1ff) & !(u64::from(entry >> 62 & 1 == 1) * 0x1ff) | place, bitmap)
        })
        .collect()
}

/// In words: the type of the cluster, then for each subcluster `D`ata, `Z`ero, or `.` for nothing,
/// runs of which are shortened.
fn describe((entry, bitmap): (u64, u64), outside: bool, extended: bool) -> String {
    let exists = entry >> 16 & 1 == 1 || outside && entry >> 63 == 1;
    let copied = if exists && entry >> 63 == 0 { " not copied" } else { "" };
    let kind = match (entry >> 62 & 1 == 1, exists, entry & 1 == 1) {
        (true, ..) => "compressed",
        (_, true, false) => "data",
        (_, true, true) => "zero, kept",
        (_, false, true) => "zero",
        (_, false, false) => "-",
    };
    let mut text = format!("{kind}{copied}");
    if extended && bitmap != 0 {
        text.push(' ');
        let kind = |index: u64| match (bitmap >> index & 1, bitmap >> (32 + index) & 1) {
            (0, 0) => '.',
            (1, 0) => 'D',
            (0, 1) => 'Z',
            _ => '!',
        };
        let mut index = 0;
        while index < 32 {
            let run = (index..32).take_while(|&other| kind(other) == kind(index)).count() as u64;
            let _ = write!(text, "{}{run}", kind(index));
            index += run;
        }
    }
    text
}

fn table(entries: &[(u64, u64)], kind: Kind) -> String {
    let mut text = String::new();
    for ((_, state, column), entry) in clusters().zip(entries) {
        let entry = describe(*entry, kind.data != Data::Inside, kind.extended_l2);
        let _ = match column {
            0 => writeln!(text, "{}: {entry}", STATES[state].0),
            column => writeln!(text, "    {:22}{entry}", OPERATIONS[column - 1].0),
        };
    }
    text
}

/// What lies below.
#[derive(Clone, Copy)]
enum Below {
    Nothing,
    Data,
    Holes,
}

/// Takes COPIED from every entry, as if a snapshot shared the clusters.
fn share(image: &MemoryStorage, kind: Kind) {
    let table = images::word(image, images::word(image, 40)) & 0x00ff_ffff_ffff_fe00;
    let words = if kind.extended_l2 { 2 } else { 1 };
    for (cluster, ..) in clusters() {
        let at = table + cluster / CLUSTER * 8 * words;
        images::poke(image, at, |entry| entry & !(1 << 63));
    }
}

fn ours(kind: Kind, below: Below, shared: bool) -> Media<MemoryStorage> {
    let size = kind.size as usize;
    let backing = match below {
        Below::Nothing => None,
        Below::Data => Some(TestBacking::new(vec![0xbb; size])),
        Below::Holes => Some(TestBacking::new(vec![0; size])),
    };
    let backing = backing.map(|backing| Arc::new(backing) as Arc<dyn Backing>);
    let media = kind.memory();
    let (states, operations) = requests();
    for (requests, last) in [(states, false), (operations, true)] {
        let image = kind.open(&media, backing.clone());
        for (cluster, what) in requests {
            what.run(&image, cluster);
        }
        image.close().unwrap();
        if !shared {
            assert_closed(&images::bytes(&*media.image));
        } else if !last {
            share(&media.image, kind);
        }
    }
    media
}

/// The files that the real tool leaves for the same commands.
fn theirs(kind: Kind, below: Below, shared: bool, folder: &Folder) -> Media<MemoryStorage> {
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    let size = kind.size.to_string();
    let mut options = format!(
        "compat={},extended_l2={},lazy_refcounts={},refcount_bits={}",
        if kind.version == Version::V2 { "0.10" } else { "1.1" },
        if kind.extended_l2 { "on" } else { "off" },
        if kind.lazy_refcounts { "on" } else { "off" },
        1 << kind.refcount_order,
    );
    if kind.preallocation == Preallocation::Metadata {
        options.push_str(",preallocation=metadata");
    }
    if kind.data != Data::Inside {
        let _ = write!(options, ",data_file={}", path("theirs.data"));
    }
    if kind.data == Data::Raw {
        options.push_str(",data_file_raw=on");
    }
    let name = path("theirs.qcow2");
    let mut words: Vec<&str> = vec!["create", "-q", "-f", "qcow2", "-o", &options];
    let base = path("base.raw");
    match below {
        Below::Nothing => {}
        Below::Data => drop(folder.write("base.raw", &vec![0xbb; kind.size as usize])),
        Below::Holes => {
            Qemu::img(["create", "-q", "-f", "raw", &base, &size]).success();
        }
    }
    if !matches!(below, Below::Nothing) {
        words.extend(["-F", "raw", "-b", &base]);
    }
    words.extend([&name[..], &size]);
    Qemu::img(words).success();
    let load =
        |name: &str| Arc::new(MemoryStorage::from(&std::fs::read(folder.path(name)).unwrap()[..]));
    let (states, operations) = requests();
    for (requests, last) in [(states, false), (operations, true)] {
        let commands: Vec<String> =
            requests.into_iter().map(|(cluster, what)| what.command(cluster)).collect();
        let mut words = vec!["-f", "qcow2", &name];
        words.extend(commands.iter().flat_map(|command| ["-c", command]));
        // Compressed writes over something fail, as ours do; the other commands go on.
        let output = Qemu::io(words);
        assert!(!output.stdout.is_empty(), "{}", output.stderr);
        if shared && !last {
            let image = load("theirs.qcow2");
            share(&image, kind);
            folder.write("theirs.qcow2", &images::bytes(&*image));
        }
    }
    let data = (kind.data != Data::Inside).then(|| load("theirs.data"));
    Media { image: load("theirs.qcow2"), data }
}

/// What the guest sees, by our own reading.
fn content(kind: Kind, media: &Media<MemoryStorage>, below: Below) -> Vec<u8> {
    let byte = if matches!(below, Below::Data) { 0xbb } else { 0 };
    let layer = Arc::new(TestBacking::new(vec![byte; kind.size as usize]));
    let backing = (!matches!(below, Below::Nothing)).then_some(layer as Arc<dyn Backing>);
    images::read_all(&media.open_read_only(backing).unwrap())
}

fn compare(kind: Kind, below: Below) -> String {
    compare_when(kind, below, false)
}

fn compare_when(kind: Kind, below: Below, shared: bool) -> String {
    let folder = Folder::new();
    let (ours, theirs) = (ours(kind, below, shared), theirs(kind, below, shared, &folder));
    let file =
        |media: &Media<MemoryStorage>| entries(&images::bytes(&*media.image), kind.extended_l2);
    let (our_table, their_table) = (table(&file(&ours), kind), table(&file(&theirs), kind));
    let mut state = "";
    let mut differences = String::new();
    for (our, their) in our_table.lines().zip(their_table.lines()) {
        if !our.starts_with(' ') {
            state = our;
        }
        if our != their {
            let _ = writeln!(differences, "{state}:\n  ours   {our}\n  theirs {their}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert!(content(kind, &ours, below) == content(kind, &theirs, below), "contents differ");
    if let (Data::Raw, Some(our), Some(their)) = (kind.data, &ours.data, &theirs.data) {
        let mut bytes = vec![0; kind.size as usize];
        their.read_zero_filled(0, &mut bytes).unwrap();
        assert!(images::bytes(&**our) == bytes, "the raw files differ");
    }
    our_table
}

/// Disk of all clusters of the table, and one byte less than a cluster more.
fn standard() -> Kind {
    Kind::standard(clusters().count() as u64 * CLUSTER + 5 * 512, 16)
}

fn extended() -> Kind {
    Kind::extended(standard().size, 16)
}

#[test]
fn trap_70_71_72_version_2() {
    let kind = Kind { version: Version::V2, ..standard() };
    insta::assert_snapshot!("version_2", compare(kind, Below::Nothing));
    insta::assert_snapshot!("version_2_over_data", compare(kind, Below::Data));
    insta::assert_snapshot!("version_2_over_holes", compare(kind, Below::Holes));
}

#[test]
fn trap_70_71_72_version_3() {
    insta::assert_snapshot!("version_3", compare(standard(), Below::Nothing));
    insta::assert_snapshot!("version_3_over_data", compare(standard(), Below::Data));
    insta::assert_snapshot!("version_3_over_holes", compare(standard(), Below::Holes));
}

#[test]
fn trap_27_28_subclusters() {
    insta::assert_snapshot!("extended", compare(extended(), Below::Nothing));
    insta::assert_snapshot!("extended_over_data", compare(extended(), Below::Data));
    insta::assert_snapshot!("extended_over_holes", compare(extended(), Below::Holes));
    // Counts have nothing to do with it.
    assert_eq!(compare(extended().lazy(), Below::Data), compare(extended().width(6), Below::Data));
}

#[test]
fn clusters_that_a_snapshot_may_share() {
    insta::assert_snapshot!("shared", compare_when(standard(), Below::Data, true));
    insta::assert_snapshot!("shared_extended", compare_when(extended(), Below::Data, true));
}

#[test]
fn trap_27_prepared_subclusters() {
    let kind = Kind { preallocation: Preallocation::Metadata, ..extended() };
    insta::assert_snapshot!("prepared", compare(kind, Below::Nothing));
    insta::assert_snapshot!("prepared_over_data", compare(kind, Below::Data));
}

#[test]
fn trap_63_data_in_a_file_of_its_own() {
    let kind = standard().with_data(Data::Outside);
    insta::assert_snapshot!("outside", compare(kind, Below::Nothing));
    insta::assert_snapshot!("outside_over_data", compare(kind, Below::Data));
    let kind = extended().with_data(Data::Outside);
    insta::assert_snapshot!("outside_extended_over_data", compare(kind, Below::Data));
}

#[test]
fn trap_65_data_in_a_raw_file() {
    insta::assert_snapshot!("raw", compare(standard().with_data(Data::Raw), Below::Nothing));
    insta::assert_snapshot!(
        "raw_extended",
        compare(extended().with_data(Data::Raw), Below::Nothing)
    );
}
