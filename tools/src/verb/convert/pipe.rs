//! `-` as a name: standard input and standard output, and the flags that cannot go with them.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Args;
use super::checks::Plan;
use crate::failure::Failure;
use qimg::chain::Format;

/// The name that means standard input or output; `./-` is a file.
const PIPE: &str = "-";

/// Whether the copy goes to standard output.
pub(super) fn is_output(args: &Args, plan: &Plan) -> bool {
    plan.target == PIPE && !args.target_image_opts
}

/// Whether the copy comes from standard input.
pub(super) fn is_input(args: &Args, plan: &Plan) -> bool {
    !args.image_opts && plan.sources.iter().any(|source| source.name == PIPE)
}

/// Refuses flags that need to go back in what was written, or to know it before it is read.
pub(super) fn check_output(args: &Args, plan: &Plan) -> Result<(), Failure> {
    let preallocated = plan.options.get("preallocation").is_some_and(|mode| mode != "off");
    let seeks_zeros = args.sparse_size.is_some() && plan.sparse != 0;
    let rows = [
        (args.no_create, "-n needs a target that exists, and standard output is always new"),
        (
            args.oob_writes,
            "-W writes in any order, which standard output cannot take; leave it out",
        ),
        (
            args.compress,
            "-c cannot go to standard output: tables come first and would have to know how small \
             the data gets; name a file, or compress the whole stream",
        ),
        (preallocated, "preallocation is not possible on standard output; leave it out"),
        (
            plan.options.get("data_file").is_some(),
            "data_file is not possible with standard output, which has to hold everything",
        ),
        (
            seeks_zeros && plan.target_format == Format::Qcow2,
            "-S cannot look for zeros on the way to standard output: what is allocated decides; \
             leave it out, or give -S 0",
        ),
    ];
    first(&rows)
}

/// Refuses flags that need to know more of the source than a pipe tells, and returns what comes.
pub(super) fn check_input(args: &Args, plan: &Plan) -> Result<Format, Failure> {
    let preallocated = plan.options.get("preallocation").is_some_and(|mode| mode != "off");
    let format = plan.sources.first().and_then(|source| source.format);
    let raw = format == Some(Format::Raw);
    let to_pipe = is_output(args, plan);
    first(&[
        (plan.sources.len() > 1, "standard input can only be the one source of a copy"),
        (args.salvage, "--salvage cannot go on after standard input failed; leave it out"),
        (
            raw && plan.options.get("backing_file").is_some(),
            "-B needs a source that says what it holds itself, and raw bytes do not",
        ),
        (
            raw && preallocated,
            "preallocation needs a size, and that of standard input is known when it ends; leave \
             it out",
        ),
        (
            raw && to_pipe,
            "raw bytes go from standard input to standard output without help; name a file",
        ),
        (
            !raw && args.compress,
            "-c needs clusters in their order, and an image from standard input has its own; name \
             a file for it first",
        ),
        (
            !raw && to_pipe && plan.target_format == Format::Qcow2,
            "an image from standard input cannot become one on standard output, where the tables \
             of all of it come first; use -O raw, or name a file",
        ),
    ])?;
    format.ok_or_else(|| {
        Failure::new("what comes from standard input is not guessed: say -f raw or -f qcow2")
    })
}

/// Refuses flags that mean something for an image from standard input alone.
pub(super) fn check_spill(args: &Args, plan: &Plan) -> Result<(), Failure> {
    let format = plan.sources.first().and_then(|source| source.format);
    let spills = is_input(args, plan) && format != Some(Format::Raw);
    let given = args.spill_limit.is_some() || args.spill_dir.is_some();
    first(&[(
        given && !spills,
        "--spill-limit and --spill-dir are for qcow2 images from standard input; leave them out",
    )])
}

/// Refuses a file of the shell's that is one of the copy: what is made would destroy what it is made
/// from. `what` names the end of the copy that the shell opened.
pub(super) fn refuse_same(file: &File, path: &Path, what: &str) -> Result<(), Failure> {
    let same = |a: &Metadata, b: &Metadata| a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(here), Ok(there)) if same(&here, &there) => Err(Failure::new(format!(
            "{what} is '{}', which is the other end of the copy; name another file",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// The first of some complaints that applies.
fn first(rows: &[(bool, &str)]) -> Result<(), Failure> {
    match rows.iter().find(|(wrong, _)| *wrong) {
        Some((_, message)) => Err(Failure::new(*message)),
        None => Ok(()),
    }
}
