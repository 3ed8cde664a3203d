//! The programs of the machine that tests need: present, installed now, or named as missing.

use std::path::Path;
use std::process::Command;

use crate::command::{answers, output_of, run};
use crate::failure::{Failure, Outcome};

/// A program that tests start, how to ask whether it is there, and the package that has it.
struct Need {
    program: &'static str,
    probe: &'static str,
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "qemu-img", probe: "--version", package: "qemu-utils" },
    Need { program: "qemu-io", probe: "--version", package: "qemu-utils" },
    Need { program: "mke2fs", probe: "-V", package: "e2fsprogs" },
    Need { program: "debugfs", probe: "-V", package: "e2fsprogs" },
    Need { program: "e2fsck", probe: "-V", package: "e2fsprogs" },
];

/// Makes sure that every program is there. Root on Debian gets them installed and is told so;
/// everybody else learns what is missing. Tests never pass by being skipped.
pub(crate) fn ensure() -> Outcome {
    let absent = absent();
    if absent.is_empty() {
        return report_version();
    }
    let packages = packages_of(&absent);
    if !(Path::new("/etc/debian_version").exists() && is_root()?) {
        return Err(missing(&absent, &packages));
    }
    println!("installing {} (needed by the tests)", packages.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    let still = self::absent();
    if still.is_empty() { report_version() } else { Err(missing(&still, &packages)) }
}

/// Which QEMU the verdict is about.
fn report_version() -> Outcome {
    let text = output_of(program("qemu-img").arg("--version"))?;
    println!("checked against {}", text.lines().next().unwrap_or_default());
    Ok(())
}

fn absent() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !answers(program(need.program).arg(need.probe))).collect()
}

/// The file system tools live in `/usr/sbin`, which is not on every user's path.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", search_path());
    command
}

/// The caller's `PATH` with the folders of administration tools at its end.
pub(crate) fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

fn packages_of(absent: &[&Need]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = absent.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn is_root() -> Outcome<bool> {
    Ok(output_of(Command::new("id").arg("-u"))?.trim() == "0")
}

fn missing(absent: &[&Need], packages: &[&str]) -> Failure {
    let names: Vec<&str> = absent.iter().map(|need| need.program).collect();
    let hint = format!(
        "on Debian: apt-get install {}; elsewhere: the packages of QEMU's tools and e2fsprogs",
        packages.join(" ")
    );
    Failure::Missing { what: names.join(", "), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_programs_and_packages() {
        let all: Vec<&Need> = NEEDS.iter().collect();
        let packages = packages_of(&all);
        assert_eq!(packages, ["e2fsprogs", "qemu-utils"]);
        let text = missing(&all, &packages).to_string();
        assert!(
            text.starts_with("missing: qemu-img, qemu-io, mke2fs, debugfs, e2fsck; "),
            "{text}"
        );
        assert!(text.contains("apt-get install e2fsprogs qemu-utils"), "{text}");
    }
}
