//! Images that nobody need fear, and policies that say more or less.

use testkit::{Folder, Qemu};

use super::{Forged, acceptable, damaged, message, policy, refused, rules};
use crate::qimg;

#[test]
fn ordinary_images_are_acceptable() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name).display().to_string();
    for (name, options) in [
        ("plain", ""),
        ("old", "compat=0.10"),
        ("small", "cluster_size=512"),
        ("extended", "extended_l2=on"),
        ("zstd", "compression_type=zstd"),
        ("full", "preallocation=metadata"),
    ] {
        let file = path(name);
        let mut args = vec!["create", "-q", "-f", "qcow2"];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        Qemu::img([&args[..], &[&file, "1G"]].concat()).success();
        Qemu::io(["-f", "qcow2", "-c", "write -P 1 0 1M", &file]).success();
        Qemu::img(["snapshot", "-c", "one", &file]).success();
        let answer = acceptable(&file, &["-f", "qcow2"]);
        assert_eq!(answer["format"], "qcow2");
        assert_eq!(answer["virtual-size"], 1 << 30);
        assert_eq!(answer["check"]["corruptions"], 0);
    }
    // Empty, however large.
    Qemu::img(["create", "-q", "-f", "qcow2", &path("large"), "1T"]).success();
    acceptable(&path("large"), &[]);
}

#[test]
fn raw_disks_hold_what_disks_hold() {
    let folder = Folder::new();
    let mut bytes = vec![0; 1 << 20];
    let path = folder.write("disk", &bytes).display().to_string();
    assert_eq!(acceptable(&path, &["-f", "raw"])["content"], serde_json::json!([]));
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    bytes[512..520].copy_from_slice(b"EFI PART");
    bytes[0x8001..0x8006].copy_from_slice(b"CD001");
    folder.write("disk", &bytes);
    let answer = acceptable(&path, &[]);
    let content = answer["content"].as_array().unwrap();
    assert_eq!(content.len(), 3, "{answer:#}");
    assert_eq!(rules(&answer, "notice"), ["format.guessed"]);
    let said = qimg(&["audit", &path]).success().stdout;
    assert_eq!(
        said,
        "notice:  nobody said the format, it was taken for raw [format.guessed]\n\
         acceptable: raw, by its content, 1 MiB of disk in a file of 1 MiB\n"
    );
    assert_eq!(qimg(&["audit", "-q", &path]).success().stdout, "");
}

#[test]
fn a_policy_allows_and_forbids() {
    let mut image = Forged::plain();
    let path = image.backing("base.raw", "raw").file("top.qcow2");
    let folder = &image.folder;
    refused(&path, &[], &["references.backing-file"]);
    for (reach, name) in [("beside", "base.raw"), ("any", "base.raw")] {
        let text = format!("[references]\nbacking-file = \"{reach}\"");
        let answer = acceptable(&path, &[&policy(folder, &text)]);
        assert!(message(&answer, "references.backing-file").contains(name), "{answer:#}");
    }
    let strict = "[format]\nguessed = false\n[limits]\nvirtual-size = \"1M\"\ncluster-size-min = \
                  \"2M\"\n[references]\nbacking-file = \"any\"\n[effort]\nseconds = 5";
    let expected = ["format.guessed", "limits.virtual-size", "limits.cluster-size"];
    let answer = refused(&path, &[&policy(folder, strict)], &expected);
    assert_eq!(
        message(&answer, "limits.cluster-size"),
        "cluster size: 65536 bytes, allowed is at least 2097152"
    );
    refused(
        &path,
        &["-f", "qcow2", &policy(folder, "[format]\nqcow2 = false")],
        &["format.qcow2", "references.backing-file"],
    );
}

#[test]
fn the_default_policy_can_be_printed_and_used() {
    let image = Forged::plain();
    let text = qimg(&["audit", "--print-policy"]).success().stdout;
    let flag = policy(&image.folder, &text);
    acceptable(&image.file("image"), &[&flag]);
    let again = qimg(&["audit", "--print-policy", &flag]).success().stdout;
    assert_eq!(again, text);
    let broken = policy(&image.folder, "[limits\n");
    qimg(&["audit", &broken, &image.file("image")]).exits(1).fails_with("line 1");
    qimg(&["audit", "--policy=/nonexistent", "x"]).exits(1).fails_with("Could not use policy");
}

#[test]
fn marks_and_unknown_features_are_told() {
    let table: [(u64, &[&str]); 4] = [
        (1, &["features.dirty"]),
        (2, &["features.corrupt"]),
        (3, &["features.dirty", "features.corrupt"]),
        (1 << 40, &["always"]),
    ];
    for (bits, expected) in table {
        let mut image = Forged::plain();
        let path = image.incompatible(bits).file("image");
        refused(&path, &[], expected);
    }
    let mut image = Forged::plain();
    let path = image.u64(80, 1 << 50).extension(0x1234_5678, "hello").file("image");
    let answer = acceptable(&path, &[]);
    assert_eq!(
        rules(&answer, "notice"),
        ["format.guessed", "features.unknown", "features.unknown"]
    );
    let flag = policy(&image.folder, "[features]\nunknown = false");
    refused(&path, &[&flag], &["features.unknown", "features.unknown"]);
}

#[test]
fn leaks_are_allowed_and_corruption_is_damage() {
    let mut image = Forged::plain();
    // A data cluster loses its entry; the one behind keeps a count of none.
    let l2 = (image.number(image.number(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    let leak = image.u64(l2, 0).file("leak");
    let answer = acceptable(&leak, &[]);
    assert_eq!(rules(&answer, "notice"), ["format.guessed", "check.leaks"]);
    let flag = policy(&image.folder, "[check]\nleaks = false");
    refused(&leak, &[&flag], &["check.leaks"]);
    let broken = image.u64(l2, 0x8000_0000_0000_0000 | l2 as u64).file("broken");
    damaged(&broken, &[], &["check.corruption"]);
    let flag = policy(&image.folder, "[check]\nconsistency = false");
    acceptable(&broken, &[&flag]);
    let flag = policy(&image.folder, "[check]\nhost-clusters = 2");
    refused(&broken, &[&flag], &["check.host-clusters"]);
}

#[test]
fn what_cannot_be_looked_at_is_no_verdict() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name).display().to_string();
    qimg(&["audit", &path("none")]).exits(1).fails_with("Could not open");
    qimg(&["audit", &folder.root().display().to_string()]).exits(1);
    testkit::run("mkfifo".as_ref(), [path("pipe")]).success();
    qimg(&["audit", &path("pipe")]).exits(1);
    qimg(&["audit"]).exits(1).fails_with("Expecting one image file name");
    // A strange name is a file's name, not a protocol.
    std::fs::write(path("json:{}"), [0; 512]).unwrap();
    acceptable(&path("json:{}"), &[]);
}
