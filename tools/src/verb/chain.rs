//! `qimg chain show`: the layers of a chain, and who owns how much.

pub(crate) mod show;

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
/// The chain cannot be opened or its tables cannot be read.
pub fn run(args: &Args) -> Outcome {
    let Action::Show(args) = &args.action;
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
