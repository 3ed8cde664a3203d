//! Locks: a running real tool and we exclude each other exactly where two of either would.

use std::path::Path;

use chain::{Chain, Error, Format, OpenOptions, Policy};
use testkit::{IoSession, Qemu};

use crate::images::{Built, Shape};
use crate::operation::Operation;

fn chain_of_three() -> Built {
    let mut built = Built::on_raw(&[7; 1 << 20]);
    built.push(Shape::of(1 << 20)).push(Shape::of(1 << 20));
    built.change(true, &[Operation::write(0, 4096, 1)]);
    built
}

fn qcow2() -> OpenOptions {
    OpenOptions::new().format(Format::Qcow2)
}

/// `None` when we may open, or what we are told.
fn ours(path: &Path, options: &OpenOptions) -> Option<String> {
    let error = Chain::open(path, options).err()?;
    assert!(
        matches!(&error, Error::Storage { source: block_io::Error::Locked { .. }, .. }),
        "no refusal of a lock: {error}"
    );
    error.to_string().rsplit_once("': ").map(|(_, text)| text.to_owned())
}

/// Whether `qemu-io` may open, with these options before the file name.
#[track_caller]
fn theirs(path: &Path, options: &[&str], refusal: Option<&str>) {
    let args = [options, &["-c", "read 0 512", path.to_str().unwrap()]].concat();
    let output = Qemu::io(args);
    match refusal {
        None => drop(output.success()),
        Some(text) => drop(output.fails_with(text)),
    }
}

const WRITE: &str = "Failed to get \"write\" lock";
const SHARED_WRITE: &str = "Failed to get shared \"write\" lock";

#[test]
fn a_writing_tool_keeps_us_out() {
    let built = chain_of_three();
    let mut session = IoSession::start(["-f", "qcow2", built.top().to_str().unwrap()]).unwrap();
    assert_eq!(ours(built.top(), &qcow2()).as_deref(), Some(WRITE));
    assert_eq!(ours(built.top(), &qcow2().read_only(true)).as_deref(), Some(SHARED_WRITE));
    // Who shares by force or does not lock gets in, and sees what was flushed.
    session.command("write -P 9 65536 512");
    session.command("flush");
    let policies = [Policy::new().force_share(true), Policy::new().locking(false)];
    for policy in policies {
        let chain = Chain::open(built.top(), &qcow2().read_only(true).policy(policy)).unwrap();
        let mut bytes = [0; 1024];
        chain.read_at(65536, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[512]), (9, 7));
    }
    // Our readers by force do not disturb the writer either.
    assert!(session.command("write -P 10 65536 512").contains("wrote 512/512"));
    drop(session);
    assert_eq!(ours(built.top(), &qcow2()), None);
}

#[test]
fn we_keep_tools_out_while_we_write() {
    let built = chain_of_three();
    let chain = built.open_writable();
    theirs(built.top(), &["-f", "qcow2"], Some(WRITE));
    theirs(built.top(), &["-r", "-f", "qcow2"], Some(SHARED_WRITE));
    theirs(built.top(), &["-r", "-U", "-f", "qcow2"], None);
    Qemu::img(["info", built.top().to_str().unwrap()]).fails_with(SHARED_WRITE);
    assert_eq!(ours(built.top(), &qcow2()).as_deref(), Some(WRITE));
    assert_eq!(ours(built.top(), &qcow2().read_only(true)).as_deref(), Some(SHARED_WRITE));
    chain.close().unwrap();
    theirs(built.top(), &["-f", "qcow2"], None);
}

#[test]
fn readers_share() {
    let built = chain_of_three();
    let chain = built.open();
    theirs(built.top(), &["-r", "-f", "qcow2"], None);
    theirs(built.top(), &["-f", "qcow2"], Some(WRITE));
    assert_eq!(ours(built.top(), &qcow2().read_only(true)), None);
    assert_eq!(ours(built.top(), &qcow2()).as_deref(), Some(WRITE));
    drop(chain);
    let session = IoSession::start(["-r", "-f", "qcow2", built.top().to_str().unwrap()]).unwrap();
    assert_eq!(ours(built.top(), &qcow2().read_only(true)), None);
    assert_eq!(ours(built.top(), &qcow2()).as_deref(), Some(WRITE));
    drop(session);
}

