//! The manual in `docs/tour` and the README, taken at their word: every command that they show is run, in
//! order, and what it prints is compared with what they say it prints.
//!
//! - ```` ```console ````: `$ command`, then what it prints on both streams. `...` stands for part of a line,
//!   alone on a line for any number of lines. `# exit 13` below the output states an exit code other than 0.
//! - ```` ```sh ````: a script that must succeed, whatever it prints.
//! - ```` ```text ````: a picture, without commands.
//! - `<!-- set-up` in the first line of a page begins a script that readers do not see, up to `-->`.
//!
//! `QIMG_MANUAL=update cargo nextest run -p qimg-tools --test manual` writes what is printed now into the pages.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod flags;
mod links;
mod page;
mod run;
mod runner_notices;
mod update;
mod wildcard;

use std::path::{Path, PathBuf};

use page::{NotRun, Page};

/// Scripts of the README that take a toolchain, minutes, or another host.
const README_NOT_RUN: NotRun<'_> = &[
    ("Two commands", "builds the workspace, and runs its tests"),
    ("Bring your own I/O loop", "builds an example with optimisation"),
];

/// Where the repository begins.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Runs a file of Markdown.
#[track_caller]
fn holds(file: &str, not_run: NotRun<'_>) {
    let path = repository().join(file);
    let page = Page::read(&path, not_run).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(!page.steps.is_empty(), "{file} shows no command");
    let differences = run::differences(&page);
    if differences.is_empty() {
        return;
    }
    let told: String = differences.iter().map(|difference| difference.text.as_str()).collect();
    if std::env::var(update::VARIABLE).is_ok_and(|value| value == "update") {
        std::fs::write(&path, update::rewritten(&page, &differences)).unwrap();
        panic!("{told}\n{file} was rewritten; look at the difference, and run it again");
    }
    panic!("{told}");
}

/// One test for each page, so that a failure names it.
macro_rules! pages {
    ($($name:ident),+ $(,)?) => {
        const PAGES: &[&str] = &[$(stringify!($name)),+];
        $(
            #[test]
            fn $name() {
                holds(&format!("docs/tour/{}.md", stringify!($name).replace('_', "-")), &[]);
            }
        )+
    };
}

pages!(
    overlays,
    who_owns_it,
    shorter_chains,
    what_changed,
    moving,
    uploads,
    recovery,
    from_qemu,
    speed
);

#[test]
fn readme() {
    holds("README.md", README_NOT_RUN);
}

#[test]
fn every_page_is_run() {
    let folder = std::fs::read_dir(repository().join("docs/tour")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    names.sort_unstable();
    let mut known: Vec<String> =
        PAGES.iter().map(|name| format!("{}.md", name.replace('_', "-"))).collect();
    known.sort_unstable();
    assert_eq!(names, known, "pages in docs/tour, and pages that have a test");
}
