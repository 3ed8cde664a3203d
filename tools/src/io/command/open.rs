//! `open`, `close` and `reopen`.

use std::ffi::OsStr;

use super::{Command, Invocation, Problem};
use crate::args::aio::wants_ring;
use crate::args::image::ImageArg;
use crate::args::tree;
use crate::called::called_as;
use crate::failure::Failure;
use crate::io::getopt::Parsed;
use crate::io::session::{self, Session, Settings};

/// `open`
pub const OPEN: Command = Command {
    name: "open",
    short: "o",
    fewest: 1,
    most: None,
    arguments: "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
    summary: "open the file specified by path",
    details: OPEN_DETAILS,
    needs_image: false,
    run: open,
};

/// `close`
pub const CLOSE: Command = Command {
    name: "close",
    short: "c",
    fewest: 0,
    most: Some(0),
    arguments: "",
    summary: "close the current open file",
    details: "",
    needs_image: true,
    run: close,
};

/// `reopen`
pub const REOPEN: Command = Command {
    name: "reopen",
    short: "reopen",
    fewest: 0,
    most: None,
    arguments: "[(-r|-w)] [-c cache] [-o options]",
    summary: "reopens an image with new options",
    details: REOPEN_DETAILS,
    needs_image: true,
    run: reopen,
};

const OPEN_DETAILS: &str = " \
 -d  discard mode
 -n  short for -t none
 -o  image options, such as driver=qcow2,file.filename=PATH
 -r  read-only
 -s  write to a temporary overlay
 -t  cache mode
 -U  although somebody may be writing to it (read-only)
 -i  threads, native or io_uring (the last one if built with it)
 -k is accepted and has no effect; -C (copy-on-read) is not offered
";

const REOPEN_DETAILS: &str = " \
 -c  cache mode
 -r  read-only
 -w  read-write
 -o  image options, such as lazy-refcounts=on; the others stay as they are
";

fn complain(failure: &Failure) -> Problem {
    Problem::Complained(format!("{}: {failure}", called_as("qimg-io")))
}

fn open(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let parsed = invocation.parse("Cd:i:kno:rst:U")?;
    if parsed.operands.len() > 1 {
        return Err(Problem::Usage);
    }
    if session.has_image() {
        return Err(complain(&Failure::new("file open already, try 'help close'")));
    }
    let settings = settings(&parsed).map_err(|reason| complain(&Failure::new(reason)))?;
    let given = parsed.value('o').map(tree::from_list).transpose();
    let opened = match (parsed.operands.as_slice(), given) {
        (_, Err(reason)) => return Err(complain(&Failure::new(reason))),
        ([], Ok(Some(given))) => session.open("", ImageArg::from_options(given), settings),
        ([path], Ok(given)) => {
            let given = given.unwrap_or_default();
            let argument = ImageArg::with_options(OsStr::new(path), None, given);
            session.open(path, argument, settings)
        }
        _ => return Err(Problem::Usage),
    };
    opened.map_err(|failure| complain(&failure))
}

fn settings(parsed: &Parsed) -> Result<Settings, String> {
    let unmap = session::discard_mode(parsed.value('d'))?;
    let ring = parsed.value('i').map(wants_ring).transpose()?;
    if parsed.has('C') {
        return Err(session::COPY_ON_READ.into());
    }
    let cache = match parsed.value('t') {
        Some(mode) => session::cache_mode(mode)?,
        None if parsed.has('n') => crate::args::cache::CacheMode::None,
        None => Settings::default().cache,
    };
    Ok(Settings {
        read_only: parsed.has('r'),
        snapshot: parsed.has('s'),
        force_share: parsed.has('U'),
        cache,
        unmap,
        ring: ring.unwrap_or_default(),
        ..Settings::default()
    })
}

fn close(session: &mut Session<'_>, _: &Invocation<'_>) -> Result<(), Problem> {
    session.close().map_err(|failure| complain(&failure))
}

fn reopen(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let parsed = invocation.parse("c:o:rw")?;
    if !parsed.operands.is_empty() {
        return Err(Problem::Usage);
    }
    let refuse = |reason: &str| Err(complain(&Failure::new(reason)));
    if parsed.has('r') && parsed.has('w') {
        return refuse("Only one -r/-w option may be given");
    }
    let options = match parsed.value('o').map(tree::from_list).transpose() {
        Ok(options) => options.unwrap_or_default(),
        Err(reason) => return refuse(&reason),
    };
    let names = |start: &str| options.iter().any(|(key, _)| key.starts_with(start));
    if (parsed.has('r') || parsed.has('w')) && names("read-only") {
        return refuse("Cannot set both -r/-w and 'read-only'");
    }
    if parsed.has('c') && names("cache.") {
        return refuse("Cannot set both -c and the cache options");
    }
    let cache = match parsed.value('c').map(session::cache_mode).transpose() {
        Ok(cache) => cache,
        Err(reason) => return refuse(&reason),
    };
    let changed = session.reopen(
        |settings| {
            settings.read_only = parsed.has('r') || (settings.read_only && !parsed.has('w'));
            settings.cache = cache.unwrap_or(settings.cache);
        },
        options,
    );
    changed.map_err(|failure| complain(&failure))
}
