//! Commands about the session: flush, wait, help, quit.

use super::{COMMANDS, Command, Invocation, Problem, find};
use crate::io::session::Session;

/// `flush`
pub const FLUSH: Command = Command {
    name: "flush",
    short: "f",
    fewest: 0,
    most: Some(0),
    arguments: "",
    summary: "flush all in-core file state to disk",
    details: "",
    needs_image: true,
    run: flush,
};

/// `aio_flush`
pub const AIO_FLUSH: Command = Command {
    name: "aio_flush",
    short: "aio_flush",
    fewest: 0,
    most: Some(0),
    arguments: "",
    summary: "completes all outstanding aio requests",
    details: "",
    needs_image: true,
    run: |_, _| Ok(()), // requests finish before their command returns
};

/// `sleep`
pub const SLEEP: Command = Command {
    name: "sleep",
    short: "sleep",
    fewest: 1,
    most: Some(1),
    arguments: "",
    summary: "waits for the given value in milliseconds",
    details: "",
    needs_image: false,
    run: sleep,
};

/// `quit`
pub const QUIT: Command = Command {
    name: "quit",
    short: "q",
    fewest: 0,
    most: None,
    arguments: "",
    summary: "exit the program",
    details: "",
    needs_image: false,
    run: |session, _| {
        session.leave();
        Ok(())
    },
};

/// `help`
pub const HELP: Command = Command {
    name: "help",
    short: "?",
    fewest: 0,
    most: Some(1),
    arguments: "[command]",
    summary: "help for one or all commands",
    details: "",
    needs_image: false,
    run: help,
};

fn flush(session: &mut Session<'_>, _: &Invocation<'_>) -> Result<(), Problem> {
    let image = session.image()?;
    image
        .chain()
        .flush()
        .map_err(|error| Problem::Told(format!("flush failed: {}", crate::open::cause(&error))))
}

fn sleep(_: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let text = &invocation.arguments[0];
    let milliseconds: u32 =
        text.parse().map_err(|_| Problem::Told(format!("{text} is not a valid number")))?;
    std::thread::sleep(std::time::Duration::from_millis(milliseconds.into()));
    Ok(())
}

fn help(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let text = match invocation.arguments.first() {
        None => overview(),
        Some(name) => {
            let command =
                find(name).ok_or_else(|| Problem::Told(format!("command {name} not found")))?;
            match command.details {
                "" => format!("{}\n", command.usage(name)),
                details => format!("{}\n\n{details}\n", command.usage(name)),
            }
        }
    };
    Ok(session.print(&text)?)
}

fn overview() -> String {
    let lines: String =
        COMMANDS.iter().map(|command| format!("{}\n", command.usage(command.name))).collect();
    format!("{lines}\nUse 'help commandname' for extended help.\n")
}
