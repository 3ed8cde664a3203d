//! `qimg view`: a chain on one page, for a browser, a terminal or a program.

mod escape;
mod facts;
mod html;
mod json;
mod text;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use qimg::view::{ViewOptions, view};

use super::one_file;
use crate::args::output::Output;
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::{Failure, Outcome};

/// The command line of `qimg view`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// Where the page goes (standard output when absent)
    #[arg(short = 'o', value_name = "PAGE")]
    page: Option<PathBuf>,
    /// For a terminal instead of a browser
    #[arg(long)]
    text: bool,
    /// Leave the checks of the layers out
    #[arg(long)]
    no_check: bool,
    /// human (a page in HTML, or --text) or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Top image of the chain
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Cells of the map in a terminal.
const TEXT_CELLS: u64 = text::COLUMNS * 16;

/// Runs the verb.
///
/// # Errors
/// The chain cannot be opened, its tables cannot be read, or the page cannot be written.
pub fn run(args: &Args) -> Outcome {
    let output = Output::parse("view", args.output.as_deref())?;
    let file = one_file("view", &args.files)?;
    let (_, opened) = args.source.open(file)?;
    let cells = if args.text { TEXT_CELLS } else { html::COLUMNS * html::ROWS };
    let options = ViewOptions { cells, check: !args.no_check };
    let seen = view(opened.chain(), options).map_err(|error| Failure::new(error.to_string()))?;
    let page = match (output, args.text) {
        (Output::Json, _) => format!("{}\n", crate::report::json::pretty(&json::json(&seen))?),
        (Output::Human, true) => text::text(&seen, args.page.is_none() && wants_colour()),
        (Output::Human, false) => html::page(&seen)?,
    };
    match &args.page {
        Some(path) => write_page(path, page.as_bytes())?,
        None => std::io::stdout().write_all(page.as_bytes())?,
    }
    Ok(exit::SUCCESS)
}

/// On terminals, unless the user asks for none (no-color.org).
fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !refused
}

/// A slip of the fingers must not cost an image: only a page is written over.
fn write_page(path: &Path, page: &[u8]) -> Result<(), Failure> {
    let refuse = |error: std::io::Error| {
        Failure::new(format!("Could not write '{}': {error}", path.display()))
    };
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            if !is_page(path).map_err(refuse)? {
                let message = format!(
                    "'{}' exists and is not a page that this verb wrote: name another file with -o",
                    path.display()
                );
                return Err(Failure::new(message));
            }
            OpenOptions::new().write(true).truncate(true).open(path)
        }
        opened => opened,
    }
    .map_err(refuse)?;
    file.write_all(page).map_err(refuse)
}

fn is_page(path: &Path) -> std::io::Result<bool> {
    if !path.metadata()?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    File::open(path)?.take(html::START.len() as u64).read_to_end(&mut start)?;
    Ok(start == html::START.as_bytes())
}
