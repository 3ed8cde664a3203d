//! Chains that loop, end in nothing, or do not say what they consist of.

use testkit::Folder;

use super::image::overlay;
use super::program::{READERS, Use, assert_refused, assert_unchanged};

/// Every way to use the chain is refused in one line with all `words`; no file changes.
#[track_caller]
fn assert_chain_refused(folder: &Folder, top: &str, words: &[&str]) {
    let path = folder.path(top);
    let before = folder.read(top);
    for one in READERS.iter().chain(&[Use::Write, Use::ChainShow, Use::Compare, Use::Explain]) {
        assert_refused(*one, &one.run(folder, &path), words);
        assert_unchanged(&path, &before);
    }
}

#[test]
fn loops() {
    let folder = Folder::new();
    overlay(&folder, "self.qcow2", "self.qcow2", "qcow2");
    assert_chain_refused(&folder, "self.qcow2", &["self.qcow2", "already in the chain"]);
    overlay(&folder, "a.qcow2", "b.qcow2", "qcow2");
    overlay(&folder, "b.qcow2", "c.qcow2", "qcow2");
    overlay(&folder, "c.qcow2", "a.qcow2", "qcow2");
    let words = ["c.qcow2", "a.qcow2", "already in the chain"];
    assert_chain_refused(&folder, "a.qcow2", &words);
    overlay(&folder, "soft.qcow2", "link.qcow2", "qcow2");
    std::os::unix::fs::symlink("soft.qcow2", folder.path("link.qcow2")).unwrap();
    assert_chain_refused(&folder, "soft.qcow2", &["link.qcow2", "already in the chain"]);
}

#[test]
fn a_missing_backing_file() {
    let folder = Folder::new();
    overlay(&folder, "middle.qcow2", "gone.raw", "raw");
    overlay(&folder, "top.qcow2", "middle.qcow2", "qcow2");
    let words = ["gone.raw", "No such file or directory", "middle.qcow2", "rebase -u -b"];
    assert_chain_refused(&folder, "top.qcow2", &words);
}

#[test]
fn a_missing_backing_format() {
    let folder = Folder::new();
    folder.write("base.raw", &[7; 4096]);
    let path = overlay(&folder, "top.qcow2", "base.raw", "raw");
    let mut bytes = folder.read("top.qcow2");
    // The header extension that holds the format becomes one that nobody knows.
    let extension = bytes.windows(4).position(|four| four == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
    bytes[extension..extension + 4].copy_from_slice(&[1, 2, 3, 4]);
    std::fs::write(&path, &bytes).unwrap();
    let words = ["no format", "rebase -u -b base.raw -F FMT", "top.qcow2", "--probe-backing"];
    assert_chain_refused(&folder, "top.qcow2", &words);
}

#[test]
fn names_and_formats_that_nobody_here_knows() {
    let folder = Folder::new();
    overlay(&folder, "json.qcow2", "json:{\"driver\":\"null-co\"}", "raw");
    assert_chain_refused(&folder, "json.qcow2", &["protocol 'json'", "json.qcow2"]);
    overlay(&folder, "net.qcow2", "nbd://localhost:1/x", "raw");
    assert_chain_refused(&folder, "net.qcow2", &["protocol 'nbd'", "net.qcow2"]);
    folder.write("base.vmdk", &[7; 4096]);
    overlay(&folder, "format.qcow2", "base.vmdk", "vmdk");
    assert_chain_refused(&folder, "format.qcow2", &["format 'vmdk'", "format.qcow2"]);
}

/// A chain of damaged layers names the damaged one.
#[test]
fn a_damaged_layer() {
    let folder = Folder::new();
    folder.write("middle.qcow2", b"QFI\xfb\0\0\0\x03 and then nothing that makes sense");
    overlay(&folder, "top.qcow2", "middle.qcow2", "qcow2");
    assert_chain_refused(&folder, "top.qcow2", &["middle.qcow2", "header", "offset"]);
}
