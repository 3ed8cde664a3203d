//! Two layers, both arbitrary: opened under a strict policy, mapped, read and written through the
//! top. Whatever the headers say, no other file is touched and the base stays as it is.

use std::fs;
use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions, Policy};
use qimg::info::of_top;
use qimg::map::map;

use crate::input::Input;
use crate::patched::patched;

/// Overlays with the names and contents of what they rest on.
const PAIRS: [(&[u8], &str, &[u8]); 4] = [
    (
        include_bytes!("../../../fixtures/v3-overlay.qcow2"),
        "base.raw",
        include_bytes!("../../../fixtures/base.raw"),
    ),
    (
        include_bytes!("../../../fixtures/v2-overlay.qcow2"),
        "v2-base.qcow2",
        include_bytes!("../../../fixtures/v2-base.qcow2"),
    ),
    (
        include_bytes!("../../../fixtures/zero-clusters.qcow2"),
        "base.raw",
        include_bytes!("../../../fixtures/base.raw"),
    ),
    (
        include_bytes!("../../../fixtures/extended-l2.qcow2"),
        "base.raw",
        include_bytes!("../../../fixtures/base.raw"),
    ),
];

/// Entries of the map that are looked at: a damaged header may promise exabytes.
const EXTENTS_MAX: usize = 1000;

/// Takes the first two bytes for a pair of images and the split of the rest, which are patches of
/// the upper and of the lower one.
///
/// # Panics
/// A promise about chains is broken.
pub fn chain(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (overlay, name, base) = PAIRS[usize::from(input.u8()) % PAIRS.len()];
    let split = usize::from(input.u8());
    let mut upper = Input(input.bytes(split));
    let overlay = patched(overlay, &mut upper).to_vec();
    let base = match name {
        "base.raw" => base.to_vec(),
        _ => patched(base, &mut input).to_vec(),
    };
    let folder = Folder::new();
    let (top, below) = (folder.0.join("top.qcow2"), folder.0.join(name));
    write(&top, &overlay);
    write(&below, &base);
    read_through(&top);
    assert!(read(&top) == overlay, "a reader changes nothing");
    if !write_through(&top) {
        assert!(read(&top) == overlay, "a refused open changes nothing");
    }
    assert!(read(&below) == base, "layers below never change");
    let files = fs::read_dir(&folder.0).expect("the folder is there").count();
    assert_eq!(files, 2, "nobody made a file");
}

fn options(top: &Path) -> OpenOptions {
    let folder = top.parent().expect("the top lies in a folder");
    let policy = Policy::new().allow_directory(folder.to_owned()).depth_max(3);
    OpenOptions::new().format(Format::Qcow2).policy(policy).ignore_syncs(true)
}

fn read_through(top: &Path) {
    let chain = match Chain::open(top, &options(top).read_only(true)) {
        Ok(chain) => chain,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let size = chain.virtual_size();
    let mut end = 0;
    for extent in map(&chain, 0..size).take(EXTENTS_MAX) {
        let Ok(extent) = extent else { break };
        assert_eq!(extent.start, end, "a map has no gaps");
        assert!(extent.status.len > 0);
        end = extent.start + extent.status.len;
        assert!(end <= size);
    }
    let _ = of_top(&chain);
    let mut buf = vec![0; 9000];
    for at in [0, 60_000, 98_000, size / 2, size.saturating_sub(9000)] {
        let len = size.saturating_sub(at).min(9000) as usize;
        let _ = chain.read_at(at, &mut buf[..len]);
    }
}

/// Whether the chain can be written; then it was.
fn write_through(top: &Path) -> bool {
    let Ok(chain) = Chain::open(top, &options(top)) else { return false };
    let size = chain.virtual_size();
    for at in [700, 65_000, 98_000, size.saturating_sub(700)] {
        let len = size.saturating_sub(at).min(5000);
        let _ = chain.write_zeroes_at(at, len, at % 2 == 0);
        let _ = chain.discard_at(at, len);
        let data = vec![0x3c; (len / 2) as usize];
        if chain.write_at(at, &data).is_ok() {
            let mut now = vec![0; data.len()];
            if chain.read_at(at, &mut now).is_ok() {
                assert!(now == data, "what was written is read");
            }
        }
    }
    let _ = chain.flush();
    let _ = chain.close();
    true
}

/// A folder for one run, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let thread = std::thread::current().id();
        let name = format!("qimg-fuzz-{}-{thread:?}", std::process::id());
        let path = std::env::temp_dir().join(name.replace(['(', ')'], ""));
        fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind when that fails: files of some kilobytes.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the folder for temporary files can be written");
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("the file was written a moment ago")
}
