//! Running a command line with the real program and with ours.

use std::path::Path;

use testkit::{Output, Qemu, run};

/// Runs our `qimg`.
pub(crate) fn qimg(args: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_qimg")), args)
}

/// Runs our `qimg-io`.
pub(crate) fn qimg_io(args: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_qimg-io")), args)
}

/// Asserts that both programs say the same and exit alike.
#[track_caller]
pub(crate) fn same(args: &[&str]) {
    let theirs = Qemu::img(args);
    let ours = qimg(args);
    assert_eq!(ours.stdout, theirs.stdout, "standard output of {args:?}");
    let said = ours.stderr.replace("qimg: ", "qemu-img: ");
    assert_eq!(said, theirs.stderr, "standard error of {args:?}");
    assert_eq!(ours.code, theirs.code, "exit code of {args:?}");
}

/// Asserts that both programs print the same and exit alike; the words of a failure are ours,
/// in one line.
#[track_caller]
pub(crate) fn same_answer(args: &[&str]) {
    let theirs = Qemu::img(args);
    let ours = qimg(args);
    assert_eq!(ours.stdout, theirs.stdout, "standard output of {args:?}");
    assert_eq!(ours.code, theirs.code, "exit code of {args:?}\n{}", ours.stderr);
    assert_eq!(ours.stderr.is_empty(), theirs.stderr.is_empty(), "{args:?}: {}", ours.stderr);
    assert!(ours.stderr.lines().count() <= 1, "more than one line: {}", ours.stderr);
}

/// The writing end of a pipe whose reader went away.
pub(crate) fn nobody_reads() -> std::process::Stdio {
    let (_, writer) = std::io::pipe().expect("a pipe can be made");
    writer.into()
}
