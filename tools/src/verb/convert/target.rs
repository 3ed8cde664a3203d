//! The target of a copy: made or found, opened, and finished.

use std::path::Path;

use qimg::chain::{Chain, Layer};
use qimg::convert::ConvertOptions;
use qimg::create::{backing_size, create};
use qimg::io::{Locking, OpenOptions, Storage};

use super::Args;
use super::checks::Plan;
use crate::args::everywhere;
use crate::args::image::{ImageArg, format_named};
use crate::creation::settings;
use crate::failure::Failure;
use crate::open::{How, explain, open_for_verb};

/// An open target.
#[derive(Debug)]
pub(super) struct Target {
    chain: Chain,
    /// Made just now: reads as zeros, unless there is a backing file.
    fresh: bool,
    /// Size of the backing file that shows through, if there is one.
    backing: Option<u64>,
    /// Bytes of the units it allocates.
    cluster: u64,
}

impl Target {
    pub(super) fn prepare(
        args: &Args,
        plan: &Plan,
        sources: &[Chain],
        size: u64,
    ) -> Result<Self, Failure> {
        let image = argument(args, plan)?;
        refuse_sources(&image, sources)?;
        let backing = backing(args, plan, &image.path)?;
        if !args.no_create {
            make(plan, &image, size)?;
        }
        let cache = plan.target_cache;
        let how = How { probe_backing: args.probe_backing, cache, ..How::default() };
        let opened = open_for_verb(&image, &how)?;
        let cluster = cluster_size(opened.chain());
        Ok(Self { chain: opened.into_chain(), fresh: !args.no_create, backing, cluster })
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    /// Size of the backing file that shows through, if there is one.
    pub(super) fn backing(&self) -> Option<u64> {
        self.backing
    }

    /// Whether it was made just now.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(super) fn options(&self, args: &Args, plan: &Plan) -> ConvertOptions {
        ConvertOptions {
            sparse: plan.sparse,
            readers: plan.parallel,
            // Where bytes of a raw target lie does not depend on the order of writes.
            out_of_order: args.oob_writes || self.cluster == 1,
            target_is_zero: self.backing.is_none() && (self.fresh || args.target_is_zero),
            keep_space: plan.options.get("preallocation").is_some_and(|mode| mode != "off"),
            target_backing: self.backing,
            compress: args.compress,
            compression_level: args.compression_level,
            salvage: args.salvage,
        }
    }

    /// Writes back what is not on the host yet.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.chain.close().map_err(|error| Failure::new(format!("error while flushing: {error}")))
    }
}

/// [`refuse_sources`] for one source.
pub(in crate::verb) fn refuse_same_file(image: &ImageArg, source: &Chain) -> Result<(), Failure> {
    refuse_sources(image, std::slice::from_ref(source))
}

/// Refuses a target that is a file of one of the sources, whatever name leads to it: locks would
/// say so too, but `-U` and hosts without locks must not cost the source.
fn refuse_sources(image: &ImageArg, sources: &[Chain]) -> Result<(), Failure> {
    let target = OpenOptions::new().locking(Locking::Off).open(&image.path);
    let Some(target) = target.ok().and_then(|target| target.identity().ok().flatten()) else {
        return Ok(()); // not there yet, or the open that follows says why not
    };
    let is_target = |layer: &Layer| layer.storage().identity().ok().flatten() == Some(target);
    match sources.iter().flat_map(Chain::layers).find(|layer| is_target(layer)) {
        None => Ok(()),
        Some(layer) => Err(Failure::new(format!(
            "{}: the target is '{}', which the copy is made from; name another file",
            image.name,
            layer.path().display()
        ))),
    }
}

pub(super) fn argument(args: &Args, plan: &Plan) -> Result<ImageArg, Failure> {
    if args.target_image_opts {
        return ImageArg::parse(&plan.target, None, true);
    }
    ImageArg::parse(&plan.target, Some(plan.target_format.name()), false)
}

/// The size of the backing file of the target, which must be readable.
pub(super) fn backing(args: &Args, plan: &Plan, target: &Path) -> Result<Option<u64>, Failure> {
    let name = plan.options.get("backing_file");
    let format = plan.options.get("backing_fmt");
    let (Some(name), Some(format)) = (name, format) else { return Ok(None) };
    let parsed = format_named(format).ok_or_else(|| {
        Failure::new(format!("Could not open '{name}': Unknown driver '{format}'"))
    })?;
    let policy = everywhere::policy().probe(args.probe_backing);
    backing_size(target, name, parsed, policy).map(Some).map_err(|error| {
        let reason = format!("Could not open backing file: {}", explain(&error));
        Failure::new(format!("Could not open '{}': {reason}", target.display()))
    })
}

fn make(plan: &Plan, image: &ImageArg, size: u64) -> Result<(), Failure> {
    let mut options = plan.options.clone();
    options.set("size", size.to_string());
    let refuse = |reason: String| {
        let format = plan.target_format;
        Failure::new(format!("{}: error while converting {format}: {reason}", image.name))
    };
    let new = settings::create_options(plan.target_format, &options).map_err(refuse)?;
    create(&image.path, &new)
        .map_err(|error| refuse(settings::words(&image.path, new.format, &error)))
}

/// Bytes of the units the target allocates; 1 for raw files.
fn cluster_size(chain: &Chain) -> u64 {
    chain.top().header().map_or(1, |header| header.geometry().cluster_bytes())
}
