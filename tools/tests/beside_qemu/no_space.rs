//! A host that lets files grow so far and no further: writes are cut short and then refused. The
//! programs say so and leave nothing behind that loses what was there before.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use testkit::{Folder, Output, Pattern, Qemu, run};

const QIMG: &str = env!("CARGO_BIN_EXE_qimg");
const QIMG_IO: &str = env!("CARGO_BIN_EXE_qimg-io");

/// Runs a program whose files may not grow beyond `blocks` times 512 bytes. What is too long for
/// that is written up to there, as on a full disk; the signal that comes with it is ignored.
fn limited<A: AsRef<OsStr>>(blocks: u64, program: &str, args: &[A]) -> Output {
    let limit = blocks.to_string();
    let script = r#"trap "" XFSZ; ulimit -f "$1" || exit 99; shift; exec "$@""#;
    let shell = ["-c", script, "sh", &limit, program].map(OsStr::new);
    run(Path::new("sh"), shell.into_iter().chain(args.iter().map(AsRef::as_ref)))
}

/// Raises the limit until the program succeeds. `judge` looks at what each run has left, and is told
/// whether it was the one that succeeded.
fn until_it_fits(
    limits: impl IntoIterator<Item = u64>,
    program: &str,
    args: &[&str],
    prepare: impl Fn(),
    judge: impl Fn(bool, u64),
) {
    for (failed, blocks) in limits.into_iter().enumerate() {
        prepare();
        let output = limited(blocks, program, args);
        let said = &output.stderr;
        assert!(!said.contains("panicked") && output.code.is_some(), "{blocks}: {output:?}");
        if output.code == Some(0) {
            judge(true, blocks);
            assert!(failed > 3, "{failed} runs of {args:?} have failed");
            return;
        }
        let told = !(said.is_empty() && output.stdout.is_empty());
        assert!(output.code == Some(1) && told, "{blocks}: {output:?}");
        judge(false, blocks);
    }
    assert!(args.is_empty(), "{args:?} never fits");
}

