//! What `-o` may say when an image is amended.

use qimg::amend::AmendOptions;
use qimg::chain::Format;
use qimg::format::Version;

use super::help;
use super::options::{Kind, Options};
use crate::args::keyval;

/// What is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendments {
    /// The size of the disk in bytes.
    pub size: Option<u64>,
    /// Everything else.
    pub options: AmendOptions,
}

/// Options that can change.
const AMENDABLE: [(&str, Kind); 8] = [
    ("backing_file", Kind::Text),
    ("backing_fmt", Kind::Text),
    ("compat", Kind::Text),
    ("data_file", Kind::Text),
    ("data_file_raw", Kind::Switch),
    ("lazy_refcounts", Kind::Switch),
    ("refcount_bits", Kind::Number),
    ("size", Kind::Size),
];

/// Options about the keys of encrypted images.
const KEYS: [(&str, Kind, &str); 5] = [
    ("encrypt.iter-time", Kind::Number, "Time to spend in PBKDF in milliseconds"),
    ("encrypt.keyslot", Kind::Number, "Select a single keyslot to modify explicitly"),
    (
        "encrypt.new-secret",
        Kind::Text,
        "New secret to set in the matching keyslots. Empty string to erase",
    ),
    ("encrypt.old-secret", Kind::Text, "Select all keyslots that match this password"),
    ("encrypt.state", Kind::Text, "Select new state of affected keyslots (active/inactive)"),
];

/// The text of `-o help`.
#[must_use]
pub fn help() -> String {
    let text = |name| help::text(Format::Qcow2, name);
    let options = AMENDABLE.iter().map(|(name, kind)| help::line(name, *kind, text(name)));
    let keys = KEYS.iter().map(|(name, kind, text)| help::line(name, *kind, text));
    let mut lines: Vec<String> = options.chain(keys).collect();
    lines.sort();
    format!("Amend options for 'qcow2':\n{}", lines.concat())
}

impl Amendments {
    /// Reads the values of all `-o`.
    ///
    /// # Errors
    /// The message to print, perhaps with a second line: an option that is not known or cannot
    /// change, or a value that it cannot have.
    pub fn parse(lists: &[String]) -> Result<Self, String> {
        let mut options = Options::without_defaults(Format::Qcow2);
        for list in lists {
            keyval::parse(list).iter().try_for_each(|item| check_name(&options, &item.key))?;
            options.apply(list)?;
        }
        let version = match options.get("compat") {
            None => None,
            Some("1.1" | "v3") => Some(Version::V3),
            Some("0.10" | "v2") => Some(Version::V2),
            Some(other) => return Err(format!("Unknown compatibility level {other}")),
        };
        let text = |name| options.get(name).map(str::to_owned);
        let switch = |name| options.get(name).map(|value| value == "on");
        let backing = (text("backing_file"), text("backing_fmt"));
        Ok(Self {
            size: options.number("size").filter(|size| *size != 0),
            options: AmendOptions {
                version,
                refcount_bits: options.number("refcount_bits"),
                lazy_refcounts: switch("lazy_refcounts"),
                data_file: text("data_file"),
                data_file_raw: switch("data_file_raw"),
                backing: Some(backing).filter(|backing| *backing != (None, None)),
            },
        })
    }
}

fn check_name(options: &Options, name: &str) -> Result<(), String> {
    if AMENDABLE.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    if KEYS.iter().any(|(known, _, _)| *known == name) {
        return Err("Can't amend encryption options - encryption not present".into());
    }
    match options.knows(name) {
        true => Err(format!(
            "Invalid parameter '{name}'\nThis option is only supported for image creation"
        )),
        false => Err(format!("Invalid parameter '{name}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lists: &[&str]) -> Result<Amendments, String> {
        Amendments::parse(&lists.iter().map(|&list| list.into()).collect::<Vec<_>>())
    }

    #[test]
    fn only_what_is_said_changes() {
        assert_eq!(parse(&["size=0"]), Ok(Amendments::default()));
        let parsed = parse(&["lazy_refcounts,size=1M", "lazy_refcounts=off"]).unwrap();
        assert_eq!(parsed.size, Some(1 << 20));
        let options = AmendOptions { lazy_refcounts: Some(false), ..AmendOptions::default() };
        assert_eq!(parsed.options, options);
    }

    #[test]
    fn what_cannot_change_is_named() {
        for (list, words) in [
            ("cluster_size=4k", "Invalid parameter 'cluster_size'\nThis option is only supported"),
            ("foo=1", "Invalid parameter 'foo'"),
            ("compat=1.2", "Unknown compatibility level 1.2"),
            ("encrypt.state=active", "Can't amend encryption options"),
            ("refcount_bits=x", "Parameter 'refcount_bits' expects a number"),
        ] {
            assert!(parse(&[list]).unwrap_err().starts_with(words), "{list}");
        }
    }
}
