//! `package`: each published crate carries its licences and builds from its packed form.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{build_folder, cargo, output_of, run_cargo};
use crate::failure::{Failure, Outcome};
use crate::layers;

/// Files that every packed crate must hold.
const REQUIRED: [&str; 4] = ["Cargo.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("package", words)?;
    let mut findings = Vec::new();
    // All packages in one command, so that they find each other before any is in the registry.
    let target = build_folder()?.join("package-check");
    let target_name = target.to_string_lossy();
    let mut all = vec!["package", "--quiet", "--allow-dirty", "--target-dir", &target_name];
    for package in layers::published() {
        let list = ["package", "--quiet", "--allow-dirty", "--list", "-p", package];
        findings.extend(incomplete(package, &output_of(cargo().args(list))?));
        all.extend(["-p", package]);
    }
    if findings.is_empty() {
        forget(&target)?;
        let outcome = run_cargo(&all);
        return outcome.and(forget(&target));
    }
    for finding in &findings {
        println!("{finding}");
    }
    let hint = "add the file, or name it in `include` of the manifest";
    Err(Failure::Findings { task: "package", count: findings.len(), hint })
}

/// Removes what a run leaves, before it and after it.
///
/// Cargo puts the packed crates into a registry of its own below `target`, and takes a registry's
/// content for immutable: neither the unpacked sources nor what was built from them are ever
/// looked at again while the version stays, so a second run would judge the first one's files.
fn forget(target: &Path) -> Outcome {
    remove(target)?;
    let Some(unpacked) = cargo_home().map(|home| home.join("registry").join("src")) else {
        return Ok(());
    };
    for registry in fs::read_dir(&unpacked).into_iter().flatten().flatten() {
        // A registry on disk has no host name before the hash.
        if registry.file_name().to_string_lossy().starts_with('-') {
            for package in layers::published() {
                let version = env!("CARGO_PKG_VERSION");
                remove(&registry.path().join(format!("{package}-{version}")))?;
            }
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::at(folder)(error)),
        _ => Ok(()),
    }
}

fn cargo_home() -> Option<PathBuf> {
    let given = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    given.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

fn incomplete(package: &str, listing: &str) -> Vec<String> {
    let absent = REQUIRED.iter().filter(|file| !listing.lines().any(|line| line == **file));
    absent.map(|file| format!("{package}: the packed crate has no {file}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_licence_is_named() {
        let listing = "Cargo.toml\nLICENSE-APACHE\nREADME.md\nsrc/LICENSE-MIT\n";
        assert_eq!(incomplete("bottom", listing), ["bottom: the packed crate has no LICENSE-MIT"]);
        let whole = format!("{listing}LICENSE-MIT\n");
        assert_eq!(incomplete("bottom", &whole), [""; 0]);
    }
}