/// Some data, some holes, in 300 KiB.
fn source(folder: &Folder) -> PathBuf {
    let mut bytes = Pattern::new(5).bytes(0, 300 << 10);
    bytes[20 << 10..90 << 10].fill(0);
    bytes[150 << 10..200 << 10].fill(7);
    folder.write("source.raw", &bytes)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// An image that is not there, or not yet one, or one without corruption.
fn assert_no_corruption(path: &Path) {
    let check = Qemu::img(["check", "-q", "-f", "qcow2", text(path)]);
    let no_image = check.stderr.contains("Could not open");
    assert!(matches!(check.code, Some(0 | 3)) || no_image, "{check:?}");
}

#[test]
fn convert_says_that_it_could_not() {
    let folder = Folder::new();
    let source = source(&folder);
    let before = std::fs::read(&source).unwrap();
    let target = folder.path("target");
    let clear = || drop(std::fs::remove_file(&target));
    for options in [
        &["-O", "qcow2"][..],
        &["-O", "qcow2", "-c", "-o", "cluster_size=4k"],
        &["-O", "qcow2", "-W", "-o", "cluster_size=512,preallocation=metadata"],
        &["-O", "qcow2", "-o", "extended_l2=on,cluster_size=16k,lazy_refcounts=on"],
        &["-O", "raw"],
        &["-O", "raw", "-o", "preallocation=full"],
    ] {
        let files = ["-f", "raw", text(&source), text(&target)];
        let args: Vec<&str> = ["convert"].iter().chain(options).chain(&files).copied().collect();
        let judge = |succeeded: bool, blocks: u64| {
            assert!(std::fs::read(&source).unwrap() == before, "{blocks}: the source has changed");
            let format = options[1];
            if succeeded {
                Qemu::assert_same(("raw", &source), (format, &target));
            } else if format == "qcow2" && target.exists() {
                assert_no_corruption(&target);
            }
        };
        let limits = (0..5).map(|step| step * step * 35).chain([2000]);
        until_it_fits(limits, QIMG, &args, clear, judge);
    }
}

#[test]
fn create_leaves_no_half_image() {
    let folder = Folder::new();
    let target = folder.path("target");
    let clear = || drop(std::fs::remove_file(&target));
    for options in ["cluster_size=512,preallocation=metadata", "cluster_size=4k,preallocation=full"]
    {
        let args = ["create", "-f", "qcow2", "-o", options, text(&target), "600k"];
        let judge = |_: bool, _: u64| {
            if target.exists() {
                assert_no_corruption(&target);
            }
        };
        let limits = (0..14).map(|step| step * 5).chain([2000]);
        until_it_fits(limits, QIMG, &args, clear, judge);
    }
}

#[test]
fn what_was_there_before_stays() {
    let folder = Folder::new();
    let source = source(&folder);
    let image = folder.path("image.qcow2");
    for options in ["cluster_size=512,lazy_refcounts=on", "extended_l2=on,cluster_size=16k"] {
        let args = ["convert", "-f", "raw", "-O", "qcow2", "-o", options];
        Qemu::img(args.iter().chain(&[text(&source), text(&image)])).success();
        let before = std::fs::read(&image).unwrap();
        let prepare = || std::fs::write(&image, &before).unwrap();
        let blocks = before.len() as u64 / 512;
        let limits = || (0..6).map(move |step| blocks + step * step * 3).chain([blocks + 4000]);
        let judge = |_: bool, blocks: u64| {
            // What a lazy image could not write down is repaired by whoever opens it.
            let read = Qemu::io(["-f", "qcow2", "-c", "read -P 7 150k 50k", text(&image)]);
            let right = read.stdout.contains("read 51200/51200");
            assert!(right && !read.stdout.contains("verification failed"), "{blocks}: {read:?}");
            assert_no_corruption(&image);
        };
        // Over holes: new clusters at the end of the file.
        let write = ["-f", "qcow2", "-c", "write -P 9 20k 70k", "-c", "flush", text(&image)];
        until_it_fits(limits(), QIMG_IO, &write, prepare, judge);
        let resize = ["resize", "-f", "qcow2", "--preallocation=full", text(&image), "400k"];
        until_it_fits(limits(), QIMG, &resize, prepare, judge);
    }
}

/// Operations on chains that cannot write all they have to: the top shows what it showed, nobody's file
/// is gone, and nothing half made is left.
#[test]
fn chains_show_what_they_showed() {
    let folder = Folder::new();
    let (base, mid, top) =
        (folder.path("base.qcow2"), folder.path("mid.qcow2"), folder.path("top.qcow2"));
    let source = source(&folder);
    Qemu::img(["create", "-q", "-f", "qcow2", text(&base), "1M"]).success();
    let convert = ["convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k"];
    Qemu::img(convert.iter().chain(&[text(&source), text(&mid)])).success();
    let onto = ["rebase", "-u", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", text(&mid)];
    Qemu::img(onto).success();
    let create = ["create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", text(&top)];
    Qemu::img(create).success();
    let files = [&base, &mid, &top].map(|path| (path, std::fs::read(path).unwrap()));
    let new = folder.path("new.qcow2");
    for args in [
        &["commit", text(&mid), "--force"][..],
        &["chain", "commit", "--from", "1", text(&top)],
        &["chain", "flatten", text(&top)],
        &["rebase", "-c", "-b", "", text(&top)],
        &["chain", "diff", text(&base), text(&top), "-d", text(&new)],
        &["chain", "restore", "-O", "raw", "-o", text(&new), text(&base), text(&mid), text(&top)],
    ] {
        let prepare = || {
            files.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
            drop(std::fs::remove_file(&new));
        };
        let judge = |succeeded: bool, blocks: u64| {
            Qemu::assert_same(("raw", &source), ("qcow2", &top));
            files.iter().for_each(|(path, _)| assert_no_corruption(path));
            let names = std::fs::read_dir(folder.root()).unwrap().count();
            assert!(names == 4 || (succeeded && names == 5), "{args:?} at {blocks}: {names} names");
        };
        let limits = (0..6).map(|step| step * step * 25).chain([4000]);
        until_it_fits(limits, QIMG, args, prepare, judge);
    }
}
