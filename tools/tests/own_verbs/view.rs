//! `qimg view`: pages that tell the truth, harm nobody and cost no image. What a browser makes of
//! them, `cargo xtask view-shot` tries.

use std::path::Path;

use testkit::{Folder, Qemu, run};

use crate::qimg;

/// A base of 1 MiB, half of it data, and an overlay over a quarter of that, with a snapshot.
struct Chain {
    folder: Folder,
    top: String,
}

impl Chain {
    fn new(base: &str, top: &str, snapshot: &str) -> Self {
        let folder = Folder::new();
        let mut bytes = vec![0; 1 << 20];
        bytes[..512 << 10].fill(1);
        let base_path = folder.write(base, &bytes).display().to_string();
        let path = folder.path(top).display().to_string();
        Qemu::img(["create", "-q", "-f", "qcow2", "-b", &base_path, "-F", "raw", &path]).success();
        Qemu::io(["-f", "qcow2", "-c", "write -P 2 0 256k", "-c", "write -z 768k 64k", &path])
            .success();
        Qemu::img(["snapshot", "-c", snapshot, &path]).success();
        Qemu::img(["bitmap", "--add", &path, "nightly"]).success();
        Self { folder, top: path }
    }

    fn page(&self) -> String {
        let said = qimg(&["view", &self.top]).success();
        assert_eq!(said.stderr, "");
        said.stdout
    }

    fn path(&self, name: &str) -> String {
        self.folder.path(name).display().to_string()
    }
}

fn plain() -> Chain {
    Chain::new("base.raw", "top.qcow2", "before")
}

