//! `length` and `info`.

use super::{Command, Invocation, Problem};
use crate::io::session::Session;
use crate::io::statistics;
use crate::verb::info;

/// `length`
pub const LENGTH: Command = Command {
    name: "length",
    short: "l",
    fewest: 0,
    most: Some(0),
    arguments: "",
    summary: "gets the length of the current file",
    details: "",
    needs_image: true,
    run: length,
};

/// `info`
pub const INFO: Command = Command {
    name: "info",
    short: "i",
    fewest: 0,
    most: Some(0),
    arguments: "",
    summary: "prints information about the current file",
    details: "",
    needs_image: true,
    run: show_info,
};

fn length(session: &mut Session<'_>, _: &Invocation<'_>) -> Result<(), Problem> {
    let size = session.image()?.chain().virtual_size();
    Ok(session.print(&format!("{}\n", statistics::size(size)))?)
}

fn show_info(session: &mut Session<'_>, _: &Invocation<'_>) -> Result<(), Problem> {
    let told = |error| Problem::Told(format!("info failed: {}", crate::open::cause(&error)));
    let info = qimg::info::of_top(session.image()?.chain()).map_err(told)?;
    let (cluster_size, vm_state) = match &info.qcow2 {
        Some(qcow2) => (qcow2.cluster_size, qcow2.vm_state_offset),
        None => (0, 0),
    };
    let text = format!(
        "format name: {}\ncluster size: {}\nvm state offset: {}\n{}",
        info.format,
        statistics::size(cluster_size),
        statistics::size(vm_state),
        info::format_specific(&info),
    );
    Ok(session.print(&text)?)
}
