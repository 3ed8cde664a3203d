//! Chains to be drawn: one as people have it, and one whose every name wants to be a script.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{build_folder, run};
use crate::environment::program;
use crate::failure::Outcome;

/// The attribute that a name would set on the page, if it could.
pub(super) const OWNED: &str = "owned";

/// A base, a customer's disk on it, and two days of work.
pub(super) fn honest(folder: &Path) -> Outcome<PathBuf> {
    let make = Maker { folder };
    make.create("golden.raw", None, "192M", &[])?;
    make.write("golden.raw", &["write -P 1 0 29M", "write -P 2 47M 22M", "write -P 3 128M 10M"])?;
    make.create("customer.qcow2", Some(("golden.raw", "raw")), "256M", &[])?;
    make.write(
        "customer.qcow2",
        &["write -P 4 9M 14M", "write -P 5 66M 28M", "write -z 96M 16M", "write -P 5 194M 7M"],
    )?;
    make.tool(&["snapshot", "-c", "before-upgrade", "customer.qcow2"])?;
    let zstd = ["-o", "compression_type=zstd"];
    make.create("monday.qcow2", Some(("customer.qcow2", "qcow2")), "256M", &zstd)?;
    let scattered = |count: u32, write: &dyn Fn(u32) -> String| (0..count).map(write).collect();
    let mut writes: Vec<String> =
        scattered(61, &|index| format!("write -c -P {} {}k 64k", index + 1, 3072 + index * 1152));
    writes.extend(["write -P 6 138M 8M".to_owned(), "write -P 6 78M 4M".to_owned()]);
    make.write("monday.qcow2", &writes)?;
    make.create("today.qcow2", Some(("monday.qcow2", "qcow2")), "256M", &[])?;
    let mut writes: Vec<String> =
        scattered(41, &|index| format!("write -P {} {}k 128k", index + 1, 73_600 + index * 704));
    let long = ["1M 2M", "22M 8M", "141M 3M", "234M 5M", "215M 64k"];
    writes.extend(long.map(|range| format!("write -P 7 {range}")));
    writes.push("write -z 160M 3M".to_owned());
    make.write("today.qcow2", &writes)?;
    make.tool(&["bitmap", "--add", "-g", "64k", "today.qcow2", "nightly"])?;
    Ok(folder.join("today.qcow2"))
}

/// Names of files, snapshots and bitmaps that end elements, and set an attribute if they are run.
pub(super) fn hostile(folder: &Path) -> Outcome<PathBuf> {
    let make = Maker { folder };
    let act = format!("document.documentElement.dataset.{OWNED}=1");
    let base = format!("\"><img src=x onerror={act}>.raw");
    let top = format!("'`<script>{act}<!--&lt;{}.qcow2", "long-".repeat(20));
    make.create(&base, None, "1M", &[])?;
    make.write(&base, &["write -P 1 0 64k"])?;
    make.create(&top, Some((&base, "raw")), "1M", &[])?;
    make.write(&top, &["write -P 2 128k 64k"])?;
    let name = format!("</td></script></details><script>{act}</script>");
    make.tool(&["snapshot", "-c", &name, &format!("./{top}")])?;
    make.tool(&["bitmap", "--add", &format!("./{top}"), &format!("{name}\u{202e}")])?;
    Ok(folder.join(top))
}

/// Makes images in a folder.
struct Maker<'a> {
    folder: &'a Path,
}

impl Maker<'_> {
    fn create(
        &self,
        name: &str,
        below: Option<(&str, &str)>,
        size: &str,
        options: &[&str],
    ) -> Outcome {
        let mut command = self.ours("qimg")?;
        let format = if name.ends_with(".raw") { "raw" } else { "qcow2" };
        command.args(["create", "-q", "-f", format]).args(options);
        if let Some((below, format)) = below {
            command.args(["-b", below, "-F", format]);
        }
        run(command.arg(format!("./{name}")).arg(size))
    }

    fn write(&self, name: &str, commands: &[impl AsRef<str>]) -> Outcome {
        let mut command = self.ours("qimg-io")?;
        command.args(["-f", if name.ends_with(".raw") { "raw" } else { "qcow2" }]);
        for line in commands {
            command.args(["-c", line.as_ref()]);
        }
        run(command.arg(format!("./{name}")).stdout(Stdio::null()))
    }

    /// What only the real tool makes.
    fn tool(&self, args: &[&str]) -> Outcome {
        run(program("qemu-img").current_dir(self.folder).args(args))
    }

    fn ours(&self, name: &str) -> Outcome<Command> {
        let mut command = Command::new(build_folder()?.join(name));
        command.current_dir(self.folder);
        Ok(command)
    }
}
