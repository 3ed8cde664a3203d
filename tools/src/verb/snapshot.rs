//! `qimg snapshot`: the internal snapshots of an image. Only listing is there yet.

use std::ffi::OsString;
use std::io::Write;

use qimg::info::{InfoOptions, info};

use super::{one_file, refuse_objects};
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open;
use crate::report::snapshots;

/// The command line of `qimg snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// Accepted for compatibility, without effect
    #[arg(short, long)]
    quiet: bool,
    /// List the snapshots (the default)
    #[arg(short, long)]
    list: bool,
    /// Not offered yet: go back to a snapshot
    #[arg(short, long, value_name = "SNAPSHOT", allow_hyphen_values = true)]
    apply: Option<String>,
    /// Not offered yet: take a snapshot
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true)]
    create: Option<String>,
    /// Not offered yet: delete a snapshot
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true)]
    delete: Option<String>,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// Image file
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// An action that is not there yet, or an image that cannot be read.
pub fn run(args: &Args) -> Outcome {
    let actions = [("-a", &args.apply), ("-c", &args.create), ("-d", &args.delete)];
    let given = actions.iter().filter(|(_, name)| name.is_some()).count();
    if given + usize::from(args.list) > 1 {
        let message = "Cannot mix '-l', '-a', '-c', '-d'";
        return Err(Failure::usage("qimg", "snapshot", message));
    }
    let file = one_file("snapshot", &args.files)?;
    refuse_objects(&args.object)?;
    if let Some((flag, _)) = actions.iter().find(|(_, name)| name.is_some()) {
        return Err(Failure::new(format!(
            "{flag} is not offered yet: snapshots are listed (-l) and kept, not changed"
        )));
    }
    let image = args.source.image(file)?;
    let refuse =
        |reason: String| Failure::new(format!("Could not open '{}': {reason}", image.name));
    let (format, _) = open::format_of(&image).map_err(refuse)?;
    let force_share = args.source.force_share || image.force_share || image.no_locks;
    let info = info(&image.path, format, InfoOptions { force_share })
        .map_err(|error| refuse(super::info::words(&image, &error)))?;
    let listed = info.qcow2.map(|qcow2| qcow2.snapshots).unwrap_or_default();
    if !listed.is_empty() {
        let text = format!("Snapshot list:\n{}", snapshots::table(&listed));
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(exit::SUCCESS)
}
