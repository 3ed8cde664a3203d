//! Operations beside a `qemu-io` that has a layer open: refused before anything changes, or harmless.

use testkit::IoSession;

use crate::chain_files::Place;

/// What changes which layers, by depth.
const OPERATIONS: [(&[&str], &[usize]); 9] = [
    (&["commit", "top.qcow2"], &[0, 1]),
    (&["commit", "-d", "top.qcow2"], &[1]),
    (&["chain", "commit", "--from", "1", "top.qcow2"], &[0, 2]),
    (&["chain", "commit", "--into", "2", "top.qcow2"], &[0, 2]),
    (&["chain", "stream", "--into", "1", "top.qcow2"], &[1]),
    (&["chain", "stream", "--base", "2", "top.qcow2"], &[0]),
    (&["chain", "flatten", "top.qcow2"], &[0]),
    (&["rebase", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"], &[0]),
    (&["chain", "snapshot", "top.qcow2", "new.qcow2"], &[]),
];
const LAYERS: [&str; 3] = ["top.qcow2", "mid.qcow2", "base.qcow2"];

fn chain() -> Place {
    let place = Place::with_chain();
    place.qemu_img(&["convert", "-O", "qcow2", "base.raw", "base.qcow2"]);
    place.qemu_img(&["rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", "mid.qcow2"]);
    place
}

#[test]
fn whoever_writes_keeps_every_operation_away() {
    let place = chain();
    for layer in LAYERS {
        let _writer = IoSession::start(["-f", "qcow2", &place.path(layer)]).unwrap();
        for (args, _) in OPERATIONS {
            place.refuses(args, "lock: is another process using the image");
            let said = place.qimg(args);
            assert!(!said.stderr.contains("-U"), "no such flag: {said:?}");
        }
    }
}

#[test]
fn whoever_reads_keeps_away_what_would_change_under_him() {
    for (args, changes) in OPERATIONS {
        for (depth, layer) in LAYERS.into_iter().enumerate() {
            let place = chain();
            let shown = place.shows("top.qcow2");
            let session = IoSession::start(["-r", "-f", "qcow2", &place.path(layer)]).unwrap();
            // Who reads a layer reads those below it.
            if changes.iter().any(|changed| *changed >= depth) {
                place.refuses(args, "Failed to get \"write\" lock");
            } else {
                place.qimg(args).success();
            }
            drop(session);
            assert!(place.shows("top.qcow2") == shown, "{args:?} beside a reader of {layer}");
        }
    }
}

#[test]
fn a_raw_disk_that_is_written_to_is_not_copied() {
    let place = Place::with_chain();
    let _writer = IoSession::start(["-f", "raw", &place.path("base.raw")]).unwrap();
    place.refuses(&["chain", "snapshot", "-f", "raw", "base.raw", "new.qcow2"], "lock");
    place.refuses(&["chain", "flatten", "top.qcow2"], "lock");
    place.refuses(
        &["chain", "diff", "-f", "raw", "base.raw", "top.qcow2", "-d", "new.qcow2"],
        "lock",
    );
}

#[test]
fn a_new_backing_file_that_is_written_to_takes_force_share() {
    let place = chain();
    place.qemu_img(&["convert", "-O", "qcow2", "base.raw", "new.qcow2"]);
    let shown = place.shows("top.qcow2");
    let writer = IoSession::start(["-f", "qcow2", &place.path("new.qcow2")]).unwrap();
    let onto = ["-b", "new.qcow2", "-F", "qcow2", "top.qcow2"];
    place.refuses(&[&["rebase"][..], &onto].concat(), "(-U reads it all the same)");
    place.qimg(&[&["rebase", "-U"][..], &onto].concat()).success();
    drop(writer);
    assert!(place.shows("top.qcow2") == shown);
}
