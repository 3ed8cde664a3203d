//! Cases with names: what random histories hit too rarely, or never.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use qimg::chain::{
    Chain, Commit, Delta, Error, Format, LayerRef, Moved, OpenOptions, Overlays, Rebase, Refusal,
    Stream, Watch,
};
use testkit::{Folder, Qemu};

use super::files::Files;
use super::world::qcow2;

const MIB: usize = 1 << 20;

fn raw() -> OpenOptions {
    OpenOptions::new().format(Format::Raw)
}

fn create(path: &Path, options: &str, below: Option<(&str, &str)>, size: &str) {
    let mut args = vec!["create", "-q", "-f", "qcow2", "-o", options];
    if let Some((name, format)) = below {
        args.extend(["-b", name, "-F", format]);
    }
    Qemu::img(args.into_iter().chain([path.to_str().unwrap(), size])).success();
}

fn write(path: &Path, command: &str) {
    let said = Qemu::io(["-f", "qcow2", "-c", command, path.to_str().unwrap()]).success();
    assert!(said.stdout.contains("wrote"), "{said:?}");
}

/// What the real tool reads.
fn shown(folder: &Folder, path: &Path) -> Vec<u8> {
    let out = folder.path("shown.raw");
    Qemu::img(["convert", "-O", "raw", path.to_str().unwrap(), out.to_str().unwrap()]).success();
    let bytes = folder.read("shown.raw");
    std::fs::remove_file(out).unwrap();
    bytes
}

/// An image of version 2 gives clusters up that become zeros while nothing lies below them: what comes to
/// lie below would show.
#[test]
fn an_image_without_zero_clusters_hides_its_first_backing_file() {
    let folder = Folder::new();
    folder.write("base.raw", &vec![7; 4 * MIB]);
    for (number, options) in ["compat=0.10", "compat=0.10,cluster_size=512", "compat=1.1"]
        .into_iter()
        .flat_map(|options| [(options, false), (options, true)])
        .enumerate()
    {
        let (options, compress) = options;
        let path = folder.path(format!("{number}.qcow2"));
        create(&path, options, None, "3M");
        write(&path, "write -P 5 1000000 3000");
        let before = shown(&folder, &path);
        let rebase = Rebase::new(&path, qcow2()).onto("base.raw", Format::Raw).compress(compress);
        rebase.run(Watch::none()).unwrap();
        assert!(shown(&folder, &path) == before, "{options}, compress {compress}");
        Qemu::check(&path);
    }
}

/// Space that is reserved for clusters which nobody owns yet is in the way of compressed ones.
#[test]
fn reserved_space_takes_no_compressed_clusters_and_loses_nothing() {
    let folder = Folder::new();
    folder.write("base.raw", &vec![7; 2 * MIB]);
    let top = folder.path("top.qcow2");
    let options = "extended_l2=on,preallocation=metadata";
    create(&top, options, Some(("base.raw", "raw")), "2M");
    write(&top, "write -P 5 4k 2k");
    let before = shown(&folder, &top);
    Rebase::new(&top, qcow2()).compress(true).run(Watch::none()).unwrap();
    assert!(shown(&folder, &top) == before);
    Qemu::check(&top);
}

/// Whoever cannot be switched over in the end says so before the data moves.
#[test]
fn nothing_moves_when_the_header_cannot_follow() {
    let folder = Folder::new();
    let elsewhere = Folder::new();
    let long = elsewhere.path("x".repeat(200)).join("y".repeat(200));
    std::fs::create_dir_all(&long).unwrap();
    let (base, mid, top) =
        (long.join("base.raw"), folder.path("mid.qcow2"), folder.path("top.qcow2"));
    std::fs::write(&base, vec![1; MIB]).unwrap();
    create(&mid, "cluster_size=64k", Some((base.to_str().unwrap(), "raw")), "1M");
    create(&top, "cluster_size=512", Some(("mid.qcow2", "qcow2")), "1M");
    write(&mid, "write -P 2 0 64k");
    write(&top, "write -P 3 4k 4k");
    let base_before = std::fs::read(&base).unwrap();
    let before = Files::in_folder(folder.root());
    let no_room = |error: Error| assert!(error.to_string().contains("header"), "{error}");
    let commit = Commit::new(&top, qcow2()).from(LayerRef::Depth(1));
    no_room(commit.plan().unwrap_err());
    no_room(commit.run(Watch::none()).unwrap_err());
    let commit = Commit::new(&top, qcow2()).into_layer(LayerRef::Depth(2));
    no_room(commit.run(Watch::none()).unwrap_err());
    let stream = Stream::new(&top, qcow2()).base(LayerRef::Depth(2));
    no_room(stream.plan().unwrap_err());
    no_room(stream.run(Watch::none()).unwrap_err());
    let rebase = Rebase::new(&top, qcow2()).onto(base.to_str().unwrap(), Format::Raw);
    no_room(rebase.plan().unwrap_err());
    no_room(rebase.run(Watch::none()).unwrap_err());
    before.assert_only_changed(&Files::in_folder(folder.root()), &[], "refused");
    assert!(std::fs::read(&base).unwrap() == base_before);
}

