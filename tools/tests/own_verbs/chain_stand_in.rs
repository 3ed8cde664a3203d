//! `commit` and `rebase` under the name of the real tool: the same answer, exit code and chain.

use testkit::Qemu;

use crate::chain_files::{Place, stand_in};

/// Both do the same to chains of their own. `words` is what is said on standard error, too.
#[track_caller]
fn alike(args: &[&str], words: bool) {
    let (theirs, ours) = (Place::with_chain(), Place::with_chain());
    for place in [&theirs, &ours] {
        place.qemu_img(&["create", "-q", "-f", "qcow2", "alone.qcow2", "1M"]);
        let gone = ["create", "-q", "-u", "-f", "qcow2", "-b", "gone", "-F", "qcow2", "lost.qcow2"];
        place.qemu_img(&[&gone[..], &["1M"]].concat());
    }
    let in_folder = ["-C", theirs.folder.root().to_str().unwrap(), "qemu-img"];
    let real = testkit::run("env".as_ref(), in_folder.iter().chain(args));
    let own = stand_in(&ours).args(args).output().unwrap();
    let stdout = String::from_utf8_lossy(&own.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&own.stderr).into_owned();
    assert_eq!(own.status.code(), real.code, "{args:?}: {stderr}{}", real.stderr);
    assert_eq!(stdout, real.stdout, "{args:?}");
    if words {
        assert_eq!(stderr, real.stderr, "{args:?}");
    }
    for name in ["top.qcow2", "mid.qcow2", "alone.qcow2", "lost.qcow2"] {
        let said = |place: &Place| {
            let info = Qemu::info_json("qcow2", &place.folder.path(name));
            let fields = ["virtual-size", "backing-filename", "backing-filename-format"];
            fields.map(|field| info[field].to_string())
        };
        assert_eq!(said(&ours), said(&theirs), "{args:?}: {name}");
    }
    assert!(ours.shows("mid.qcow2") == theirs.shows("mid.qcow2"), "{args:?}");
    assert!(ours.shows("top.qcow2") == theirs.shows("top.qcow2"), "{args:?}");
}

#[test]
fn commits_are_alike() {
    let table: [&[&str]; 14] = [
        &["top.qcow2"],
        &["-q", "top.qcow2"],
        &["-d", "top.qcow2"],
        &["-b", "base.raw", "top.qcow2"],
        &["-b", "mid.qcow2", "top.qcow2"],
        &["-b", "other", "top.qcow2"],
        &["-b", "top.qcow2", "top.qcow2"],
        &["-r", "0", "top.qcow2"],
        &["-r", "1G", "top.qcow2"],
        &["-r", "much", "top.qcow2"],
        &["-t", "often", "top.qcow2"],
        &["alone.qcow2"],
        &["lost.qcow2"],
        &["missing.qcow2"],
    ];
    table.iter().for_each(|args| alike(&[&["commit"], *args].concat(), true));
}

#[test]
fn rebases_are_alike() {
    let table: [&[&str]; 14] = [
        &["-b", "", "top.qcow2"],
        &["-u", "-b", "", "top.qcow2"],
        &["-u", "top.qcow2"],
        &["-b", "base.raw", "-F", "raw", "top.qcow2"],
        &["-b", "base.raw", "top.qcow2"],
        &["-c", "-b", "base.raw", "-F", "raw", "top.qcow2"],
        &["-p", "-u", "-b", "base.raw", "-F", "raw", "top.qcow2"],
        &["-b", "missing", "-F", "raw", "top.qcow2"],
        &["-b", "base.raw", "-F", "vdi2", "top.qcow2"],
        &["-T", "often", "-b", "base.raw", "-F", "raw", "top.qcow2"],
        &["-b", "", "lost.qcow2"],
        &["-u", "-b", "", "lost.qcow2"],
        &["-u", "-b", "elsewhere", "-F", "qcow2", "lost.qcow2"],
        &["-b", "base.raw", "-F", "raw", "alone.qcow2"],
    ];
    table.iter().for_each(|args| alike(&[&["rebase"], *args].concat(), true));
}

#[test]
fn what_the_real_tool_does_to_an_image_of_its_own_is_not_worse_here() {
    let place = Place::with_chain();
    let shown = place.shows("top.qcow2");
    let args = ["rebase", "-b", "./top.qcow2", "-F", "raw", "top.qcow2"];
    assert_eq!(stand_in(&place).args(args).output().unwrap().status.code(), Some(1));
    assert!(place.shows("top.qcow2") == shown);
}
