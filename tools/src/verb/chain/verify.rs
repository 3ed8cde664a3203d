//! `qimg chain verify`: whether every layer is sound, and every backing file the one that its overlay
//! was made on.

use std::ffi::OsString;
use std::io::Write;

use qimg::chain::Chain;
use qimg::hash::{HashOptions, hash};
use qimg::verify::{Content, LayerReport, verify};
use serde_json::{Value, json};

use super::flags::ChainFlags;
use crate::args::output::Output;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::report::json::pretty;
use crate::verb::one_file;
use crate::verb::operation::{text, words};

/// The command line of `qimg chain verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all is well, 1 the chain cannot be opened, 2 a layer is damaged, \
                        13 a backing file is not the one its overlay was made on."
)]
pub(crate) struct Args {
    #[command(flatten)]
    chain: ChainFlags,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Read all that backing files show whose overlays recorded a hash of it, and compare
    #[arg(long)]
    deep: bool,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Top image of the chain
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// The hash that records of backing files hold.
pub(super) fn content_hash(chain: &Chain) -> Result<[u8; 32], String> {
    let hashed = hash(chain, HashOptions::default());
    hashed.map(|hashed| *hashed.hash.as_bytes()).map_err(|error| error.to_string())
}

pub(crate) fn run(args: &Args) -> Outcome {
    let output = Output::parse("chain verify", args.output.as_deref())?;
    let file = one_file("chain verify", &args.files)?;
    let (image, options) = args.chain.image(file)?;
    let content = args.deep.then_some(&content_hash as &qimg::verify::ContentHash<'_>);
    let reports = verify(&image.path, &options, content);
    let reports = reports.map_err(|error| Failure::new(words(&error)))?;
    if !args.quiet {
        let text = match output {
            Output::Human => reports.iter().map(human).collect::<String>(),
            Output::Json => {
                format!("{}\n", pretty(&reports.iter().map(json).collect::<Vec<_>>())?)
            }
        };
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(if reports.iter().any(LayerReport::is_damaged) {
        exit::CHECK_CORRUPT
    } else if reports.iter().any(LayerReport::is_base_changed) {
        exit::CHAIN_BASE_CHANGED
    } else {
        exit::SUCCESS
    })
}

fn human(report: &LayerReport) -> String {
    let mut text = format!("{} ({}): ", report.path.display(), report.format);
    text.push_str(&match &report.check {
        None => "raw".to_owned(),
        Some(Err(error)) => format!("cannot be checked: {error}"),
        Some(Ok(found)) if found.corruptions + found.check_errors > 0 => {
            format!("{} errors", found.corruptions + found.check_errors)
        }
        Some(Ok(found)) if found.leaks > 0 => {
            format!("consistent, {} leaked clusters", found.leaks)
        }
        Some(Ok(_)) => "consistent".to_owned(),
    });
    text.push('\n');
    if let Some(base) = &report.base_text {
        text.push_str(&format!("  {base}\n"));
    }
    match &report.content {
        Content::NotCompared => {}
        Content::NotRecorded => text.push_str("  no hash of its backing file was recorded\n"),
        Content::Same => text.push_str("  its backing file shows what it showed, byte for byte\n"),
        Content::Different => text.push_str("  its backing file shows other bytes than it did\n"),
        Content::Failed(error) => text.push_str(&format!("  its backing file: {error}\n")),
    }
    text
}

fn json(report: &LayerReport) -> Value {
    let check = report.check.as_ref().map(|check| match check {
        Ok(found) => json!({
            "corruptions": found.corruptions,
            "check-errors": found.check_errors,
            "leaks": found.leaks,
        }),
        Err(error) => json!({ "error": error }),
    });
    let content = match &report.content {
        Content::NotCompared => "not-compared",
        Content::NotRecorded => "not-recorded",
        Content::Same => "same",
        Content::Different => "different",
        Content::Failed(_) => "unreadable",
    };
    json!({
        "filename": text(&report.path),
        "format": report.format.name(),
        "check": check,
        "base": format!("{:?}", report.base).to_lowercase(),
        "base-changed": report.is_base_changed(),
        "base-text": report.base_text,
        "base-content": content,
    })
}
