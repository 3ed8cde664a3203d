//! `package`: each published crate carries its licences and builds from its packed form.

use crate::command::{cargo, output_of, run_cargo};
use crate::failure::{Failure, Outcome};
use crate::layers;

/// Files that every packed crate must hold.
const REQUIRED: [&str; 4] = ["Cargo.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("package", words)?;
    let mut findings = Vec::new();
    // All packages in one command, so that they find each other before any is in the registry.
    let mut all = vec!["package", "--quiet", "--allow-dirty"];
    for package in layers::published() {
        let list = ["package", "--quiet", "--allow-dirty", "--list", "-p", package];
        findings.extend(incomplete(package, &output_of(cargo().args(list))?));
        all.extend(["-p", package]);
    }
    if findings.is_empty() {
        return run_cargo(&all);
    }
    for finding in &findings {
        println!("{finding}");
    }
    let hint = "add the file, or name it in `include` of the manifest";
    Err(Failure::Findings { task: "package", count: findings.len(), hint })
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
