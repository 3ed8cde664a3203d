//! The command line of `qimg`: one verb, its flags, and the words they are made of.

pub mod aio;
pub mod cache;
pub mod everywhere;
pub mod image;
pub mod keyval;
pub mod number;
pub mod object;
pub mod output;
pub mod runtime;
pub mod size;
pub mod source;
pub mod tree;
pub mod usage;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::verb::{
    amend, audit, bench, chain, check, commit, compare, convert, create, dd, demo, explain, hash,
    info, map, measure, rebase, resize, snapshot, view,
};

/// qcow2 images and external snapshot chains, with the habits of qemu-img.
///
/// Verbs, flags, JSON and exit codes are those of qemu-img. hash, audit, explain, chain, view and
/// demo have no counterpart there. Linked or copied as qemu-img, this program says what that one says.
#[derive(Debug, Parser)]
#[command(
    name = "qimg",
    version,
    disable_help_subcommand = true,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100,
    after_help = everywhere::HELP
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a new image
    Create(create::Args),
    /// Say what an image is: format, sizes, backing file
    Info(info::Args),
    /// Check the consistency of an image's metadata
    Check(check::Args),
    /// List what is allocated where, through the whole chain
    Map(map::Args),
    /// Copy images into a new one, in another format if wanted
    Convert(Box<convert::Args>),
    /// Give the disk of an image another size
    Resize(resize::Args),
    /// Move what an overlay holds into its backing file
    Commit(commit::Args),
    /// Put an overlay on another backing file
    Rebase(rebase::Args),
    /// Change the options of an existing image
    Amend(amend::Args),
    /// Say how large a file a new image needs
    Measure(measure::Args),
    /// Copy a part of an image into a new one
    Dd(dd::Args),
    /// List the internal snapshots of an image
    Snapshot(snapshot::Args),
    /// Say how long many requests take
    Bench(bench::Args),
    /// Compare what two images show
    Compare(compare::Args),
    /// Hash what a guest sees, whatever the format
    Hash(hash::Args),
    /// Say whether an image from strangers may be used
    Audit(audit::Args),
    /// Say how one guest offset resolves, layer by layer and bit by bit
    Explain(explain::Args),
    /// Look at a chain of images, and operate on it
    Chain(chain::Args),
    /// Show a chain on one page: who owns what
    View(view::Args),
    /// Build a chain over a real file system, write through it, prove the contents
    Demo(demo::Args),
    /// A verb this program does not know, or does not know yet.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}
