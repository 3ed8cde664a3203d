//! Files that end too early: an error, or the right bytes.

use testkit::Folder;

use super::image::{CLUSTER, Image};
use super::program::{ALL, Use, assert_all_refuse, assert_refused, assert_unchanged};

/// Without a whole header there is no image.
#[test]
fn inside_the_header() {
    let (folder, image) = (Folder::new(), Image::new());
    for len in [0, 1, 3, 4, 7, 8, 23, 24, 71] {
        let words = if len < 4 { ["header", "0x0"] } else { ["header", "offset 0x0"] };
        assert_all_refuse(&folder, &image.bytes[..len], &[Use::Convert, Use::Write], &words);
    }
    for len in [72, 100, 103, 104] {
        let path = folder.write("bad.qcow2", &image.bytes[..len]);
        for one in ALL.into_iter().filter(|one| *one != Use::Check) {
            let output = one.run(&folder, &path);
            assert!(output.code != Some(0) || one == Use::Info, "{one:?} at {len}: {output:?}");
            assert_unchanged(&path, &image.bytes[..len]);
        }
    }
}

/// Cut between clusters, whatever is lost is told; nothing else is shown in its place.
#[test]
fn between_clusters() {
    let (folder, image) = (Folder::new(), Image::new());
    let clusters = image.bytes.len() as u64 / CLUSTER;
    let mut refused = 0;
    for cluster in 1..clusters {
        let bytes = &image.bytes[..(cluster * CLUSTER) as usize];
        let path = folder.write("bad.qcow2", bytes);
        let output = Use::Convert.run(&folder, &path);
        if output.code == Some(0) {
            let shown = folder.read("target.raw");
            assert!(shown == image.content, "cut after {cluster} clusters");
        } else {
            assert_refused(Use::Convert, &output, &["0x"]);
            refused += 1;
        }
        assert_unchanged(&path, bytes);
    }
    // Every cluster but the last ones is needed.
    assert!(refused > clusters - 4, "{refused} of {clusters}");
}

/// Cut anywhere, nothing panics, and whoever only reads changes nothing.
#[test]
fn anywhere() {
    let (folder, image) = (Folder::new(), Image::new());
    for len in (130..image.bytes.len()).step_by(7919) {
        let bytes = &image.bytes[..len];
        let path = folder.write("bad.qcow2", bytes);
        for one in [Use::Info, Use::Map, Use::Convert, Use::Check] {
            one.run(&folder, &path);
            assert_unchanged(&path, bytes);
        }
        let output = Use::Write.run(&folder, &path);
        if output.code != Some(0) {
            assert_refused(Use::Write, &output, &["0x"]);
        }
    }
}
