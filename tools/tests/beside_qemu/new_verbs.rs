//! The verbs that the real tool does not have.

use crate::gallery::Gallery;
use crate::pair::{qimg, qimg_io};

#[test]
fn explain_follows_the_chain_down() {
    let gallery = Gallery::new();
    let path = gallery.path("deep.qcow2");
    let answer = |offset: &str| qimg(&["explain", "--json", &path, offset]).success().json();
    // Written into the top layer, the one below, the base, and nowhere.
    for (offset, depth, present, kind) in [
        ("150k", 0, true, "normal"),
        ("1536k", 1, true, "unallocated"),
        ("700k", 2, true, "unallocated"),
    ] {
        let answer = answer(offset);
        assert_eq!(answer["read"]["depth"], depth, "{offset}: {answer:#}");
        assert_eq!(answer["read"]["present"], present);
        assert_eq!(answer["layers"][0]["entries"]["cluster-type"], kind);
        assert_eq!(answer["layers"][depth]["answers"], true);
        assert_eq!(answer["write"]["in-place"], kind == "normal");
    }
    let zero = answer("100"); // below every overlay: the base
    assert_eq!(zero["read"]["offset"], 100);
}

#[test]
fn explain_is_readable() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    let text = qimg(&["explain", &path, "64k"]).success().stdout;
    for part in [
        "guest offset 0x10000 (65536)",
        "L1[0] = 0x8000000000040000",
        "L2[1] = 0x8000000000050000",
        "bit 63      COPIED",
        "cluster: normal at host 0x50000",
        "this layer answers",
        "not asked: a layer above answers",
        "read:  layer [0] reads host offset 0x50000",
        "write: in place, at host offset 0x50000",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let raw = qimg(&["explain", &gallery.path("base.raw"), "0"]).success().stdout;
    assert!(raw.contains("plain bytes: offset 0x0 of the file, data"), "{raw}");
    qimg(&["explain", &path, "2M"]).exits(1).fails_with("lies outside the disk");
    qimg(&["explain", &path, "foo"]).exits(1).fails_with("Invalid guest offset: 'foo'");
}

#[test]
fn explain_names_every_byte_of_a_header() {
    let gallery = Gallery::new();
    let path = gallery.path("deep.qcow2");
    let text = qimg(&["explain", "--header", &path]).success().stdout;
    for part in [
        "\n     4      4  00000003          version                  3: version of the format",
        "size                     3145728: bytes of the virtual disk",
        "0xe2792aca, 5 bytes: format of the backing file",
        "extended L2 entries: incompatible bit 4",
        "backing file name        top.qcow2",
        "0x0       0x10000  the header\n",
        "0x40000       0x10000  an L2 table\n",
        "guest data, clusters: 4\n",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let answer = qimg(&["explain", "--header", "--output=json", &path]).success().json();
    let length = std::fs::metadata(&path).unwrap().len();
    for (list, all) in [("fields", 65536), ("areas", length)] {
        let mut end = 0;
        for part in answer[list].as_array().unwrap() {
            assert_eq!(part["offset"], end, "{part:#}");
            end += part["length"].as_u64().unwrap();
        }
        assert_eq!(end, all, "{answer:#}");
    }
    let magic = &answer["fields"][0];
    assert_eq!((&magic["name"], &magic["bytes"]), (&"magic".into(), &"514649fb".into()));
    assert_eq!(answer["complete"], true);
    qimg(&["explain", "--header", &gallery.path("base.raw")]).exits(1).fails_with("is raw");
    // Neither a missing backing file nor a missing data file is in the way.
    let new = gallery.path("new.qcow2");
    let options = format!("data_file={},backing_file=nosuch,backing_fmt=raw", gallery.path("data"));
    qimg(&["create", "-q", "-u", "-f", "qcow2", "-o", &options, &new, "1M"]).success();
    std::fs::remove_file(gallery.path("data")).unwrap();
    let text = qimg(&["explain", "--header", &new]).success().stdout;
    assert!(text.contains("guest data: in ") && text.contains("external data file (bit 2)"));
}

#[test]
fn chain_show_counts_every_byte_once() {
    let gallery = Gallery::new();
    let path = gallery.path("deep.qcow2");
    let survey = qimg(&["chain", "show", "--json", &path]).success().json();
    let layers = survey["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    let data: u64 = layers.iter().map(|layer| layer["owns-data"].as_u64().unwrap()).sum();
    assert_eq!(data + survey["zero"].as_u64().unwrap(), 3 << 20);
    let drawing = qimg(&["chain", "show", &path]).success().stdout;
    for part in ["[0] deep.qcow2", "[1] top.qcow2", "[2] base.raw", "3 layers"] {
        assert!(drawing.contains(part), "{part} is missing in\n{drawing}");
    }
}

#[test]
fn the_demo_proves_itself() {
    let gallery = Gallery::new();
    let folder = gallery.path("demo");
    let demo = qimg(&["demo", "--dir", &folder]).success();
    let last = demo.stdout.lines().last().unwrap();
    assert!(last.starts_with("Proven: 120 writes"), "{}", demo.stdout);
    assert_eq!(demo.stderr, "");
    for layer in 1..=3 {
        testkit::Qemu::check(format!("{folder}/overlay-{layer}.qcow2").as_ref());
    }
    let temporary = qimg(&["demo"]).success();
    assert_eq!(temporary.stdout.lines().last().unwrap(), last);
}

#[test]
fn nothing_is_kept_of_a_scratch_session() {
    let gallery = Gallery::new();
    let path = gallery.path("base.raw");
    let before = std::fs::read(&path).unwrap();
    let commands = ["-c", "write -P 9 0 64k", "-c", "read -P 9 0 64k"];
    qimg_io(&[&["-s", "-f", "raw"], &commands[..], &[&*path]].concat()).success();
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
