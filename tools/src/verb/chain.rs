//! `qimg chain`: looking at chains, and operations on them.

mod commit;
mod diff;
mod flags;
mod rebase;
mod restore;
pub(crate) mod show;
mod snapshot;
mod stream;
mod verify;

use std::ffi::OsString;
use std::io::Write;

use super::one_file;
use crate::args::output::Output;
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::Outcome;
use crate::report::json::pretty;
use show::Survey;

/// The command line of `qimg chain`.
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    /// What to do with the chain.
    #[command(subcommand)]
    action: Action,
}

/// What to do with a chain.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Draw the chain with sizes and who owns how much
    Show(ShowArgs),
    /// Put new overlays on one disk or several: all of them or none
    Snapshot(snapshot::Args),
    /// Put any number of new overlays on one disk
    Clone(snapshot::CloneArgs),
    /// Move what layers hold down into the one below them
    Commit(commit::Args),
    /// Pull what lower layers hold up into a layer
    Stream(stream::Args),
    /// Pull everything up into the top, which then rests on nothing
    Flatten(stream::FlattenArgs),
    /// Put the top on another backing file, or on none
    Rebase(rebase::Args),
    /// Say which guest ranges differ between two points of a chain
    Diff(diff::Args),
    /// Say whether all layers are sound, and rest on what they were made on
    Verify(verify::Args),
    /// Put a heap of files in order, and flatten the chain into a new image
    Restore(restore::Args),
}

/// The command line of `qimg chain show`.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    source: SourceFlags,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Short for --output=json
    #[arg(long)]
    json: bool,
    /// Top image of the chain
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// The chain cannot be opened, or the operation is refused or fails.
pub fn run(args: &Args) -> Outcome {
    match &args.action {
        Action::Show(args) => show_chain(args),
        Action::Snapshot(args) => snapshot::run(args),
        Action::Clone(args) => snapshot::clone(args),
        Action::Commit(args) => commit::run(args),
        Action::Stream(args) => stream::run(args),
        Action::Flatten(args) => stream::flatten(args),
        Action::Rebase(args) => rebase::run(args),
        Action::Diff(args) => diff::run(args),
        Action::Verify(args) => verify::run(args),
        Action::Restore(args) => restore::run(args),
    }
}

fn show_chain(args: &ShowArgs) -> Outcome {
    let file = one_file("chain show", &args.files)?;
    let output = match args.json {
        true => Output::Json,
        false => Output::parse("chain show", args.output.as_deref())?,
    };
    let (_, opened) = args.source.open(file)?;
    let survey = Survey::of(opened.chain())?;
    let text = match output {
        Output::Human => survey.draw(),
        Output::Json => format!("{}\n", pretty(&survey)?),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(exit::SUCCESS)
}
