//! `qimg audit`: one verdict and one exit code about an image file from strangers.

mod policy;
mod report;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use qimg::audit::{AuditError, AuditOptions, Policy, Verdict, audit};

use super::one_file;
use crate::args::image::ImageArg;
use crate::args::output::Output;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::storage_words;

/// The command line of `qimg audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    /// Format that the image is going to be used as (what its content says when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// What is acceptable, in TOML; keys that are left out keep their defaults
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print the policy, every key with its meaning, and look at nothing
    #[arg(long)]
    print_policy: bool,
    /// Say nothing; the exit code is the answer
    #[arg(short, long)]
    quiet: bool,
    /// Open it although somebody may be writing to it
    #[arg(short = 'U', long)]
    force_share: bool,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Image file
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// What scripts need to know.
const EXIT_CODES: &str = "Exit codes: 0 acceptable, 1 could not look, 10 refused by the policy, 11 \
                          damaged.\nNo file that the image names is opened, and nothing is written.";

/// Runs the verb.
///
/// # Errors
/// The policy is none, or the file cannot be looked at.
pub fn run(args: &Args) -> Outcome {
    let output = Output::parse("audit", args.output.as_deref())?;
    let policy = match &args.policy {
        None => Policy::default(),
        Some(path) => policy::read(path)?,
    };
    let mut out = std::io::stdout();
    if args.print_policy {
        out.write_all(policy::print(&policy).as_bytes())?;
        return Ok(exit::SUCCESS);
    }
    // The name is a file's, whatever it looks like: names of strangers' files are strange.
    let path = PathBuf::from(one_file("audit", &args.files)?);
    let image = ImageArg::parse("x".as_ref(), args.format.as_deref(), false)?;
    let options = AuditOptions { format: image.format, force_share: args.force_share };
    let found = audit(&path, options, &policy).map_err(|error| match &error {
        AuditError::Storage(source) => Failure::new(storage_words(&path, source)),
        _ => Failure::new(format!("'{}': {error}", path.display())),
    })?;
    if !args.quiet {
        let text = match output {
            Output::Human => report::human(&found),
            Output::Json => {
                format!("{}\n", crate::report::json::pretty(&report::json(&found))?)
            }
        };
        out.write_all(text.as_bytes())?;
    }
    Ok(match found.verdict() {
        Verdict::Acceptable => exit::SUCCESS,
        Verdict::Refused => exit::AUDIT_REFUSED,
        Verdict::Damaged => exit::AUDIT_DAMAGED,
    })
}
