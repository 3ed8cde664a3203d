//! Images made to deceive: each is a known attack, or a cousin of one.

use std::time::{Duration, Instant};

use qimg::audit::{AuditOptions, Policy, audit};
use testkit::{Folder, Qemu, Rng};

use super::forge::DATA_FILE;
use super::{Forged, acceptable, damaged, judged, message, policy, refused, rules};
use crate::qimg;

const COPIED: u64 = 1 << 63;
/// Incompatible feature of images whose data lie in another file.
const EXTERNAL: u64 = 1 << 2;

/// CVE-2024-32498: the data file of an upload is a file of the host.
#[test]
fn a_data_file_of_the_host() {
    let mut image = Forged::plain();
    let path = image.incompatible(EXTERNAL).extension(DATA_FILE, "/etc/passwd").file("upload");
    let answer = refused(&path, &["-f", "qcow2"], &["references.data-file"]);
    let text = message(&answer, "references.data-file");
    assert_eq!(text, "data file '/etc/passwd' is an absolute path, allowed is 'no'");
    let finding = answer["findings"].as_array().unwrap()[0]["at"].clone();
    assert_eq!(finding, serde_json::json!({ "offset": 120, "length": 11 }));

    // And the same behind a backing file that is no file.
    let backing = r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"x"}}"#;
    let path = image.backing(backing, "qcow2").file("upload");
    refused(&path, &[], &["references.protocols", "references.data-file"]);

    // Without the feature, and without a name.
    let path = Forged::plain().extension(DATA_FILE, "/etc/passwd").file("upload");
    assert!(!path.is_empty());
    let mut image = Forged::plain();
    let path = image.extension(DATA_FILE, "/etc/passwd").file("upload");
    refused(&path, &[], &["references.data-file"]);
    let mut image = Forged::plain();
    let path = image.incompatible(EXTERNAL).file("upload");
    refused(&path, &[], &["references.data-file"]);
}

/// CVE-2024-4467: a data file whose name is a tree of options.
#[test]
fn a_data_file_that_is_a_tree_of_options() {
    let mut image = Forged::plain();
    let name = r#"json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}"#;
    let path = image.incompatible(EXTERNAL).extension(DATA_FILE, name).file("upload");
    let answer = refused(&path, &[], &["references.protocols"]);
    assert!(message(&answer, "references.protocols").contains("is no file but means 'json'"));
    let any = policy(&image.folder, "[references]\nbacking-file = \"any\"\ndata-file = \"any\"");
    refused(&path, &[&any], &["references.protocols"]);
}

#[test]
fn backing_files_are_no_way_out() {
    let any = "[references]\nbacking-file = \"any\"";
    let below = "[references]\nbacking-file = \"below\"";
    for (name, format, text, expected) in [
        ("../../secret", "raw", below, &["references.backing-file"][..]),
        ("/etc/passwd", "raw", below, &["references.backing-file"]),
        ("nbd://host/disk", "raw", any, &["references.protocols"]),
        ("file:/etc/passwd", "raw", any, &["references.protocols"]),
        ("base", "", any, &["references.unnamed-format"]),
        ("base", "vmdk", any, &["references.other-formats"]),
        ("./upload", "qcow2", any, &["references.backing-file"]),
    ] {
        let mut image = Forged::plain();
        let path = image.backing(name, format).file("upload");
        let flag = policy(&image.folder, text);
        refused(&path, &[&flag], expected);
    }
    // Two names for one thing: programs disagree about which counts.
    let mut image = Forged::plain();
    let path = image
        .backing("base", "raw")
        .extension(super::forge::BACKING_FORMAT, "qcow2")
        .file("upload");
    refused(&path, &[&policy(&image.folder, any)], &["always"]);
}

/// CVE-2026-24708 and its cousins: a guest writes a header into its raw disk.
#[test]
fn a_raw_disk_with_a_header() {
    let mut image = Forged::plain();
    let path = image.backing("/etc/passwd", "raw").file("disk.raw");
    let answer = refused(&path, &["-f", "raw"], &["format.disguised"]);
    assert_eq!(
        message(&answer, "format.disguised"),
        "raw content starts like a qcow2 image: a program that guesses would open it as that"
    );
    assert_eq!(answer["check"], serde_json::Value::Null);
    refused(&path, &[], &["references.backing-file"]);
}

