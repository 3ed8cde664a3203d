//! `qimg hash`: one answer for every layout of the same disk.

use std::path::Path;

use testkit::{Folder, Qemu};

use crate::qimg;

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A raw disk with data at both ends, and the folder it lies in.
fn disk() -> (Folder, String) {
    let folder = Folder::new();
    let mut bytes = vec![0; (20 << 20) + 512];
    let len = bytes.len();
    bytes[5000..70_000].fill(1);
    bytes[8 << 20..(8 << 20) + 9].fill(2);
    bytes[len - 3..].fill(3);
    let path = text(&folder.write("disk.raw", &bytes));
    (folder, path)
}

fn first_word(path: &str) -> String {
    let said = qimg(&["hash", path]).success();
    assert_eq!(said.stderr, "");
    let (hash, name) = said.stdout.trim_end().split_once("  ").unwrap();
    assert_eq!(name, path);
    hash.to_owned()
}

#[test]
fn formats_and_options_do_not_matter() {
    let (folder, raw) = disk();
    let expected = first_word(&raw);
    assert_eq!(expected.len(), 64);
    let table: [&[&str]; 6] = [
        &["-O", "qcow2"],
        &["-O", "qcow2", "-c"],
        &["-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=2M"],
        &["-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"],
        &["-O", "qcow2", "-o", "cluster_size=512,compat=0.10"],
        &["-O", "raw", "-S", "0"],
    ];
    for (index, options) in table.iter().enumerate() {
        let path = text(&folder.path(format!("copy-{index}")));
        Qemu::img([&["convert", "-f", "raw"][..], options, &[&raw, &path]].concat()).success();
        assert_eq!(first_word(&path), expected, "{options:?}");
    }
    let overlay = text(&folder.path("overlay.qcow2"));
    Qemu::img(["create", "-q", "-f", "qcow2", "-b", &raw, "-F", "raw", &overlay]).success();
    assert_eq!(first_word(&overlay), expected);
    Qemu::io(["-f", "qcow2", "-c", "write -P 1 8M 1", &overlay]).success();
    assert_ne!(first_word(&overlay), expected);
    Qemu::io(["-f", "qcow2", "-c", "write -P 2 8M 1", &overlay]).success();
    assert_eq!(first_word(&overlay), expected);
}

#[test]
fn several_images_are_several_lines() {
    let (folder, raw) = disk();
    let other = text(&folder.write("other\nname", &[0; 512]));
    let said = qimg(&["hash", "-f", "raw", &raw, &other]).success().stdout;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[1].ends_with("other\\nname"), "{said}");
    let json = qimg(&["hash", "-f", "raw", "--output=json", &raw, &other]).success().json();
    assert_eq!(json[0]["hash"].as_str(), lines[0].split(' ').next());
    assert_eq!(json[1]["filename"].as_str(), Some(&*other));
    assert_eq!(json[1]["bytes-read"], 512);
}

#[test]
fn ranges_tell_what_changed() {
    let (folder, raw) = disk();
    let qcow2 = text(&folder.path("disk.qcow2"));
    Qemu::img(["convert", "-O", "qcow2", &raw, &qcow2]).success();
    let said = qimg(&["hash", "--output=json", "--ranges=1M", &raw]).success();
    let json = said.json();
    let starts: Vec<u64> = json[0]["ranges"].as_array().unwrap().iter().map(start).collect();
    assert_eq!(starts, [0, 8 << 20, 20 << 20], "zeros are left out");
    let earlier = text(&folder.write("earlier.json", said.stdout.as_bytes()));

    let same = qimg(&["hash", "--compare", &earlier, &qcow2]).success().stdout;
    assert_eq!(same, format!("{qcow2} is the same\n"));

    // Changed, filled, emptied; the last range ends with the disk.
    let commands = ["write -P 9 1000 1", "write -P 9 2M 2M", "write -z 8M 1M", "write -P 9 20M 1"];
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    Qemu::io(["-f", "qcow2"].into_iter().chain(commands).chain([&*qcow2])).success();
    let answer = qimg(&["hash", "--output=json", "--compare", &earlier, &qcow2]).exits(1).json();
    let ranges = answer["different"].as_array().unwrap();
    let ranges: Vec<(u64, u64)> =
        ranges.iter().map(|range| (start(range), range["length"].as_u64().unwrap())).collect();
    let mib = 1 << 20;
    assert_eq!(ranges, [(0, mib), (2 * mib, 2 * mib), (8 * mib, mib), (20 * mib, 512)]);
    let told = qimg(&["hash", "--compare", &earlier, &qcow2]).exits(1).stdout;
    assert!(told.starts_with("differs: 0x0+0x100000\ndiffers: 0x200000+0x200000\n"), "{told}");
    assert!(told.ends_with("is different\n"), "{told}");
}

fn start(range: &serde_json::Value) -> u64 {
    range["start"].as_u64().unwrap()
}

#[test]
fn another_size_is_another_disk() {
    let (folder, raw) = disk();
    let earlier = qimg(&["hash", "--output=json", "--ranges", "64k", &raw]).success().stdout;
    let earlier = text(&folder.write("earlier.json", earlier.as_bytes()));
    Qemu::img(["resize", "-q", "-f", "raw", &raw, "30M"]).success();
    let told = qimg(&["hash", "--compare", &earlier, &raw]).exits(1).stdout;
    assert!(
        told.starts_with("differs: size of the disk, 20972032 before, 31457280 now\n"),
        "{told}"
    );
}

#[test]
fn percentages_stay_out_of_the_answer() {
    let (_folder, raw) = disk();
    let said = qimg(&["hash", "-p", "--output=json", &raw]).success();
    assert_eq!(said.json()[0]["virtual-size"], (20 << 20) + 512);
    assert!(said.stderr.starts_with("    (0.00/100%)\r"), "{:?}", said.stderr);
    assert!(said.stderr.ends_with("    (100.00/100%)\r\n"), "{:?}", said.stderr);
}

#[test]
fn what_cannot_be_hashed_is_refused() {
    let (folder, raw) = disk();
    let said = |args: &[&str]| qimg(&[&["hash"], args].concat());
    said(&[]).exits(1).fails_with("Expecting one or more image file names");
    said(&[&text(&folder.path("none"))]).exits(1).fails_with("Could not open");
    said(&["--ranges", "100k", &raw]).exits(1).fails_with("allowed are powers of two from 65536");
    let bad = text(&folder.write("bad.json", b"{}"));
    said(&["--compare", &bad, &raw]).exits(2).fails_with("no output of 'qimg hash");
    let old = r#"[{"construction":"md5","virtual-size":1,"hash":""}]"#;
    let old = text(&folder.write("old.json", old.as_bytes()));
    said(&["--compare", &old, &raw]).exits(2).fails_with("its hashes are 'md5'");
    let two = qimg(&["hash", "--output=json", &raw, &raw]).success().stdout;
    let two = text(&folder.write("two.json", two.as_bytes()));
    said(&["--compare", &two, &raw]).exits(2).fails_with("it is about 2 images");
    said(&["--compare", &two]).exits(2).fails_with("expects one image file name");
}
