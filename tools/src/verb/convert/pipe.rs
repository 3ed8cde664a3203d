//! `-` as a name: standard input and standard output, and the flags that cannot go with them.

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
    match rows.iter().find(|(wrong, _)| *wrong) {
        Some((_, message)) => Err(Failure::new(*message)),
        None => Ok(()),
    }
}