/// The layer above the one that is committed is marked corrupt: its header may not be changed.
#[test]
fn nothing_moves_when_the_layer_above_cannot_be_written() {
    let folder = Folder::new();
    folder.write("base.raw", &vec![1; MIB]);
    let (mid, top) = (folder.path("mid.qcow2"), folder.path("top.qcow2"));
    create(&mid, "compat=1.1", Some(("base.raw", "raw")), "1M");
    create(&top, "compat=1.1", Some(("mid.qcow2", "qcow2")), "1M");
    write(&mid, "write -P 2 0 64k");
    let mut bytes = folder.read("top.qcow2");
    bytes[79] |= 2; // incompatible features: corrupt
    folder.write("top.qcow2", &bytes);
    let before = Files::in_folder(folder.root());
    for from in [0, 1] {
        let commit = Commit::new(&top, qcow2()).from(LayerRef::Depth(from));
        let refused = commit.run(Watch::none()).unwrap_err();
        assert!(refused.to_string().contains("corrupt"), "{refused}");
    }
    before.assert_only_changed(&Files::in_folder(folder.root()), &[], "refused");
}

/// A delta has its name when it is complete, and not before.
#[test]
fn half_a_delta_has_no_name() {
    let folder = Folder::new();
    folder.write("old.raw", &vec![1; 4 * MIB]);
    folder.write("new.raw", &vec![2; 3 * MIB]);
    let path = folder.path("delta.qcow2");
    let delta = || {
        let (old, new) = (folder.path("old.raw"), folder.path("new.raw"));
        Delta::new(old, raw(), new, raw(), &path)
    };
    let names = || std::fs::read_dir(folder.root()).unwrap().count();
    let (cancel, seen) = (AtomicBool::new(false), AtomicBool::new(false));
    let look = |progress: qimg::chain::Progress| {
        seen.fetch_or(path.exists(), Ordering::Relaxed);
        cancel.store(progress.total > 0, Ordering::Relaxed);
    };
    let cancelled = delta().run(Watch::none().progress(&look).cancel(&cancel)).unwrap_err();
    assert!(matches!(cancelled, Error::Cancelled), "{cancelled}");
    assert_eq!((names(), seen.load(Ordering::Relaxed)), (2, false));
    delta().run(Watch::none().progress(&look)).unwrap();
    assert_eq!((names(), seen.load(Ordering::Relaxed)), (3, false));
    assert!(shown(&folder, &path) == vec![2; 3 * MIB]);
    let taken = delta().run(Watch::none()).unwrap_err();
    assert!(matches!(taken, Error::Refused(Refusal::Exists { .. })), "{taken}");
    assert_eq!(names(), 3);
}

/// Snapshots inside a base keep what they show while an overlay is committed over them.
#[test]
fn a_base_keeps_its_internal_snapshots() {
    let folder = Folder::new();
    let (base, top) = (folder.path("base.qcow2"), folder.path("top.qcow2"));
    for options in ["compat=0.10", "compat=1.1", "extended_l2=on,cluster_size=64k"] {
        create(&base, options, None, "2M");
        write(&base, "write -P 1 0 1M");
        Qemu::img(["snapshot", "-c", "one", base.to_str().unwrap()]).success();
        create(&top, "compat=1.1", Some(("base.qcow2", "qcow2")), "2M");
        write(&top, "write -P 2 500k 1M");
        write(&top, "write -z 0 70k");
        let before = shown(&folder, &top);
        Commit::new(&top, qcow2()).run(Watch::none()).unwrap();
        assert!(shown(&folder, &top) == before && shown(&folder, &base) == before, "{options}");
        Qemu::check(&base);
        Qemu::img(["snapshot", "-a", "one", base.to_str().unwrap()]).success();
        let mut expected = vec![1; MIB];
        expected.resize(2 * MIB, 0);
        assert!(shown(&folder, &base) == expected, "{options}");
        Qemu::check(&base);
        std::fs::remove_file(&base).unwrap();
        std::fs::remove_file(&top).unwrap();
    }
}

/// Bitmaps that nobody here keeps true are not made a lie of; snapshots of overlays not either.
#[test]
fn what_cannot_be_kept_true_is_refused_by_name() {
    let folder = Folder::new();
    let (base, top) = (folder.path("base.qcow2"), folder.path("top.qcow2"));
    create(&base, "compat=1.1", None, "2M");
    write(&base, "write -P 1 0 1M");
    create(&top, "compat=1.1", Some(("base.qcow2", "qcow2")), "2M");
    write(&top, "write -P 2 500k 1M");
    Qemu::img(["snapshot", "-c", "one", top.to_str().unwrap()]).success();
    let before = Files::in_folder(folder.root());
    let refused = [
        Commit::new(&top, qcow2()).run(Watch::none()).unwrap_err(),
        Stream::new(&top, qcow2()).run(Watch::none()).unwrap_err(),
        Rebase::new(&top, qcow2()).run(Watch::none()).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::Refused(Refusal::InternalSnapshots { .. })), "{error}");
    }
    before.assert_only_changed(&Files::in_folder(folder.root()), &[], "refused");
    Qemu::img(["snapshot", "-d", "one", top.to_str().unwrap()]).success();
    Qemu::img(["bitmap", "--add", base.to_str().unwrap(), "nightly"]).success();
    let before = Files::in_folder(folder.root());
    let refused = Commit::new(&top, qcow2()).run(Watch::none()).unwrap_err();
    assert!(refused.to_string().contains("bitmaps"), "{refused}");
    before.assert_only_changed(&Files::in_folder(folder.root()), &[], "refused");
}

