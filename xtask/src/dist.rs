//! `dist`: what goes to users (manual pages, completions, installed programs, static programs, a
//! Debian package), made and then tried in clean folders.

mod deb;
mod elf;
mod smoke;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{build_folder, cargo, output_of, root, run};
use crate::failure::{Failure, Outcome};

/// The programs that users get.
const PROGRAMS: [&str; 2] = ["qimg", "qimg-io"];
/// The profile they are built with: optimised, and without what only debuggers read.
const PROFILE: &str = "packed";

pub(crate) fn run_task(words: &[String]) -> Outcome {
    crate::no_arguments("dist", words)?;
    let folder = root().join("target").join("dist");
    clean(&folder)?;
    let pages = pages(&folder)?;
    installed(&folder)?;
    let programs = static_programs(&folder)?;
    let package = deb::make(&folder)?;
    println!("made and tried:");
    for path in [pages, programs, package] {
        println!("  {}", path.display());
    }
    Ok(())
}

/// An empty folder, but for the tools that were built for it.
fn clean(folder: &Path) -> Outcome {
    fs::create_dir_all(folder).map_err(Failure::at(folder))?;
    for entry in fs::read_dir(folder).map_err(Failure::at(folder))? {
        let path = entry.map_err(Failure::at(folder))?.path();
        if path.ends_with("tools") {
            continue;
        }
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Failure::at(&path))?;
    }
    Ok(())
}

/// Manual pages and completions, by a program of the house that is not installed.
fn pages(folder: &Path) -> Outcome<PathBuf> {
    let pages = folder.join("pages");
    fs::create_dir_all(&pages).map_err(Failure::at(&pages))?;
    run(cargo().args(["run", "--quiet", "--locked", "-p", "qimg-pages", "--"]).arg(&pages))?;
    Ok(pages)
}

/// `cargo install` with what is here already: neither the network nor a newer lock file.
fn installed(folder: &Path) -> Outcome {
    let prefix = folder.join("installed");
    println!("installing into {}", prefix.display());
    let args = ["install", "--quiet", "--locked", "--offline", "--no-track", "--path", "tools"];
    run(cargo().args(args).args(["--profile", PROFILE]).arg("--root").arg(&prefix))?;
    smoke::test(&prefix.join("bin"), folder)
}

/// Programs that need nothing of the machine they run on but its kernel.
fn static_programs(folder: &Path) -> Outcome<PathBuf> {
    let triple = host_triple()?;
    println!("building static programs for {triple}");
    // A target that is named keeps the flags from build scripts and macros.
    let args = ["build", "--quiet", "--locked", "--offline", "-p", "qimg-tools", "--bins"];
    let flags = "-C target-feature=+crt-static";
    let how = ["--profile", PROFILE, "--target", &triple];
    run(cargo().args(args).args(how).env("RUSTFLAGS", flags))?;
    let place = folder.join(format!("qimg-{}-{triple}", env!("CARGO_PKG_VERSION")));
    fs::create_dir_all(&place).map_err(Failure::at(&place))?;
    let built = target_folder()?.join(&triple).join(PROFILE);
    for program in PROGRAMS {
        let (from, to) = (built.join(program), place.join(program));
        fs::copy(&from, &to).map_err(Failure::at(&from))?;
        let bytes = fs::read(&to).map_err(Failure::at(&to))?;
        match elf::interpreter(&bytes) {
            Ok(None) => {}
            Ok(Some(found)) => return Err(unexpected("loader of a static program", found)),
            Err(reason) => return Err(unexpected("form of a program", reason.to_owned())),
        }
    }
    smoke::test(&place, folder)?;
    Ok(place)
}

fn host_triple() -> Outcome<String> {
    let text = output_of(Command::new("rustc").arg("-vV"))?;
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).ok_or_else(|| unexpected("output of rustc -vV", text))
}

/// Where cargo builds: above the profile that this program belongs to.
fn target_folder() -> Outcome<PathBuf> {
    let profile = build_folder()?;
    Ok(profile.parent().unwrap_or(&profile).to_path_buf())
}

fn unexpected(what: &'static str, found: String) -> Failure {
    Failure::Unexpected { what, found }
}
