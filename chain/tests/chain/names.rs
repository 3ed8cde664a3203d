//! Names of backing files, resolved as the real tools resolve them.

use chain::{Chain, Format, OpenOptions};
use testkit::{Folder, Qemu};

fn qcow2() -> OpenOptions {
    OpenOptions::new().format(Format::Qcow2).read_only(true)
}

fn first_byte(path: &std::path::Path) -> Result<u8, String> {
    let chain = Chain::open(path, &qcow2()).map_err(|error| error.to_string())?;
    let mut byte = [0];
    chain.read_at(0, &mut byte).unwrap();
    Ok(byte[0])
}

/// Whether the real tool can open the image with what lies below.
fn theirs_opens(path: &std::path::Path) -> bool {
    Qemu::io(["-r", "-f", "qcow2", "-c", "read 0 512", path.to_str().unwrap()]).code == Some(0)
}

#[test]
fn a_symlinked_overlay_resolves_beside_its_path_as_given() {
    let folder = Folder::new();
    for name in ["images", "links"] {
        std::fs::create_dir(folder.path(name)).unwrap();
    }
    folder.write("images/base.raw", &[1; 65536]);
    let top = folder.path("images/top.qcow2");
    Qemu::img(["create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", top.to_str().unwrap()])
        .success();
    let link = folder.path("links/top.qcow2");
    std::os::unix::fs::symlink(&top, &link).unwrap();
    assert_eq!(first_byte(&top), Ok(1));
    assert!(theirs_opens(&top));
    let error = first_byte(&link).unwrap_err();
    assert!(error.contains("links/base.raw") && error.contains("No such file"), "{error}");
    assert!(!theirs_opens(&link));
    // Another file of that name beside the link is the one that is meant.
    folder.write("links/base.raw", &[2; 65536]);
    assert_eq!(first_byte(&link), Ok(2));
    assert!(theirs_opens(&link));
}

#[test]
fn names_with_odd_characters_are_files() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("sub")).unwrap();
    for (number, name) in
        ["./a:b.raw", "sub/c:d.raw", "with space.raw", "comma,comma.raw", "\u{e4}\u{4e2d}.raw"]
            .into_iter()
            .enumerate()
    {
        let fill = number as u8 + 1;
        folder.write(name, &[fill; 65536]);
        let top = folder.path(format!("top-{number}"));
        Qemu::img(["create", "-f", "qcow2", "-b", name, "-F", "raw", top.to_str().unwrap()])
            .success();
        assert_eq!(first_byte(&top), Ok(fill), "{name}");
        assert!(theirs_opens(&top), "{name}");
    }
}

#[test]
fn absolute_and_file_names_stand_for_themselves() {
    let folder = Folder::new();
    let base = folder.write("base.raw", &[1; 65536]);
    for name in [base.display().to_string(), format!("file:{}", base.display())] {
        let top = folder.path("top.qcow2");
        Qemu::img(["create", "-f", "qcow2", "-b", &name, "-F", "raw", top.to_str().unwrap()])
            .success();
        assert_eq!(first_byte(&top), Ok(1), "{name}");
        assert!(theirs_opens(&top), "{name}");
    }
}
