//! What may be opened because an image says so: flags of every verb, and refusals that name them.

use std::path::Path;

use testkit::{Folder, Qemu, built_program, run};

fn qimg(folder: &Folder, args: &[&str]) -> testkit::Output {
    let mut words = vec!["-c", "cd \"$0\" && exec \"$@\""];
    let (root, program) = (folder.root().display().to_string(), built_program("qimg"));
    let program = program.display().to_string();
    words.extend([root.as_str(), program.as_str()]);
    words.extend(args);
    run(Path::new("sh"), words)
}

/// A chain of three whose base lies in another folder.
fn chain() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("bases")).unwrap();
    let create = |args: &[&str]| {
        Qemu::img([&["create", "-q"], args].concat()).success();
    };
    let path = |name: &str| folder.path(name).display().to_string();
    create(&["-f", "raw", &path("bases/base.raw"), "1M"]);
    let (middle, top) = (path("middle.qcow2"), path("top.qcow2"));
    create(&["-f", "qcow2", "-b", "bases/base.raw", "-F", "raw", &middle]);
    create(&["-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", &top]);
    folder
}

#[test]
fn folders_are_allowed_by_a_flag_of_every_verb() {
    let folder = chain();
    for verb in [
        &["map", "top.qcow2"][..],
        &["compare", "top.qcow2", "top.qcow2"],
        &["chain", "flatten", "--dry-run", "top.qcow2"],
    ] {
        qimg(&folder, &[verb, &["--allow-dir=."]].concat()).success();
        let refused = qimg(&folder, &[verb, &["--allow-dir=bases"]].concat());
        assert!(refused.code != Some(0), "{refused:?}");
        assert!(refused.stderr.contains("--allow-dir=. allows it"), "{refused:?}");
    }
}

#[test]
fn the_depth_of_a_chain_is_limited_by_a_flag() {
    let folder = chain();
    qimg(&folder, &["map", "--depth-max=3", "top.qcow2"]).success();
    let refused = qimg(&folder, &["map", "--depth-max=2", "top.qcow2"]).exits(1);
    assert!(refused.stderr.contains("more than 2 layers; --depth-max=LAYERS allows more"));
}

#[test]
fn names_with_a_protocol_are_refused_with_what_to_do() {
    let folder = chain();
    let top = folder.path("top.qcow2").display().to_string();
    let name = "json:{\"driver\":\"raw\",\"file.filename\":\"bases/base.raw\"}";
    Qemu::img(["rebase", "-u", "-f", "qcow2", "-b", name, "-F", "raw", &top]).success();
    let refused = qimg(&folder, &["map", "top.qcow2"]).exits(1);
    assert!(refused.stderr.contains("uses protocol 'json'"), "{refused:?}");
    assert!(refused.stderr.contains("qimg rebase -u"), "{refused:?}");
}
