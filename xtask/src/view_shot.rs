//! `view-shot`: pages of `qimg view` in a headless browser. They must find nothing wrong with
//! themselves in wide and narrow windows, hostile names must stay text, and the page of a made-up chain
//! becomes `docs/view.png`.

mod chain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, build_folder, quiet_output_of, root, run_cargo};
use crate::environment;
use crate::failure::{Failure, Outcome};

/// Windows in which a page must fit: a screen, and a telephone, or as narrow as the browser goes.
const WINDOWS: [&str; 2] = ["1120,1900", "420,1900"];
/// More would be too much for a README.
const PNG_BYTES_MAX: u64 = 300_000;
/// What the page says about itself when nothing is wrong.
const GOOD: &str = "data-self-check=\"good\"";

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("view-shot", words)?;
    environment::ensure()?;
    environment::ensure_browser()?;
    run_cargo(&["build", "--quiet", "--package", "qimg-tools", "--bins"])?;
    let folder = build_folder()?.join("view-shot");
    forget(&folder)?;
    fs::create_dir_all(&folder).map_err(Failure::at(&folder))?;
    let outcome = look(&folder);
    outcome.and(forget(&folder))
}

fn look(folder: &Path) -> Outcome {
    let hostile = page(folder, &chain::hostile(folder)?)?;
    for window in WINDOWS {
        let dom = dom(folder, &hostile, window)?;
        if dom.contains(&format!("data-{}", chain::OWNED)) {
            return Err(unsound("a name became a script", &dom));
        }
    }
    let honest = page(folder, &chain::honest(folder)?)?;
    for window in WINDOWS {
        dom(folder, &honest, window)?;
    }
    let png = root().join("docs").join("view.png");
    browser(folder, WINDOWS[0], &[&format!("--screenshot={}", png.display())], &honest)?;
    let len = fs::metadata(&png).map_err(Failure::at(&png))?.len();
    if len > PNG_BYTES_MAX {
        let found = format!("{len} bytes, at most {PNG_BYTES_MAX}");
        return Err(Failure::Unexpected { what: "size of docs/view.png", found });
    }
    println!("written to {}", png.display());
    Ok(())
}

/// The page of a chain.
fn page(folder: &Path, top: &Path) -> Outcome<PathBuf> {
    let page = folder.join("page.html");
    let mut command = Command::new(build_folder()?.join("qimg"));
    command::run(command.current_dir(folder).args(["view", "-o"]).arg(&page).arg(top))?;
    Ok(page)
}

/// What the page became, if it finds nothing wrong with itself.
fn dom(folder: &Path, page: &Path, window: &str) -> Outcome<String> {
    let dom = browser(folder, window, &["--dump-dom"], page)?;
    let start = dom.get(..dom.find("<head").unwrap_or(0)).unwrap_or_default();
    match start.contains(GOOD) {
        true => Ok(dom),
        false => Err(unsound("page in a window", &format!("{window}: {start}"))),
    }
}

fn unsound(what: &'static str, found: &str) -> Failure {
    let found = found.chars().take(500).collect();
    Failure::Unexpected { what, found }
}

/// Runs the browser on a page, with nothing kept from other runs and nobody to talk to.
fn browser(folder: &Path, window: &str, args: &[&str], page: &Path) -> Outcome<String> {
    let user = folder.join("user");
    forget(&user)?;
    fs::create_dir_all(&user).map_err(Failure::at(&user))?;
    let mut command = environment::program("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--hide-scrollbars", &format!("--window-size={window}")])
        .arg(format!("--user-data-dir={}", user.display()))
        .args(args)
        .arg(format!("file://{}", page.display()));
    quiet_output_of(&mut command)
}

fn forget(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::at(folder)(error))
        }
        _ => Ok(()),
    }
}
