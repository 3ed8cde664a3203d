//! Policies as text: TOML with a section for each of the questions.

use std::fmt::Write;
use std::path::Path;

use qimg::audit::{Key, Policy, Reach, Value};
use toml::{Table, Value as Toml};

use crate::args::size;
use crate::failure::Failure;

/// Reads a policy; keys that are left out keep their defaults, unknown ones are mistakes.
pub(super) fn read(path: &Path) -> Result<Policy, Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::new(format!("Could not use policy '{}': {why}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(&error))?;
    let table = text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        refuse(&format!("line {line}: {}", error.message()))
    })?;
    of_table(&table).map_err(|why| refuse(&why))
}

fn of_table(table: &Table) -> Result<Policy, String> {
    let mut policy = Policy::default();
    for (section, content) in table {
        let Toml::Table(content) = content else {
            return Err(format!("'{section}' is no section; --print-policy shows all keys"));
        };
        for (name, value) in content {
            let key = Policy::KEYS.iter().find(|key| (key.section, key.name) == (section, name));
            let key = key.ok_or_else(|| {
                format!("there is no key {section}.{name}; --print-policy shows all keys")
            })?;
            set(&mut policy, key, value)?;
        }
    }
    Ok(policy)
}

fn set(policy: &mut Policy, key: &Key, value: &Toml) -> Result<(), String> {
    let (read, wanted) = match key.get(policy) {
        Value::Flag(_) => (value.as_bool().map(Value::Flag), "true or false"),
        Value::Number(_) => {
            let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
            (number.map(Value::Number), "a number from 0 on")
        }
        Value::Bytes(_) => (bytes(value).map(Value::Bytes), "a size, 1048576 or \"1M\""),
        Value::Reach(_) => {
            let named = Reach::ALL.iter().find(|(_, name)| value.as_str() == Some(name));
            let named = named.map(|&(reach, _)| Value::Reach(reach));
            (named, "\"no\", \"beside\", \"below\" or \"any\"")
        }
    };
    let is_set = read.is_some_and(|value| key.set(policy, value));
    is_set.then_some(()).ok_or_else(|| format!("{key:?} is {value}, allowed is {wanted}"))
}

fn bytes(value: &Toml) -> Option<u64> {
    match value {
        Toml::Integer(number) => u64::try_from(*number).ok(),
        Toml::String(text) => size::parse(text).ok(),
        _ => None,
    }
}

/// Prints a policy so that it can be read again.
pub(super) fn print(policy: &Policy) -> String {
    let mut text = String::from(
        "# What 'qimg audit' takes for acceptable. Keys that are left out have the values below.\n",
    );
    let mut section = "";
    for key in Policy::KEYS {
        if key.section != section {
            section = key.section;
            let _ = write!(text, "\n[{section}]\n");
        }
        for line in wrapped(key.meaning) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "{} = {}", key.name, shown(key.get(policy)));
    }
    text
}

fn shown(value: Value) -> String {
    match value {
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Reach(reach) => format!("\"{reach}\""),
        Value::Bytes(0) => "0".into(),
        Value::Bytes(bytes) => {
            let units = ["", "K", "M", "G", "T", "P", "E"];
            let unit = bytes.trailing_zeros() as usize / 10; // at most 6
            format!("\"{}{}\"", bytes >> (10 * unit), units[unit])
        }
    }
}

/// Lines of a sentence.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 96;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        of_table(&text.parse().unwrap())
    }

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        let default = Policy::default();
        assert_eq!(read(&print(&default)), Ok(default));
        let mut odd = Policy::default();
        (odd.virtual_size, odd.snapshots, odd.data_file) = (1000, 0, Reach::Below);
        assert_eq!(read(&print(&odd)), Ok(odd));
        insta::assert_snapshot!(print(&Policy::default()));
    }

    #[test]
    fn keys_are_read_one_by_one() {
        let policy = read("[limits]\nvirtual-size = \"2T\"\n[features]\ndirty = true").unwrap();
        let mut expected = Policy::default();
        (expected.virtual_size, expected.dirty) = (2 << 40, true);
        assert_eq!(policy, expected);
        assert_eq!(read("[limits]\nvirtual-size = 5").unwrap().virtual_size, 5);
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("limits = 5", "'limits' is no section; --print-policy shows all keys"),
            (
                "[limits]\nvirtual = 5",
                "there is no key limits.virtual; --print-policy shows all keys",
            ),
            ("[limits]\nsnapshots = -1", "limits.snapshots is -1, allowed is a number from 0 on"),
            (
                "[limits]\nl1-tables = \"x\"",
                "limits.l1-tables is \"x\", allowed is a size, 1048576 or \"1M\"",
            ),
            ("[check]\nleaks = 1", "check.leaks is 1, allowed is true or false"),
            (
                "[references]\nbacking-file = \"yes\"",
                "references.backing-file is \"yes\", allowed is \"no\", \"beside\", \"below\" or \"any\"",
            ),
        ];
        for (text, message) in table {
            assert_eq!(read(text), Err(message.to_owned()));
        }
    }
}
