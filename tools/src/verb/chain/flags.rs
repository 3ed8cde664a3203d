//! The flags that all operations on chains have: which chain, under which policy, how it is watched.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;

use qimg::chain::{Error, LayerRef, Moved, OpenOptions, Plan, Watch};

use crate::args::image::ImageArg;
use crate::args::output::Output;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, chain_options, format_of};
use crate::report::json::pretty;
use crate::verb::operation::{OPERATION_STEP, Watched, moved_text, plan_json, words};

/// The flags that say which chain is meant, and what may be opened for it.
#[derive(Debug, clap::Args)]
pub(crate) struct ChainFlags {
    /// Format of the top image (guessed when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The image argument is a list of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    image_opts: bool,
    /// Guess the format of files below the image where it is not recorded (unsafe)
    #[arg(long)]
    probe_backing: bool,
}

/// The flags of every operation.
#[derive(Debug, clap::Args)]
pub(crate) struct OperationFlags {
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print the progress in percent
    #[arg(short, long)]
    progress: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    #[command(flatten)]
    chain: ChainFlags,
}

/// A layer that a flag names: a file, or a depth (0 is the top).
pub(crate) fn layer_named(name: &OsStr) -> LayerRef {
    match name.to_str().and_then(|name| name.parse().ok()) {
        Some(depth) => LayerRef::Depth(depth),
        None => LayerRef::File(PathBuf::from(name)),
    }
}

impl ChainFlags {
    /// The image that an argument names, and how to open the chain below it.
    pub(crate) fn image(&self, file: &OsStr) -> Result<(ImageArg, OpenOptions), Failure> {
        self.open_as(file, self.format.as_deref(), false)
    }

    fn open_as(
        &self,
        file: &OsStr,
        format: Option<&str>,
        refuse_writers: bool,
    ) -> Result<(ImageArg, OpenOptions), Failure> {
        let image = ImageArg::parse(file, format, self.image_opts)?;
        let refuse = |reason| Failure::new(format!("Could not open '{}': {reason}", image.name));
        let (format, _) = format_of(&image).map_err(refuse)?;
        let probe_backing = self.probe_backing;
        let how = How { probe_backing, refuse_writers, ..How::default() };
        let options = chain_options(&image, &how, format, false);
        Ok((image, options))
    }
}

impl OperationFlags {
    /// The image that an argument names, and how to open the chain below it: what lies there is copied
    /// or compared, and must hold still.
    pub(crate) fn image(&self, file: &OsStr) -> Result<(ImageArg, OpenOptions), Failure> {
        self.image_as(file, self.chain.format.as_deref())
    }

    /// The same for an image whose format another flag says.
    pub(crate) fn image_as(
        &self,
        file: &OsStr,
        format: Option<&str>,
    ) -> Result<(ImageArg, OpenOptions), Failure> {
        self.chain.open_as(file, format, true)
    }

    pub(crate) fn output(&self, verb: &str) -> Result<Output, Failure> {
        Output::parse(verb, self.output.as_deref())
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn watched(&self) -> Watched {
        let lines = self.progress && !self.quiet;
        Watched { quiet: self.quiet, lines, step: OPERATION_STEP, rate: None }
    }

    /// Prints the plan, or carries the operation out and says what was moved.
    pub(crate) fn carry_out(
        &self,
        verb: &str,
        plan: impl FnOnce() -> Result<Plan, Error>,
        run: impl FnOnce(Watch<'_>) -> Result<Moved, Error>,
    ) -> Outcome {
        let output = self.output(verb)?;
        let refuse = |error: Error| Failure::new(words(&error));
        if self.dry_run {
            return print_plan(&plan().map_err(refuse)?, output);
        }
        let moved = self.watched().run(run).map_err(|stopped| refuse(stopped.error))?;
        if self.quiet {
            return Ok(exit::SUCCESS);
        }
        let text = match output {
            Output::Human => moved_text(&moved),
            Output::Json => pretty(&serde_json::json!({
                "read": moved.read, "written": moved.written, "zeroed": moved.zeroed,
            }))?,
        };
        writeln!(std::io::stdout(), "{text}")?;
        Ok(exit::SUCCESS)
    }
}

/// Prints what would be done.
pub(crate) fn print_plan(plan: &Plan, output: Output) -> Outcome {
    let text = match output {
        Output::Human => plan.to_string(),
        Output::Json => format!("{}\n", pretty(&plan_json(plan))?),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(exit::SUCCESS)
}
