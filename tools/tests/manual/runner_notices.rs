//! The runner of the manual is not easily satisfied.

use std::path::Path;

use crate::page::{Page, Step};
use crate::run::differences;
use crate::update::rewritten;

fn parsed(text: &str) -> Result<Page, String> {
    Page::parse(Path::new("page.md"), text, &[])
}

fn page(text: &str) -> Page {
    parsed(text).unwrap()
}

/// What it says about a page that it should not like.
fn found(text: &str) -> String {
    let page = page(text);
    let found = differences(&page);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].text.clone()
}

#[test]
fn a_true_page_passes() {
    let text = "<!-- set-up\nprintf one > file\n-->\n# Title\n\n```console\n$ cat file\none\n$ cat file \\\n  \
                file\noneone\n$ ls absent || exit 3\nls: ...absent...\n# exit 3\n$ true\n```\n\n```sh\n[ $(cat \
                file) = one ]\n```\n\n```text\n[a] <- [b]\n```\n";
    let page = page(text);
    assert_eq!(page.steps.len(), 6);
    assert!(differences(&page).is_empty(), "{:?}", differences(&page));
}

#[test]
fn the_programs_are_found() {
    let text = "```console\n$ qimg --version\nqimg ...\n$ qimg-io --version\nqimg-io ...\n```\n";
    assert!(differences(&page(text)).is_empty());
}

#[test]
fn other_output_is_noticed() {
    assert!(found("```console\n$ echo one\ntwo\n```\n").starts_with("page.md:2: echo one\n"));
    found("```console\n$ echo one\n```\n"); // one line too many
    found("```console\n$ true\none\n```\n"); // one missing
    found("```console\n$ echo one >&2\n```\n"); // an error is output, too
    found("```console\n$ echo one\nOne\n$ true\n```\n");
}

#[test]
fn another_exit_code_is_noticed() {
    let told = found("```console\n$ exit 3\n```\n");
    assert!(
        told.contains("the page: exit code 0") && told.contains("shell: exit code 3"),
        "{told}"
    );
    found("```console\n$ true\n# exit 1\n```\n");
    found("```console\n$ exit 3\n# exit 1\n```\n");
    found("```console\n$ kill $$\n```\n");
}

#[test]
fn a_script_that_fails_ends_its_page() {
    assert!(found("```sh\nfalse\ntrue\n```\n```console\n$ echo one\n```\n").contains("succeeds"));
    found("```sh\necho $absent\n```\n");
    found("<!-- set-up\nfalse\n-->\n```console\n$ echo one\n```\n");
}

#[test]
fn a_page_that_hides_commands_is_refused() {
    let table = [
        ("```\n$ true\n```\n", "page.md:1: unknown fence ''"),
        ("text\n```bash\ntrue\n```\n", "page.md:2: unknown fence 'bash'"),
        ("```sh ignore\ntrue\n```\n", "page.md:1: unknown fence 'sh ignore'"),
        ("~~~sh\ntrue\n~~~\n", "page.md:1: a fence is"),
        ("- item\n  ```sh\n  true\n  ```\n", "page.md:2: a fence is"),
        ("text\n\n    qimg info a\n", "page.md:3: an indented block"),
        ("```text\nqimg info a\n```\n", "page.md:2: a command in a block"),
        ("```text\npicture\n$ true\n```\n", "page.md:3: a command in a block"),
        ("```console\nqimg info a\n```\n", "page.md:2: a console block begins"),
        ("```sh\nfalse\n# exit 1\n```\n", "page.md:3: this belongs"),
        ("```console\n$ true\n# exit one\n```\n", "page.md:3: no exit code"),
        ("```console\n$ true\n# exit 1\nmore\n```\n", "page.md:3: an exit code stands"),
        ("```console\n$ true\n", "page.md:1: no '```' ends"),
        ("# Title\n<!-- set-up\ntrue\n-->\n", "page.md:2: a set-up is hidden"),
    ];
    for (text, expected) in table {
        let wrong = parsed(text).unwrap_err();
        assert!(wrong.starts_with(expected), "{text}\n{wrong}");
    }
}

#[test]
fn only_named_sections_are_left_out() {
    let text = "## Build\n```sh\nfalse\n```\n## Use\n```sh\ntrue\n```\n";
    let parse = |not_run| Page::parse(Path::new("page.md"), text, not_run);
    assert_eq!(parse(&[]).unwrap().steps.len(), 2);
    let page = parse(&[("Build", "takes long")]).unwrap();
    assert_eq!(page.steps, [Step::Script { line: 7, text: "true".to_owned() }]);
    assert!(parse(&[("Install", "takes long")]).unwrap_err().contains("'Install'"));
}

#[test]
fn an_update_changes_what_is_wrong_and_nothing_else() {
    let text = "```console\n$ echo 'took 3 s'; echo two\ntook ... s\nthree\n$ exit 2\n$ echo ok\nok\n```\nend\n";
    let page = page(text);
    let written = rewritten(&page, &differences(&page));
    let expected = text.replace("three", "two").replace("exit 2\n", "exit 2\n# exit 2\n");
    assert_eq!(written, expected);
    assert!(differences(&parsed(&written).unwrap()).is_empty());
}
