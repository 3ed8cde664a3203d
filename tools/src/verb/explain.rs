//! `qimg explain`: how one guest offset resolves, layer by layer and bit by bit; or what every byte
//! of an image file is.

mod header;
mod human;
mod json;

use std::ffi::OsString;
use std::io::Write;

use qimg::chain::{Chain, Layer, Status};
use qimg::engine::Explanation;

use crate::args::output::Output;
use crate::args::size;
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::report::json::pretty;

pub(crate) use human::render as human;

/// The command line of `qimg explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Short for --output=json
    #[arg(long)]
    json: bool,
    /// Explain the header byte by byte, and what the rest of the image file holds, instead of an
    /// offset
    #[arg(long)]
    header: bool,
    /// Image file, then the guest offset: bytes, or with a suffix k, M, G, T, P, E
    #[arg(value_name = "FILE OFFSET")]
    words: Vec<OsString>,
}

/// How an offset resolves in a whole chain.
pub(crate) struct Resolution<'a> {
    /// The chain.
    pub(crate) chain: &'a Chain,
    /// The guest offset.
    pub(crate) offset: u64,
    /// Who answers.
    pub(crate) status: Status,
    /// What each layer says, top first.
    pub(crate) layers: Vec<LayerView<'a>>,
}

/// What one layer says about the offset.
pub(crate) struct LayerView<'a> {
    /// The layer.
    pub(crate) layer: &'a Layer,
    /// Whether the layers above leave the question to this one.
    pub(crate) asked: bool,
    /// The entries that decide; `None` for raw layers and offsets behind the layer's end.
    pub(crate) explanation: Option<Explanation>,
}

/// Runs the verb.
///
/// # Errors
/// The image cannot be opened or its tables cannot be read; an offset outside the disk.
pub fn run(args: &Args) -> Outcome {
    let output = match args.json {
        true => Output::Json,
        false => Output::parse("explain", args.output.as_deref())?,
    };
    let (file, offset) = match args.words.as_slice() {
        [file] if args.header => {
            let text = header::explain(&args.source, file, output)?;
            std::io::stdout().write_all(text.as_bytes())?;
            return Ok(exit::SUCCESS);
        }
        [file, offset] if !args.header => (file, offset),
        _ => {
            let message = match args.header {
                true => "Expecting one image file name",
                false => "Expecting an image file name and a guest offset",
            };
            return Err(Failure::usage("qimg", "explain", message));
        }
    };
    let text = offset.to_string_lossy();
    let offset = size::parse(&text).map_err(|_| {
        Failure::usage("qimg", "explain", &format!("Invalid guest offset: '{text}'"))
    })?;
    let (image, opened) = args.source.open(file)?;
    let size = opened.chain().virtual_size();
    if offset >= size {
        return Err(Failure::new(format!(
            "guest offset {offset} lies outside the disk of '{}', which has {size} bytes",
            image.name
        )));
    }
    let resolution = resolve(opened.chain(), offset)?;
    let text = match output {
        Output::Human => human(&resolution),
        Output::Json => format!("{}\n", pretty(&json::Answer::from(&resolution))?),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(exit::SUCCESS)
}

/// Asks every layer.
///
/// # Errors
/// A table cannot be read.
pub(crate) fn resolve(chain: &Chain, offset: u64) -> Result<Resolution<'_>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let status = chain.status_at(offset, 1).map_err(|error| failed(&error))?;
    let view = |(depth, layer): (usize, _)| -> Result<LayerView<'_>, Failure> {
        let layer: &Layer = layer;
        let explanation = match layer.image() {
            Some(image) if offset < image.virtual_size() => {
                Some(image.explain(offset).map_err(|error| {
                    Failure::new(format!("'{}': {error}", layer.path().display()))
                })?)
            }
            _ => None,
        };
        Ok(LayerView { layer, asked: depth <= status.depth, explanation })
    };
    let layers = chain.layers().enumerate().map(view).collect::<Result<_, _>>()?;
    Ok(Resolution { chain, offset, status, layers })
}
