//! `qimg chain snapshot` and `clone`: new overlays, all of them or none.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

use qimg::chain::{Chain, OpenOptions, Overlays};
use qimg::format::ClusterBits;

use super::flags::{OperationFlags, print_plan};
use crate::args::size;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::verb::operation::words;

/// The command line of `qimg chain snapshot`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                  qimg chain snapshot disk.qcow2 disk-1.qcow2 data.qcow2 data-1.qcow2\n  \
                  qimg chain snapshot -f raw disk.raw disk-1.qcow2")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: OperationFlags,
    /// Cluster size of the new overlays (default: 64k)
    #[arg(long, value_name = "SIZE")]
    cluster_size: Option<String>,
    /// Read the disks, and record a hash of all they show for `chain verify --deep`
    #[arg(long)]
    deep: bool,
    /// Disk and the new overlay on it, then the next disk and its overlay, ...
    #[arg(value_name = "DISK OVERLAY", required = true)]
    words: Vec<OsString>,
}

/// The command line of `qimg chain clone`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
                  qimg chain clone -n 100 base.qcow2 vm-%.qcow2")]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    flags: OperationFlags,
    /// How many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1)]
    number: usize,
    /// Cluster size of the clones (default: 64k)
    #[arg(long, value_name = "SIZE")]
    cluster_size: Option<String>,
    /// Disk that is cloned
    #[arg(value_name = "DISK")]
    disk: OsString,
    /// Name of the clones: `%` stands for 0, 1, 2, ...; without one the number is put before the
    /// extension if there are several
    #[arg(value_name = "CLONE")]
    clone: PathBuf,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut overlays = like(args.cluster_size.as_deref())?;
    let (pairs, rest) = args.words.as_chunks::<2>();
    if !rest.is_empty() {
        let message = "Expecting a new overlay for every disk";
        return Err(Failure::usage("qimg", "chain snapshot", message));
    }
    for [disk, overlay] in pairs {
        let (image, options) = args.flags.image(disk)?;
        let hash = args.deep.then(|| hash_of(&image.path, &options)).transpose()?;
        overlays = overlays.on(&image.path, options, [overlay]);
        if let Some(hash) = hash {
            overlays = overlays.content_hash(hash);
        }
    }
    make(&args.flags, "chain snapshot", &overlays, pairs.len())
}

pub(crate) fn clone(args: &CloneArgs) -> Outcome {
    if args.number == 0 {
        return Err(Failure::usage("qimg", "chain clone", "Expecting a count of 1 or more (-n)"));
    }
    let (image, options) = args.flags.image(&args.disk)?;
    let names = (0..args.number).map(|number| numbered(&args.clone, number, args.number));
    let names: Vec<PathBuf> = names.collect();
    let overlays = like(args.cluster_size.as_deref())?.on(&image.path, options, names);
    make(&args.flags, "chain clone", &overlays, args.number)
}

fn hash_of(path: &Path, options: &OpenOptions) -> Result<[u8; 32], Failure> {
    let chain = Chain::open(path, &options.clone().read_only(true));
    let chain = chain.map_err(|error| Failure::new(words(&error)))?;
    super::verify::content_hash(&chain).map_err(Failure::new)
}

fn make(flags: &OperationFlags, verb: &str, overlays: &Overlays, count: usize) -> Outcome {
    let output = flags.output(verb)?;
    let refuse = |error| Failure::new(words(&error));
    if flags.is_dry_run() {
        return print_plan(&overlays.plan().map_err(refuse)?, output);
    }
    overlays.create().map_err(refuse)?;
    if !flags.is_quiet() {
        let plural = if count == 1 { "" } else { "s" };
        writeln!(std::io::stdout(), "{count} overlay{plural} made.")?;
    }
    Ok(exit::SUCCESS)
}

fn like(cluster_size: Option<&str>) -> Result<Overlays, Failure> {
    let Some(text) = cluster_size else { return Ok(Overlays::new()) };
    let bytes = size::parse(text).ok().filter(|bytes| bytes.is_power_of_two());
    let bits = bytes.and_then(|bytes| ClusterBits::new(bytes.trailing_zeros()).ok());
    let Some(cluster_bits) = bits else {
        let text = "Cluster size must be a power of two between 512 and 2048k";
        return Err(Failure::new(text));
    };
    let like = qimg::engine::CreateOptions { cluster_bits, ..qimg::engine::CreateOptions::new(0) };
    Ok(Overlays::new().like(like))
}

/// The name of one of several clones.
fn numbered(name: &Path, number: usize, count: usize) -> PathBuf {
    let file = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if file.contains('%') {
        return name.with_file_name(file.replace('%', &number.to_string()));
    }
    if count == 1 {
        return name.to_owned();
    }
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    let extension = name.extension().and_then(OsStr::to_str);
    let extension = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    name.with_file_name(format!("{stem}-{number}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_numbered() {
        let name = |name: &str, number, count| {
            numbered(Path::new(name), number, count).display().to_string()
        };
        assert_eq!(name("vm.qcow2", 0, 1), "vm.qcow2");
        assert_eq!(name("d/vm.qcow2", 7, 9), "d/vm-7.qcow2");
        assert_eq!(name("vm", 7, 9), "vm-7");
        assert_eq!(name("d/vm%.img", 7, 9), "d/vm7.img");
    }
}