/// Below a running overlay everybody may read; raw bases may even be written, qcow2 layers not.
#[test]
fn layers_below_a_running_overlay_are_locked_as_the_tools_lock_them() {
    let built = chain_of_three();
    let (base, middle) = (built.layers[0].0.clone(), built.layers[1].0.clone());
    let second = built.folder.path("second.qcow2");
    let names = [middle.to_str().unwrap(), second.to_str().unwrap()];
    Qemu::img(["create", "-f", "qcow2", "-b", names[0], "-F", "qcow2", names[1]]).success();
    let raw = OpenOptions::new().format(Format::Raw);
    let check = || {
        theirs(&base, &["-f", "raw"], None);
        assert_eq!(ours(&base, &raw), None);
        theirs(&middle, &["-r", "-f", "qcow2"], None);
        assert_eq!(ours(&middle, &qcow2().read_only(true)), None);
        theirs(&middle, &["-f", "qcow2"], Some(WRITE));
        assert_eq!(ours(&middle, &qcow2()).as_deref(), Some(WRITE));
        // A second overlay over the same files.
        theirs(&second, &["-f", "qcow2"], None);
        assert_eq!(ours(&second, &qcow2()), None);
    };
    let chain = built.open_writable();
    check();
    drop(chain);
    let session = IoSession::start(["-f", "qcow2", built.top().to_str().unwrap()]).unwrap();
    check();
    drop(session);
    // Readers by force hold nobody back.
    let forced = qcow2().policy(Policy::new().force_share(true));
    let chain = Chain::open(built.top(), &forced).unwrap();
    theirs(&middle, &["-f", "qcow2"], None);
    drop(chain);
}

/// A qcow2 layer that somebody writes cannot lie below; a raw one can.
#[test]
fn a_layer_that_is_being_written_is_no_backing_file() {
    let built = chain_of_three();
    let (base, middle) = (&built.layers[0].0, &built.layers[1].0);
    let session = IoSession::start(["-f", "qcow2", middle.to_str().unwrap()]).unwrap();
    theirs(built.top(), &["-r", "-f", "qcow2"], Some(SHARED_WRITE));
    let error = Chain::open(built.top(), &qcow2()).unwrap_err();
    assert!(matches!(&error, Error::Backing { path, .. } if path == middle), "{error}");
    assert!(error.to_string().ends_with(SHARED_WRITE), "{error}");
    assert_eq!(ours(built.top(), &qcow2().policy(Policy::new().force_share(true))), None);
    drop(session);
    let session = IoSession::start(["-f", "raw", base.to_str().unwrap()]).unwrap();
    theirs(built.top(), &["-r", "-f", "qcow2"], None);
    assert_eq!(ours(built.top(), &qcow2()), None);
    drop(session);
}

/// What is copied must hold still, and must not be written into one of its own layers.
#[test]
fn a_raw_layer_holds_still_when_asked() {
    let built = chain_of_three();
    let base = &built.layers[0].0;
    let still = Policy::new().refuse_writers(true);
    let raw = OpenOptions::new().format(Format::Raw);
    let overlay = Chain::open(built.top(), &qcow2().read_only(true).policy(still.clone())).unwrap();
    theirs(base, &["-f", "raw"], Some(WRITE));
    theirs(base, &["-r", "-f", "raw"], None);
    assert_eq!(ours(base, &raw.clone()).as_deref(), Some(WRITE));
    drop(overlay);
    let still_raw = raw.clone().read_only(true).policy(still);
    let alone = Chain::open(base, &still_raw).unwrap();
    theirs(base, &["-f", "raw"], Some(WRITE));
    drop(alone);
    let session = IoSession::start(["-f", "raw", base.to_str().unwrap()]).unwrap();
    assert_eq!(ours(base, &raw.read_only(true)), None);
    assert_eq!(ours(base, &still_raw).as_deref(), Some(SHARED_WRITE));
    drop(session);
}

/// Sharing by force is for readers: a writer beside a writer would destroy the image.
#[test]
fn nobody_writes_by_force() {
    let built = chain_of_three();
    let session = IoSession::start(["-f", "qcow2", built.top().to_str().unwrap()]).unwrap();
    let forced = qcow2().policy(Policy::new().force_share(true));
    let chain = Chain::open(built.top(), &forced).unwrap();
    assert!(chain.is_read_only());
    assert!(matches!(chain.write_at(0, &[1]), Err(Error::ReadOnly)));
    drop(session);
}

#[test]
fn raw_images_are_locked_as_raw_images_are() {
    let built = Built::on_raw(&[7; 4096]);
    let raw = OpenOptions::new().format(Format::Raw);
    let chain = built.open_writable();
    theirs(built.top(), &["-f", "raw"], None);
    assert_eq!(ours(built.top(), &raw), None);
    drop(chain);
    let session = IoSession::start(["-f", "raw", built.top().to_str().unwrap()]).unwrap();
    assert_eq!(ours(built.top(), &raw), None);
    // As a qcow2 image it is refused, before anybody looks what it is.
    assert_eq!(ours(built.top(), &qcow2().read_only(true)).as_deref(), Some(SHARED_WRITE));
    drop(session);
}
