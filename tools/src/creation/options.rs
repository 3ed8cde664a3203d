//! The `-o` options of a new image: names, kinds, defaults, and the "Formatting" line.

use crate::args::keyval::{self, Item};
use crate::args::size::{self, SizeError};
use crate::failure::Failure;
use qimg::chain::Format;

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `on` or `off`.
    Switch,
    /// Bytes, with the usual suffixes.
    Size,
    /// A plain number.
    Number,
    /// Anything.
    Text,
}

/// One option of a format.
#[derive(Clone, Copy, Debug)]
pub struct CreateOption {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is when nobody says.
    pub default: Option<&'static str>,
}

const fn option(name: &'static str, kind: Kind, default: Option<&'static str>) -> CreateOption {
    CreateOption { name, kind, default }
}

/// Options of qcow2, in the order in which the "Formatting" line names them.
const QCOW2: &[CreateOption] = &[
    option("encryption", Kind::Switch, None),
    option("encrypt.format", Kind::Text, None),
    option("encrypt.key-secret", Kind::Text, None),
    option("encrypt.cipher-alg", Kind::Text, None),
    option("encrypt.cipher-mode", Kind::Text, None),
    option("encrypt.ivgen-alg", Kind::Text, None),
    option("encrypt.ivgen-hash-alg", Kind::Text, None),
    option("encrypt.hash-alg", Kind::Text, None),
    option("encrypt.iter-time", Kind::Number, None),
    option("cluster_size", Kind::Size, Some("65536")),
    option("extended_l2", Kind::Switch, Some("off")),
    option("preallocation", Kind::Text, None),
    option("compression_type", Kind::Text, Some("zlib")),
    option("size", Kind::Size, None),
    option("compat", Kind::Text, None),
    option("backing_file", Kind::Text, None),
    option("backing_fmt", Kind::Text, None),
    option("data_file", Kind::Text, None),
    option("data_file_raw", Kind::Switch, None),
    option("lazy_refcounts", Kind::Switch, Some("off")),
    option("refcount_bits", Kind::Number, Some("16")),
    option("nocow", Kind::Switch, None),
    option("extent_size_hint", Kind::Size, None),
];

/// Options of raw files.
const RAW: &[CreateOption] = &[
    option("size", Kind::Size, None),
    option("nocow", Kind::Switch, None),
    option("preallocation", Kind::Text, None),
    option("extent_size_hint", Kind::Size, None),
];

/// The options of a format.
#[must_use]
pub fn table(format: Format) -> &'static [CreateOption] {
    match format {
        Format::Raw => RAW,
        Format::Qcow2 => QCOW2,
    }
}

/// The options given for one new image, normalised (`64k` is `65536`, `lazy_refcounts` is
/// `lazy_refcounts=on`), with the defaults of those not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    format: Format,
    values: Vec<Option<String>>,
}

impl Options {
    /// The defaults of a format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let default = |option: &CreateOption| option.default.map(Into::into);
        Self { format, values: table(format).iter().map(default).collect() }
    }

    /// Nothing but what is said.
    #[must_use]
    pub fn without_defaults(format: Format) -> Self {
        Self { format, values: vec![None; table(format).len()] }
    }

    /// Takes one `-o` list over what was said before.
    ///
    /// # Errors
    /// A malformed list, an unknown option, or a value of the wrong kind: the message to print.
    pub fn apply(&mut self, list: &str) -> Result<(), String> {
        check_list(list)?;
        keyval::parse(list).iter().try_for_each(|item| self.apply_item(item))
    }

    fn apply_item(&mut self, item: &Item) -> Result<(), String> {
        let position = self.position(&item.key);
        let position = position.ok_or_else(|| format!("Invalid parameter '{}'", item.key))?;
        let option = &table(self.format)[position];
        self.values[position] = Some(normalise(option, item.value.as_deref())?);
        Ok(())
    }

    /// Sets an option that has a flag of its own (`-b`, `-F`, the size).
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        if let Some(position) = self.position(name) {
            self.values[position] = Some(value.into());
        }
    }

    /// Forgets an option.
    pub fn clear(&mut self, name: &str) {
        if let Some(position) = self.position(name) {
            self.values[position] = None;
        }
    }

    /// The value of an option.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values[self.position(name)?].as_deref()
    }

    /// The value of an option that is a number of any kind.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("on")
    }

    /// Whether the format has such an option at all.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    fn position(&self, name: &str) -> Option<usize> {
        table(self.format).iter().position(|option| option.name == name)
    }

    /// The line that says what is being made.
    #[must_use]
    pub fn formatting(&self, file: &str) -> String {
        let mut line = format!("Formatting '{file}', fmt={}", self.format.name());
        for (option, value) in table(self.format).iter().zip(&self.values) {
            if let Some(value) = value {
                line.push_str(&format!(" {}={}", option.name, keyval::escape(value)));
            }
        }
        line
    }
}

