//! Flags and verbs that prose mentions exist: whatever stands in backticks is looked up in `--help`.

use std::collections::HashMap;
use std::path::Path;

use testkit::run;

use crate::repository;

/// What is read, beside the pages of the tour.
const FILES: [&str; 6] = [
    "README.md",
    "docs/README.md",
    "CHANGELOG.md",
    "ARCHITECTURE.md",
    "tools/README.md",
    "docs/decisions.md",
];

/// What each verb says about itself, asked once.
#[derive(Default)]
struct Help(HashMap<String, String>);

impl Help {
    fn of(&mut self, verb: &str) -> &str {
        self.0.entry(verb.to_owned()).or_insert_with(|| {
            let words = verb.split(' ').filter(|word| !word.is_empty()).chain(["--help"]);
            run(Path::new(env!("CARGO_BIN_EXE_qimg")), words).success().stdout
        })
    }

    /// What can be done with `verb` (nothing: with the program).
    fn names(&mut self, verb: &str) -> Vec<String> {
        let commands = self.of(verb).lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| !line.is_empty());
        commands.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// Whether `name` is something that can be done with `verb` (nothing: with the program).
    fn lists(&mut self, verb: &str, name: &str) -> bool {
        self.names(verb).iter().any(|known| known == name)
    }

    /// What is wrong with a command line in prose, if anything is.
    fn wrong(&mut self, span: &str) -> Option<String> {
        let mut words = span.split_whitespace().peekable();
        let named = words.next_if_eq(&"qimg").is_some();
        let mut verb = words.next_if(|word| !word.starts_with('-'))?.to_owned();
        if !self.lists("", &verb) {
            let real = verb.bytes().all(|byte| byte.is_ascii_lowercase());
            return (named && real).then(|| format!("there is no verb '{verb}'"));
        }
        if verb == "chain" {
            let action =
                words.next_if(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))?;
            if !self.lists("chain", action) {
                return Some(format!("there is no 'chain {action}'"));
            }
            verb = format!("chain {action}");
        }
        let flags = words.filter(|word| word.len() > 1 && word.starts_with('-'));
        flags
            .map(|word| word.split_once('=').map_or(word, |(flag, _)| flag))
            .map(|flag| flag.trim_matches(|char| "[],;".contains(char)))
            .find(|flag| !self.of(&verb).split([' ', ',', '\n', '[']).any(|word| word == *flag))
            .map(|flag| format!("'{verb}' has no '{flag}'"))
    }
}

/// What stands in single backticks outside of blocks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

#[test]
fn what_prose_says_about_flags_is_true() {
    let mut help = Help::default();
    let folder = std::fs::read_dir(repository().join("docs/tour")).unwrap();
    let pages = folder.map(|entry| entry.unwrap().path());
    let files = FILES.into_iter().map(|name| repository().join(name));
    let mut checked = 0;
    let mut wrong = String::new();
    for path in files.chain(pages.filter(|path| path.extension().is_some_and(|end| end == "md"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        for span in spans(&text) {
            checked += 1;
            if let Some(what) = help.wrong(span) {
                wrong.push_str(&format!("{}: `{span}`: {what}\n", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(checked > 100, "only {checked} spans were found");
}

#[test]
fn examples_in_help_are_true() {
    let mut help = Help::default();
    let mut verbs = help.names("");
    verbs.extend(help.names("chain").iter().map(|action| format!("chain {action}")));
    let mut examples = 0;
    for verb in verbs {
        let text = help.of(&verb).to_owned();
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("qimg ")) {
            assert!(line.starts_with(&format!("qimg {verb} ")), "help of '{verb}': {line}");
            assert_eq!(help.wrong(line), None, "{line}");
            examples += 1;
        }
    }
    assert!(examples >= 10, "only {examples} examples were found");
}

#[test]
fn a_wrong_flag_is_noticed() {
    let mut help = Help::default();
    for fine in
        ["qimg info", "convert ... -", "qimg chain show --json a", "-t none", "check -r all"]
    {
        assert_eq!(help.wrong(fine), None, "{fine}");
    }
    for wrong in ["qimg frob", "chain frob", "qimg check --frob", "check -x", "chain diff --keep=1"]
    {
        assert!(help.wrong(wrong).is_some(), "{wrong}");
    }
    let text = "a `b` c\n```sh\n`d`\n```\n`e f`";
    assert_eq!(spans(text).collect::<Vec<_>>(), ["b", "e f"]);
}