#[test]
fn a_raw_disk_that_is_another_image() {
    let folder = Folder::new();
    let put = |at: usize, bytes: &[u8]| {
        let mut disk = vec![0; 1 << 20];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        folder.write("disk", &disk).display().to_string()
    };
    for (at, bytes) in [
        (0, &b"KDMV"[..]),
        (0, b"vhdxfile"),
        (0, b"conectix"),
        ((1 << 20) - 512, b"conectix"),
        (64, b"\x7f\x10\xda\xbe"),
        ((1 << 20) - 512, b"koly"),
        (0, b"\x1f\x8b\x08"),
        (257, b"ustar"),
    ] {
        refused(&put(at, bytes), &["-f", "raw"], &["format.disguised"]);
    }
}

/// A descriptor opens whatever it names, as soon as somebody guesses.
#[test]
fn a_descriptor_of_files_of_the_host() {
    let text = "# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"monolithicFlat\"\n\
                RW 16 FLAT \"/etc/passwd\" 0\n  RW 16 FLAT \"../up\" 0\nddb.x = \"y\"\n";
    let folder = Folder::new();
    let path = folder.write("disk", text.as_bytes()).display().to_string();
    let answer = refused(&path, &["-f", "raw"], &["format.disguised"; 3]);
    let messages: Vec<&str> = answer["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages[1..],
        ["extent '/etc/passwd' is an absolute path", "extent '../up' leaves its folder"]
    );
    assert_eq!(answer["findings"][1]["at"]["offset"], text.find("/etc").unwrap());

    // The same inside an image of its own.
    let mut bytes = vec![0; 8192];
    bytes[..4].copy_from_slice(b"KDMV");
    bytes[28..36].copy_from_slice(&2_u64.to_le_bytes());
    bytes[36..44].copy_from_slice(&2_u64.to_le_bytes());
    bytes[1024..1024 + text.len()].copy_from_slice(text.as_bytes());
    let path = folder.write("disk", &bytes).display().to_string();
    refused(&path, &[], &["format.disguised"; 3]);
    bytes[28..36].copy_from_slice(&u64::MAX.to_le_bytes());
    let path = folder.write("disk", &bytes).display().to_string();
    refused(&path, &[], &["format.disguised"]);
}

#[test]
fn an_image_that_is_two_things() {
    let mut image = Forged::plain();
    let path = image.poke(0x8001, b"CD001").file("upload");
    let answer = refused(&path, &["-f", "qcow2"], &["format.polyglot"]);
    assert_eq!(message(&answer, "format.polyglot"), "the image is an ISO 9660 image as well");
    damaged(
        &image.folder.write("text", b"hello").display().to_string(),
        &["-f", "qcow2"],
        &["always"],
    );
}

#[test]
fn numbers_in_headers_are_not_believed() {
    // Place in the header, number, refused, damaged.
    let long: [(usize, u64, &[&str], &[&str]); 2] = [
        (24, 1 << 62, &["limits.virtual-size", "bombs.expansion"], &["always"]),
        (24, 17 << 40, &["limits.virtual-size", "bombs.expansion"], &["always"]),
    ];
    for (at, number, refused_for, damaged_for) in long {
        let mut image = Forged::plain();
        let answer = refused(&image.u64(at, number).file("upload"), &[], refused_for);
        assert_eq!(rules(&answer, "damaged"), damaged_for, "{answer:#}");
    }
    let words: [(usize, u32, &[&str]); 4] = [
        (36, 4_194_305, &["limits.l1-tables"]),
        (36, u32::MAX, &["limits.l1-tables"]),
        (56, u32::MAX, &["limits.refcount-table"]),
        (60, u32::MAX, &["limits.snapshots"]),
    ];
    for (at, number, refused_for) in words {
        let mut image = Forged::plain();
        let answer = refused(&image.u32(at, number).file("upload"), &[], refused_for);
        assert_eq!(rules(&answer, "damaged"), ["always"], "{answer:#}");
    }
    for (at, number) in [(20, 40), (20, 0), (4, 9), (100, u32::MAX), (96, 9)] {
        let mut image = Forged::plain();
        damaged(&image.u32(at, number).file("upload"), &[], &["always"]);
    }
    // A header too broken for use hides nothing.
    let mut image = Forged::plain();
    let path = image.u32(36, 0).incompatible(EXTERNAL).extension(DATA_FILE, "/x").file("upload");
    refused(&path, &[], &["references.data-file"]);
}

#[test]
fn tables_that_bite_their_tails() {
    let mut image = Forged::plain();
    let l1 = image.number(40) as usize;
    damaged(&image.u64(l1, l1 as u64 | COPIED).file("upload"), &[], &["check.corruption"]);
    let mut image = Forged::plain();
    let table = image.number(48) as usize;
    damaged(&image.u64(table, table as u64).file("upload"), &[], &["check.corruption"]);
    let mut image = Forged::plain();
    let path = image.u64(64, 0).u32(60, 3).file("upload");
    let answer = damaged(&path, &[], &["check.corruption"]);
    assert!(message(&answer, "check.corruption").contains("snapshot table"), "{answer:#}");
}

