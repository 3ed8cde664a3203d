//! Each rule broken once, and once obeyed where the border is.

use super::{LINES_MAX, findings};

const ROOT: &str = "//! A crate.\n#![forbid(unsafe_code)]\n";

fn check(name: &str, text: &str, expected: &[&str]) {
    let found: Vec<String> = findings(name, text)
        .into_iter()
        .map(|finding| format!("{}: {}", finding.line, finding.text))
        .collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn an_obedient_file_passes() {
    check("cluster-map/src/lib.rs", ROOT, &[]);
    check("cluster-map/src/extent.rs", "//! Runs of clusters.\n", &[]);
}

#[test]
fn the_first_line_says_what_the_file_is() {
    let text = "1: open the file with a `//!` line: what it is";
    check("chain/src/open.rs", "use std::fs;\n//! Late.\n", &[text]);
    check("chain/src/open.rs", "//! \n", &[text]);
    check("chain/src/open.rs", "", &[text]);

    let readme = "#![doc = include_str!(\"../README.md\")]\n#![forbid(unsafe_code)]\n";
    check("chain/src/lib.rs", readme, &[]);
    check("chain/src/open.rs", readme, &[text]);
}

#[test]
fn a_file_has_a_longest_length() {
    let lines = |count: usize| format!("//! Long.\n{}", "\n".repeat(count - 1));
    check("chain/src/long.rs", &lines(LINES_MAX), &[]);
    let text = "601: 601 lines, at most 600; split it by concept";
    check("chain/src/long.rs", &lines(LINES_MAX + 1), &[text]);
}

#[test]
fn source_is_ascii_and_documents_may_draw() {
    let text = "//! An arrow.\n// \u{2192}\n";
    check("chain/src/open.rs", text, &["2: not ASCII; escape it"]);
    check("ARCHITECTURE.md", text, &[]);
}

#[test]
fn names_say_what_is_inside() {
    let text = "1: use `foo.rs` beside `foo/`: every file then has a name of its own";
    check("chain/src/open/mod.rs", "//! Opening.\n", &[text]);
    let vague = "1: `chain/src/util.rs` does not say what is inside; name the concept";
    check("chain/src/util.rs", "//! Things.\n", &[vague]);
    let folder = "1: `chain/tests/common/disk.rs` does not say what is inside; name the concept";
    check("chain/tests/common/disk.rs", "//! Things.\n", &[folder]);
    check("chain/src/utilisation.rs", "//! How full an image is.\n", &[]);
}

#[test]
fn crate_roots_forbid_unsafe_code_except_where_it_lives() {
    let text = "1: a crate root says `#![forbid(unsafe_code)]`";
    for name in ["src/lib.rs", "refcount/src/lib.rs", "xtask/src/main.rs", "tools/src/bin/a.rs"] {
        check(name, "//! A crate.\n", &[text]);
    }
    check("block-io/src/lib.rs", "//! A crate.\n", &[]);
    check("tools/src/bin/a/part.rs", "//! A part of a program.\n", &[]);
}

#[test]
fn banned_words_are_found_in_code_and_documents() {
    let unfinished = concat!("//! Late.\n// TO", "DO: later\n");
    let text = concat!("2: `TO", "DO`: finish it, or state the limit as a fact");
    check("chain/src/open.rs", unfinished, &[text]);
    check("chain/README.md", unfinished, &[text]);
    let path = concat!("See `/ho", "me/me/disk`.\n");
    let text = concat!("1: `/ho", "me/`: a path of one machine");
    check("docs/decisions.md", path, &[text]);
}

#[test]
fn a_bare_matches_is_found() {
    let text = format!("//! A test.\nfn f() {{\n    {}(a, Some(_));\n}}\n", "matches!");
    let finding = "3: a bare `matches!` checks nothing; wrap it in `assert!`";
    check("chain/src/open.rs", &text, &[finding]);
}
