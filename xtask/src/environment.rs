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

/// What draws pages; only `view-shot` needs it.
const BROWSER: &[Need] = &[Need { program: "chromium", probe: "--version", package: "chromium" }];

/// Oldest major version of QEMU whose texts the tests compare with. Debian 12 has an older one;
/// its backports have this.
const QEMU_MAJOR_MIN: u32 = 10;

/// Makes sure that every program is there. Root on Debian gets them installed and is told so;
/// everybody else learns what is missing. Tests never pass by being skipped.
pub(crate) fn ensure() -> Outcome {
    provide(NEEDS)?;
    if qemu_major()? < QEMU_MAJOR_MIN && may_install()? {
        install_from_backports()?;
    }
    report_version()
}

/// Makes sure that there is a browser, in the same way.
pub(crate) fn ensure_browser() -> Outcome {
    provide(BROWSER)
}

fn may_install() -> Outcome<bool> {
    Ok(Path::new("/etc/debian_version").exists() && is_root()?)
}

fn provide(needs: &'static [Need]) -> Outcome {
    let absent = absent(needs);
    if absent.is_empty() {
        return Ok(());
    }
    let packages = packages_of(&absent);
    if !may_install()? {
        return Err(missing(&absent, &packages));
    }
    println!("installing {} (needed by this task)", packages.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    install(&packages, None)?;
    let still = self::absent(needs);
    if still.is_empty() { Ok(()) } else { Err(missing(&still, &packages)) }
}

fn install(packages: &[&str], suite: Option<&str>) -> Outcome {
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "-qq", "--no-install-recommends"]);
    if let Some(suite) = suite {
        command.args(["-t", suite]);
    }
    run(command.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Debian's own newer build of the tools, from the backports of the running release.
fn install_from_backports() -> Outcome {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let Some(codename) = codename(&release) else { return Ok(()) };
    let suite = format!("{codename}-backports");
    println!("installing qemu-utils from {suite} (the tests compare with QEMU {QEMU_MAJOR_MIN})");
    let known = output_of(Command::new("apt-cache").arg("policy"))?;
    if !known.contains(&format!("{suite}/main")) {
        let source = format!(
            "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {suite}\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        let path = format!("/etc/apt/sources.list.d/{suite}.sources");
        println!("adding {path}");
        std::fs::write(&path, source).map_err(Failure::at(Path::new(&path)))?;
        run(Command::new("apt-get").args(["update", "-qq"]))?;
    }
    install(&["qemu-utils"], Some(&suite))
}

/// `VERSION_CODENAME` of an os-release file.
fn codename(os_release: &str) -> Option<&str> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"'))
}

/// Which QEMU the verdict is about; one that is too old is no verdict.
fn report_version() -> Outcome {
    let text = output_of(program("qemu-img").arg("--version"))?;
    println!("checked against {}", text.lines().next().unwrap_or_default());
    if major(&text).is_some_and(|major| major >= QEMU_MAJOR_MIN) {
        return Ok(());
    }
    Err(Failure::Missing {
        what: format!("qemu-img {QEMU_MAJOR_MIN} or newer"),
        hint: "on Debian 12: apt-get install -t bookworm-backports qemu-utils".to_owned(),
    })
}

fn qemu_major() -> Outcome<u32> {
    let text = output_of(program("qemu-img").arg("--version"))?;
    Ok(major(&text).unwrap_or(0))
}

/// The major version in what `qemu-img --version` prints.
fn major(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version ")?;
    rest.split('.').next()?.parse().ok()
}

fn absent(needs: &'static [Need]) -> Vec<&'static Need> {
    needs.iter().filter(|need| !answers(program(need.program).arg(need.probe))).collect()
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
        "on Debian: apt-get install {}; elsewhere: the packages that have these programs",
        packages.join(" ")
    );
    Failure::Missing { what: names.join(", "), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_releases_are_read() {
        assert_eq!(major("qemu-img version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(10));
        assert_eq!(major("qemu-img version 7.2.17 (Debian)"), Some(7));
        assert_eq!(major("something else"), None);
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("ID=debian\n"), None);
    }

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