/// Whether any of the `-o` lists asks for help.
///
/// # Errors
/// A malformed list.
pub fn wants_help(lists: &[String]) -> Result<bool, Failure> {
    lists.iter().try_for_each(|list| check_list(list)).map_err(Failure::new)?;
    Ok(lists.iter().any(|list| keyval::asks_for_help(list)))
}

/// At the end of a list an even number of commas stands for commas in the last value.
fn check_list(list: &str) -> Result<(), String> {
    let last = list.len() - list.trim_end_matches(',').len();
    if list.is_empty() || list.starts_with(',') || last % 2 == 1 {
        return Err(format!("Invalid option list: {list}"));
    }
    Ok(())
}

fn normalise(option: &CreateOption, value: Option<&str>) -> Result<String, String> {
    let name = option.name;
    match (option.kind, value) {
        (Kind::Switch, None | Some("on" | "yes" | "true" | "y")) => Ok("on".into()),
        (Kind::Switch, Some("off" | "no" | "false" | "n")) => Ok("off".into()),
        (Kind::Switch, Some(_)) => Err(format!("Parameter '{name}' expects 'on' or 'off'")),
        (Kind::Text, value) => Ok(value.unwrap_or("on").into()),
        (Kind::Number, value) => match size_of(value.unwrap_or("on")) {
            Some(number) => Ok(number.to_string()),
            None => Err(format!("Parameter '{name}' expects a number")),
        },
        (Kind::Size, value) => normalise_size(name, value.unwrap_or("on")),
    }
}

/// A number as C reads it: `0x` hexadecimal, `0` octal, and below zero from the far end.
fn size_of(text: &str) -> Option<u64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let number = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8),
        _ => digits.parse(),
    };
    number.ok().map(|number| if is_negative { number.wrapping_neg() } else { number })
}

fn normalise_size(name: &str, value: &str) -> Result<String, String> {
    match size::parse_u64(value) {
        Ok(bytes) => Ok(bytes.to_string()),
        Err(SizeError::Range) => {
            Err(format!("Value '{value}' is out of range for parameter '{name}'"))
        }
        Err(SizeError::Syntax) => Err(format!(
            "Parameter '{name}' expects a non-negative number below 2^64, with an optional suffix \
             k, M, G, T, P or E"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2(lists: &[&str]) -> Result<Options, String> {
        let mut options = Options::new(Format::Qcow2);
        lists.iter().try_for_each(|list| options.apply(list))?;
        Ok(options)
    }

    #[test]
    fn the_line_names_defaults_and_choices_in_the_known_order() {
        let mut options = qcow2(&[
            "compat=v3,cluster_size=4k,lazy_refcounts=on,preallocation=off,size=1M",
            "backing_file=e.raw,backing_fmt=raw,compression_type=zstd,data_file=ddd,data_file_raw=off",
        ])
        .unwrap();
        assert_eq!(
            options.formatting("xx.qcow2"),
            "Formatting 'xx.qcow2', fmt=qcow2 cluster_size=4096 extended_l2=off preallocation=off \
             compression_type=zstd size=1048576 compat=v3 backing_file=e.raw backing_fmt=raw \
             data_file=ddd data_file_raw=off lazy_refcounts=on refcount_bits=16"
        );
        options.set("backing_file", "a,b");
        assert!(options.formatting("x").contains(" backing_file=a,,b "));
        assert_eq!(options.number("cluster_size"), Some(4096));
    }

    #[test]
    fn wrong_options_get_the_known_words() {
        let table = [
            ("foo=1", "Invalid parameter 'foo'"),
            ("", "Invalid option list: "),
            (",a", "Invalid option list: ,a"),
            (",,a=1", "Invalid option list: ,,a=1"),
            ("cluster_size=4k,", "Invalid option list: cluster_size=4k,"),
            ("backing_file=a,,,", "Invalid option list: backing_file=a,,,"),
            ("lazy_refcounts=maybe", "Parameter 'lazy_refcounts' expects 'on' or 'off'"),
            ("refcount_bits=foo", "Parameter 'refcount_bits' expects a number"),
            ("size=-1", "Value '-1' is out of range for parameter 'size'"),
            ("size=16E", "Value '16E' is out of range for parameter 'size'"),
        ];
        for (list, message) in table {
            assert_eq!(qcow2(&[list]).unwrap_err(), message);
        }
        let message = qcow2(&["cluster_size=64k,,x"]).unwrap_err();
        assert!(message.starts_with("Parameter 'cluster_size' expects a non-negative number"));
    }

    #[test]
    fn a_name_alone_is_on() {
        assert!(qcow2(&["lazy_refcounts"]).unwrap().is_on("lazy_refcounts"));
        assert!(!qcow2(&[]).unwrap().is_on("lazy_refcounts"));
        assert!(!Options::new(Format::Raw).knows("backing_file"));
    }
}