/// Elements of a page, opened and closed, without those that are never closed.
fn assert_balanced(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        let end = tag.find('>').unwrap_or_else(|| panic!("a tag without an end: {tag:.100}"));
        let (inside, after) = (&tag[..end], &tag[end + 1..]);
        let name = inside.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        rest = after;
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{inside}");
        } else if !(inside.ends_with('/') || inside.starts_with('!') || name == "meta") {
            open.push(name);
        }
        if name == "script" && !inside.starts_with('/') {
            rest = &rest[rest.find("</script>").unwrap()..];
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn a_page_has_all_there_is_to_say() {
    let page = plain().page();
    assert_balanced(&page);
    for part in [
        "<title>top.qcow2: a chain of images</title>",
        "[0] top.qcow2",
        "[1] base.raw",
        "<div><dt>disk</dt><dd>1 MiB</dd></div>",
        "<div><dt>hidden below others</dt><dd>320 KiB</dd></div>",
        "<summary>Internal snapshots (1)</summary>",
        "<td>before</td>",
        "<summary>Persistent bitmaps (1)</summary>",
        "<td>nightly</td>",
        "<div><dt>its format</dt><dd>raw</dd></div>",
        "consistent</span>",
        "prefers-color-scheme: dark",
        "id=\"cursor\"",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    for outside in ["http://", "https://", "src=", "@import", "<link", "url(//"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_same_chain_is_the_same_page() {
    let chain = plain();
    assert_eq!(chain.page(), chain.page());
}

#[test]
fn names_stay_names() {
    // Slashes end folders; a snapshot may have them.
    let script = "<script>alert(1)</script>";
    let chain = Chain::new(
        "\"><img src=x onerror=alert(1)>",
        "'<svg onload=alert(1)>&lt;",
        &format!("</td></script>{script}\u{202e}"),
    );
    let page = chain.page();
    assert_balanced(&page);
    for part in [script, "<img", "<svg onload", "\u{202e}", "&lt;svg onload=alert(1)>"] {
        assert!(!page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<script").count(), 2, "the data and the script of the page");
    assert_eq!(page.matches("</script").count(), 2);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}"), "the snapshot");
    assert!(page.contains("&#39;&lt;svg onload=alert(1)&gt;&amp;lt;"), "the top");

    let text = qimg(&["view", "--text", &chain.top]).success().stdout;
    assert!(text.contains("\\u{202e}") && !text.contains('\u{202e}'), "{text}");
}

#[test]
fn json_counts_every_byte_once() {
    let chain = plain();
    let answer = qimg(&["view", "--output=json", &chain.top]).success().json();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let cells = answer["cells"].as_array().unwrap();
    let shares = cells.iter().flat_map(|cell| cell.as_array().unwrap());
    let owned: u64 = shares.map(|share| number(&share["bytes"])).sum();
    assert_eq!(owned + number(&answer["unowned"]), number(&answer["virtual-size"]));
    let [top, base] = [0, 1].map(|depth| answer["layers"][depth].clone());
    assert_eq!(number(&top["visible-data"]), 256 << 10);
    assert_eq!((number(&top["hidden"]), number(&top["zero"])), (0, 64 << 10));
    assert_eq!((number(&base["stored"]), number(&base["visible-data"])), (1 << 20, 704 << 10));
    assert_eq!(number(&base["hidden"]), (256 + 64) << 10);
    assert_eq!(top["check"]["corruptions"], 0);
    assert_eq!(top["header"]["snapshots"][0]["name"], "before");
    assert_eq!(top["header"]["bitmaps"][0]["granularity"], 65536);
    assert_eq!(base["header"], serde_json::Value::Null);
    let unchecked = qimg(&["view", "--no-check", "--output=json", &chain.top]).success().json();
    assert_eq!(unchecked["layers"][0]["check"], serde_json::Value::Null);
}

#[test]
fn a_terminal_gets_a_map() {
    let chain = plain();
    let text = qimg(&["view", "--text", &chain.top]).success().stdout;
    // 1 KiB for each sign: a quarter, the rest of the base, zeros, the base again.
    let map: String = text.lines().skip(2).take(16).map(|line| &line[12..]).collect();
    let runs = [("0", 256), ("1", 512), ("\u{2591}", 64), ("1", 192)];
    let expected: String = runs.iter().map(|(sign, count)| sign.repeat(*count)).collect();
    assert_eq!(map, expected, "{text}");
    for part in ["0 [0] top.qcow2", "1 [1] base.raw", "snapshot 1 'before'", "bitmap 'nightly'"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour where nobody looks");
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let chain = plain();
    let command = format!("{} view --text {}", env!("CARGO_BIN_EXE_qimg"), chain.top);
    let terminal = |no_colour: &str| {
        let script = format!("NO_COLOR={no_colour} script -qec '{command}' /dev/null");
        run(Path::new("sh"), ["-c", &script]).success().stdout
    };
    assert!(terminal("").contains("\u{1b}[38;5;33m\u{2588}"));
    assert!(!terminal("1").contains('\u{1b}'));
}

#[test]
fn damage_is_shown() {
    let chain = plain();
    let mut bytes = chain.folder.read("top.qcow2");
    // The count of the header's cluster.
    let table = u64::from_be_bytes(bytes[48..56].try_into().unwrap()) as usize;
    let block = u64::from_be_bytes(bytes[table..table + 8].try_into().unwrap()) as usize;
    bytes[block..block + 2].copy_from_slice(&[0, 7]);
    chain.folder.write("top.qcow2", &bytes);
    let page = chain.page();
    assert_balanced(&page);
    assert!(page.contains("<span class=\"badge middling\">1 leaked clusters</span>"));
    assert!(page.contains("<li>Leaked cluster 0 refcount=7 reference=1</li>"));
}

#[test]
fn a_page_never_costs_an_image() {
    let chain = plain();
    let page = chain.path("page.html");
    qimg(&["view", "-o", &page, &chain.top]).success();
    let first = chain.folder.read("page.html");
    assert!(first.starts_with(b"<!doctype html>"));
    Qemu::io(["-f", "qcow2", "-c", "write -P 3 512k 64k", &chain.top]).success();
    qimg(&["view", "-o", &page, &chain.top]).success();
    assert_ne!(chain.folder.read("page.html"), first, "a page is replaced");

    for target in [chain.top.clone(), chain.path("base.raw")] {
        let before = std::fs::read(&target).unwrap();
        qimg(&["view", "-o", &target, &chain.top]).exits(1).fails_with("is not a page");
        assert_eq!(std::fs::read(&target).unwrap(), before);
    }
    let folder = chain.folder.root().display().to_string();
    qimg(&["view", "-o", &folder, &chain.top]).exits(1).fails_with("is not a page");
    qimg(&["view", &chain.path("none")]).exits(1).fails_with("Could not open");
    qimg(&["view"]).exits(1).fails_with("Expecting one image file name");
}
