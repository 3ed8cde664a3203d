//! The Debian package: made by cargo-deb from the programs that were installed, unpacked into an
//! empty folder, and tried from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{smoke, unexpected};
use crate::command::{answers, cargo, output_of, run};
use crate::failure::{Failure, Outcome};

/// The one version that packages are made with.
const CARGO_DEB_VERSION: &str = "3.8.0";

/// Programs of Debian that packages are made and looked at with, and the packages that have them.
const NEEDS: [(&str, &str); 2] = [("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev")];

/// Files that the package must bring, besides a page for each verb.
const FILES: [&str; 12] = [
    "usr/bin/qimg",
    "usr/bin/qimg-io",
    "usr/share/bash-completion/completions/qimg",
    "usr/share/bash-completion/completions/qimg-io",
    "usr/share/doc/qimg-tools/copyright",
    "usr/share/doc/qimg-tools/README.md",
    "usr/share/fish/vendor_completions.d/qimg.fish",
    "usr/share/fish/vendor_completions.d/qimg-io.fish",
    "usr/share/man/man1/qimg.1.gz",
    "usr/share/man/man1/qimg-io.1.gz",
    "usr/share/zsh/vendor-completions/_qimg",
    "usr/share/zsh/vendor-completions/_qimg-io",
];

/// Makes the package and returns its path.
pub(super) fn make(folder: &Path) -> Outcome<PathBuf> {
    for (program, package) in NEEDS {
        if !answers(Command::new(program).arg("--version")) {
            let hint = format!("on Debian: apt-get install {package}");
            return Err(Failure::Missing { what: program.to_owned(), hint });
        }
    }
    let maker = maker(folder)?;
    println!("making the Debian package");
    let mut command = Command::new(maker);
    command.current_dir(crate::command::root());
    // The programs lie in the folder of their profile since they were installed.
    command.args(["--package", "qimg-tools", "--no-build", "--profile", super::PROFILE]);
    command.args(["--locked", "--quiet", "--output"]);
    run(command.arg(folder))?;
    let package = only_package(folder)?;
    judge(&package, folder)?;
    Ok(package)
}

/// cargo-deb in its one version: found, or built for this task alone.
fn maker(folder: &Path) -> Outcome<PathBuf> {
    let tools = folder.join("tools");
    let own = tools.join("bin").join("cargo-deb");
    for found in [own.clone(), PathBuf::from("cargo-deb")] {
        let is_it = Command::new(&found).arg("--version").output().is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).trim_end().ends_with(CARGO_DEB_VERSION)
        });
        if is_it {
            return Ok(found);
        }
    }
    println!("building cargo-deb {CARGO_DEB_VERSION}");
    let args = ["install", "--locked", "--quiet", "cargo-deb", "--version", CARGO_DEB_VERSION];
    run(cargo().args(args).arg("--root").arg(&tools))?;
    Ok(own)
}

fn only_package(folder: &Path) -> Outcome<PathBuf> {
    let entries = fs::read_dir(folder).map_err(Failure::at(folder))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut packages = paths.filter(|path| path.extension().is_some_and(|end| end == "deb"));
    packages.next().ok_or_else(|| unexpected("result of cargo-deb", "no package".to_owned()))
}

/// Unpacks it where nothing is, and tries what came out.
fn judge(package: &Path, folder: &Path) -> Outcome {
    let field = |name| output_of(Command::new("dpkg-deb").arg("--field").arg(package).arg(name));
    let depends = field("Depends")?;
    if !depends.contains("libc6") {
        return Err(unexpected("dependencies of the package", depends));
    }
    let root = folder.join("unpacked");
    run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&root))?;
    let pages = folder.join("pages").join("man");
    let pages = fs::read_dir(&pages).map_err(Failure::at(&pages))?.flatten();
    let pages =
        pages.map(|page| format!("usr/share/man/man1/{}.gz", page.file_name().to_string_lossy()));
    for file in FILES.iter().map(|file| (*file).to_owned()).chain(pages) {
        if !root.join(&file).is_file() {
            return Err(unexpected("content of the package", format!("no {file}")));
        }
    }
    smoke::test(&root.join("usr").join("bin"), folder)
}