/// One compressed cluster, 32768 times: sound metadata, 2 GiB of data in half a megabyte.
#[test]
fn one_cluster_many_times() {
    let writes = [
        "write -c -P 1 0 64k",
        "write -c -P 1 512M 64k",
        "write -c -P 1 1G 64k",
        "write -c -P 1 1536M 64k",
    ];
    let mut image = Forged::new("2G", "", &writes);
    let l1 = image.number(40) as usize;
    let tables: Vec<usize> =
        (0..4).map(|index| (image.number(l1 + index * 8) & !COPIED) as usize).collect();
    let blob = image.number(tables[0]);
    for table in tables {
        for entry in 0..8192 {
            image.u64(table + entry * 8, blob);
        }
    }
    let cluster = (blob & 0x00ff_ffff) as usize >> 16;
    let block = image.number(image.number(48) as usize) as usize;
    image.poke(block + cluster * 2, &32768_u16.to_be_bytes());
    let path = image.file("upload");
    let answer = refused(&path, &[], &["bombs.data"]);
    assert_eq!(answer["check"]["corruptions"], 0, "{answer:#}");
    assert_eq!(answer["check"]["compressed-clusters"], 32768);
}

#[test]
fn an_audit_takes_no_more_than_it_may() {
    let image = Forged::new("64M", "cluster_size=512", &["write -P 1 0 1M"]);
    let path = image.file("upload");
    let flag = policy(&image.folder, "[effort]\nread-bytes = \"8k\"");
    let answer = refused(&path, &[&flag], &["effort.read-bytes"]);
    assert!(message(&answer, "effort.read-bytes").contains("at most 8192 bytes"), "{answer:#}");
    let flag = policy(&image.folder, "[effort]\nseconds = 0");
    refused(&path, &[&flag], &["effort.seconds"]);
    // What is beyond its limits is not looked at more closely.
    for limit in ["l1-tables = 0", "snapshots = 0", "refcount-table = 0"] {
        let mut image = Forged::plain();
        let path = image.u32(60, 1).file("upload");
        let flag = policy(&image.folder, &format!("[limits]\n{limit}"));
        assert_eq!(judged(&path, &[&flag])["check"], serde_json::Value::Null, "{limit}");
    }
}

/// Snapshots, each with tables of its own, are as good as a large disk for filling memory.
#[test]
fn tables_of_snapshots_count_together() {
    let mut image = Forged::new("64M", "", &["write -P 1 0 64k"]);
    let path = image.file("upload");
    for name in 0..9 {
        Qemu::img(["snapshot", "-c", &name.to_string(), &path]).success();
    }
    image.bytes = image.folder.read("upload");
    let table = image.number(64) as usize;
    let flag = policy(&image.folder, "[limits]\nl1-tables = 80");
    let answer = acceptable(&path, &[&flag]);
    assert_eq!(answer["check"]["corruptions"], 0);
    let path = image.u32(table + 8, 2).file("upload");
    refused(&path, &[&flag], &["limits.l1-tables"]);
}

#[test]
fn names_are_harmless_when_they_are_told() {
    let mut image = Forged::plain();
    let path = image.backing("\u{1b}[2J\nacceptable: raw", "raw").file("upload");
    let said = qimg(&["audit", &path]).exits(10).stdout;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].contains("'\\u{1b}[2J\\nacceptable: raw'"), "{said}");
    assert!(lines[2].starts_with("refused: qcow2"), "{said}");
}

/// Whatever is in the file: a verdict, in little time, and the file is as it was.
#[test]
fn random_bytes_get_a_verdict() {
    let image = Forged::new("16M", "cluster_size=4k", &["write -P 1 0 64k", "write -c -P 2 1M 4k"]);
    let mut rng = Rng::new(5);
    let mut verdicts = std::collections::HashSet::new();
    let start = Instant::now();
    for round in 0..300 {
        let mut bytes = image.bytes.clone();
        for _ in 0..=rng.below(4) {
            let end = if rng.one_in(2) { 120 } else { bytes.len() as u64 };
            let at = rng.below(end) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        bytes.truncate(if rng.one_in(4) {
            rng.below(bytes.len() as u64) as usize
        } else {
            bytes.len()
        });
        let path = image.folder.write("upload", &bytes);
        let found = audit(&path, AuditOptions::default(), &Policy::default())
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        verdicts.insert(found.verdict());
        assert_eq!(image.folder.read("upload"), bytes, "round {round}");
    }
    assert_eq!(verdicts.len(), 3, "{verdicts:?}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