/// An overlay on a raw base whose length is no whole number of sectors, committed over its end.
#[test]
fn a_base_may_end_within_a_sector() {
    for length in [MIB - 100, MIB - 511, MIB + 1] {
        let folder = Folder::new();
        let base = folder.write("base.raw", &vec![1; length]);
        let top = folder.path("top.qcow2");
        create(&top, "compat=1.1", Some(("base.raw", "raw")), "2M");
        let start = length / 512 * 512;
        write(&top, &format!("write -z {} 700", start - 600));
        write(&top, &format!("write -P 3 {} 300", start + 400));
        let before = shown(&folder, &top);
        Commit::new(&top, qcow2()).run(Watch::none()).unwrap();
        assert!(shown(&folder, &top) == before, "{length}");
        assert!(std::fs::read(&base).unwrap() == before, "{length}");
    }
}

/// A folder with many overlays is looked through once, however many layers change; and many clones are
/// made without comparing each name with each other.
#[test]
fn many_names_cost_little() {
    let folder = Folder::new();
    let base = folder.write("base.raw", &[1; 4096]);
    let names = (0..3000).map(|number| folder.path(format!("{number}.qcow2")));
    Overlays::new().on(&base, raw(), names.collect::<Vec<_>>()).plan().unwrap();
    let mut below = base;
    let layers = 120;
    for number in 0..layers {
        let path = folder.path(format!("layer-{number}.qcow2"));
        let format = if number == 0 { raw() } else { qcow2() };
        Overlays::new().on(&below, format, [&path]).create().unwrap();
        below = path;
    }
    let commit = Commit::new(&below, qcow2()).into_layer(LayerRef::Depth(layers));
    commit.run(Watch::none()).unwrap();
    assert_eq!(Chain::open(&below, &qcow2()).unwrap().depth(), 2);
}

/// Where guest data lies in a file of its own, nothing is compressed: said before anything moves.
#[test]
fn a_data_file_takes_no_compressed_clusters() {
    let folder = Folder::new();
    folder.write("base.raw", &vec![7; MIB]);
    let top = folder.path("top.qcow2");
    let options = format!("data_file={}", folder.path("data").display());
    create(&top, &options, Some(("base.raw", "raw")), "1M");
    let before = Files::in_folder(folder.root());
    let policy = qimg::chain::Policy::new().data_files(true);
    let rebase = Rebase::new(&top, qcow2().policy(policy)).compress(true);
    let refused = rebase.run(Watch::none()).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::NotCompressible { .. })), "{refused}");
    assert_eq!(Files::in_folder(folder.root()), before);
}

/// An overlay outside the chain rests on what would change: each operation says so, and `force` does it
/// all the same.
#[test]
fn what_others_rest_on_does_not_change() {
    let folder = Folder::new();
    folder.write("base.raw", &vec![7; MIB]);
    let [mid, top, other] = ["mid", "top", "other"].map(|name| folder.path(name));
    create(&mid, "compat=1.1", Some(("base.raw", "raw")), "1M");
    create(&top, "compat=1.1", Some(("mid", "qcow2")), "1M");
    write(&top, "write -P 5 0 64k");
    let refused = |on: &str, deed: &dyn Fn() -> Result<Moved, Error>| {
        create(
            &other,
            "compat=1.1",
            Some((on, if on == "base.raw" { "raw" } else { "qcow2" })),
            "1M",
        );
        let before = Files::in_folder(folder.root());
        let error = deed().unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::SharedBase { .. })), "{on}: {error}");
        assert_eq!(Files::in_folder(folder.root()), before);
        std::fs::remove_file(&other).unwrap();
    };
    let commit = || Commit::new(&top, qcow2());
    refused("mid", &|| commit().run(Watch::none()));
    refused("base.raw", &|| commit().into_layer(LayerRef::Depth(2)).run(Watch::none()));
    // Emptied, it would show the same; but it is not what the other was made on.
    refused("top", &|| commit().run(Watch::none()));
    refused("top", &|| Stream::new(&top, qcow2()).run(Watch::none()));
    refused("top", &|| Rebase::new(&top, qcow2()).run(Watch::none()));
    refused("top", &|| Rebase::new(&top, qcow2()).header_only(true).run(Watch::none()));
    create(&other, "compat=1.1", Some(("mid", "qcow2")), "1M");
    commit().keep(true).force(true).run(Watch::none()).unwrap();
    assert_eq!(shown(&folder, &other)[..65536], [5; 65536]);
}
