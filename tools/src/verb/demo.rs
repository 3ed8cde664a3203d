//! `qimg demo`: the main job on real data, with proof.
//!
//! A base image with a real file system, three overlays on top of each other, writes through
//! the top of each, and at the end every byte of every layer compared with what was written.

mod base;
mod history;
mod proof;
mod tool;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions};
use qimg::create::{CreateOptions, Qcow2Options, create};
use qimg::engine::BackingReference;

use base::Base;
use history::{Change, History};

use super::chain::show::Survey;
use super::explain;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::report::bytes;

/// Overlays in the chain.
const OVERLAYS: usize = 3;

/// The command line of `qimg demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Work in this folder and leave the images there (default: a temporary folder)
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// The images cannot be made, or something was not as it must be.
pub fn run(args: &Args) -> Outcome {
    match &args.dir {
        Some(folder) => {
            fs::create_dir_all(folder).map_err(|error| {
                Failure::new(format!("cannot make the folder '{}': {error}", folder.display()))
            })?;
            show(folder, true)
        }
        None => {
            let folder = tempfile::tempdir().map_err(|error| {
                Failure::new(format!("cannot make a temporary folder: {error}"))
            })?;
            show(folder.path(), false)
        }
    }
}

fn show(folder: &Path, kept: bool) -> Outcome {
    let mut out = std::io::stdout();
    heading(&mut out, "1. A base image with a real file system")?;
    let base = Base::make(folder)?;
    writeln!(out, "{}", base.description)?;

    heading(&mut out, "2. Three overlays, each written through the top of the chain")?;
    let mut history = History::new(&base);
    let tops = build(&mut out, folder, &base, &mut history)?;

    heading(&mut out, "3. The chain")?;
    let top = open(&tops[OVERLAYS - 1], false)?;
    write!(out, "{}", Survey::of(&top)?.draw())?;

    heading(&mut out, "4. What the next write would do (planned, then dropped)")?;
    writeln!(out, "{}", plan(&top, history.untouched())?)?;

    heading(&mut out, "5. How one offset resolves")?;
    let resolution = explain::resolve(&top, history.example())?;
    write!(out, "{}", explain::human(&resolution))?;
    drop(top);

    heading(&mut out, "6. Proof")?;
    let proven = proof::prove(&mut out, folder, &base, &tops, &history)?;
    if kept {
        writeln!(out, "\nthe images are in {}", folder.display())?;
    }
    writeln!(out, "\n{proven}")?;
    Ok(exit::SUCCESS)
}

fn heading(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    writeln!(out, "\n{text}\n{}", "-".repeat(text.len()))
}

/// Makes the overlays, writing into each before the next is put on top of it.
fn build(
    out: &mut impl Write,
    folder: &Path,
    base: &Base,
    history: &mut History<'_>,
) -> Result<Vec<PathBuf>, Failure> {
    let mut tops = Vec::new();
    let mut below = ("base.raw".to_owned(), Format::Raw);
    for number in 1..=OVERLAYS {
        let name = format!("overlay-{number}.qcow2");
        let path = folder.join(&name);
        let qcow2 = Qcow2Options {
            backing: Some(BackingReference {
                name: below.0.clone(),
                format: Some(below.1.name().into()),
            }),
            ..Qcow2Options::default()
        };
        let new = CreateOptions { qcow2, ..CreateOptions::new(Format::Qcow2, base.size()) };
        create(&path, &new).map_err(|error| Failure::new(format!("{name}: {error}")))?;
        let chain = open(&path, false)?;
        let changes = history.next_changes();
        for change in &changes {
            apply(&chain, change)?;
        }
        chain.close().map_err(|error| Failure::new(error.to_string()))?;
        let written = changes.iter().map(Change::len).sum();
        writeln!(
            out,
            "{name} on {}: {} writes, {}",
            below.0,
            changes.len(),
            bytes::human(written)
        )?;
        history.remember(changes);
        tops.push(path);
        below = (name, Format::Qcow2);
    }
    Ok(tops)
}

fn apply(chain: &Chain, change: &Change) -> Result<(), Failure> {
    let done = match change {
        Change::Data { offset, bytes } => chain.write_at(*offset, bytes),
        Change::Zeros { offset, len } => chain.write_zeroes_at(*offset, *len, true),
    };
    done.map_err(|error| Failure::new(error.to_string()))
}

/// Opens a qcow2 chain.
fn open(path: &Path, read_only: bool) -> Result<Chain, Failure> {
    let options = OpenOptions::new().format(Format::Qcow2).read_only(read_only);
    Chain::open(path, &options)
        .map_err(|error| Failure::new(format!("Could not open '{}': {error}", path.display())))
}

/// The plan of a write in the middle of a cluster that only the base holds.
fn plan(chain: &Chain, offset: u64) -> Result<String, Failure> {
    let Some(image) = chain.top().image() else { return Ok(String::new()) };
    let pending =
        image.begin_write(offset, 1000).map_err(|error| Failure::new(error.to_string()))?;
    Ok(pending.plan().to_string())
}
