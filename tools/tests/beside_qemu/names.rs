//! The programs under the names of those they stand for.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use testkit::{Folder, Output, Qemu, run};

/// Both of our files, each linked under every name.
fn linked(folder: &Folder) -> Vec<(PathBuf, [PathBuf; 3])> {
    [env!("CARGO_BIN_EXE_qimg"), env!("CARGO_BIN_EXE_qimg-io")]
        .into_iter()
        .map(Path::new)
        .map(|file| {
            let names = ["qemu-img", "qemu-io", "qemu-nbd"].map(|name| {
                let own = file.file_name().expect("a file").to_string_lossy().into_owned();
                let folder = folder.path(own);
                std::fs::create_dir_all(&folder).expect("a folder");
                let link = folder.join(name);
                symlink(file, &link).expect("a link");
                link
            });
            (file.to_path_buf(), names)
        })
        .collect()
}

fn same(theirs: &Output, ours: &Output) {
    assert_eq!(ours.stdout, theirs.stdout);
    assert_eq!(ours.stderr, theirs.stderr);
    assert_eq!(ours.code, theirs.code);
}

#[test]
fn a_link_is_the_program_it_is_called_after() {
    let folder = Folder::new();
    let absent = folder.path("absent.qcow2");
    let absent = absent.to_str().expect("text");
    let top = folder.path("top.qcow2");
    let top = top.to_str().expect("text");
    Qemu::img(["create", "-q", "-u", "-f", "qcow2", "-b", absent, "-F", "raw", top, "1M"]);
    for (_, [img, io, nbd]) in linked(&folder) {
        for args in [["map", absent], ["map", top], ["info", absent]] {
            same(&Qemu::img(args), &run(&img, args));
        }
        for args in [["-c", "length", absent], ["-c", "length", top]] {
            same(&Qemu::io(args), &run(&io, args));
        }
        same(&Qemu::io(["-c", "open a", "-c", "frob"]), &run(&io, ["-c", "open a", "-c", "frob"]));
        let said = run(&nbd, ["-L"]);
        assert_eq!(said.code, Some(1));
        assert_eq!(
            said.stderr,
            "qemu-nbd: there is no NBD server here yet; use the qemu-nbd of QEMU\n"
        );
    }
}
