//! `key=value,key=value` lists: `-o` of create and convert, and `--image-opts`.

/// One item of a list: `key=value`, or `key` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Left of the first `=`.
    pub key: String,
    /// Right of it; `None` when there is no `=`.
    pub value: Option<String>,
}

/// Splits a list at its single commas; `,,` stands for one comma within an item.
#[must_use]
pub fn parse(text: &str) -> Vec<Item> {
    split(text).iter().map(|item| Item::parse(item)).collect()
}

/// Whether the list asks for help (`help` or `?` as an item of its own).
#[must_use]
pub fn asks_for_help(text: &str) -> bool {
    split(text).iter().any(|item| item == "help" || item == "?")
}

/// Doubles the commas of one value, so that it survives inside a list.
#[must_use]
pub fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

impl Item {
    fn parse(item: &str) -> Self {
        match item.split_once('=') {
            Some((key, value)) => Self { key: key.into(), value: Some(value.into()) },
            None => Self { key: item.into(), value: None },
        }
    }
}

fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = char == ',' && chars.next_if_eq(&',').is_some();
        match items.last_mut() {
            Some(item) if char != ',' || escaped => item.push(char),
            _ => items.push(String::new()),
        }
    }
    if items.last().is_some_and(String::is_empty) {
        items.pop(); // one trailing comma is harmless
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> Item {
        Item { key: key.into(), value: Some(value.into()) }
    }

    #[test]
    fn doubled_commas_stay_in_the_value() {
        assert_eq!(parse("a=1,b=x,,y,c=z"), [pair("a", "1"), pair("b", "x,y"), pair("c", "z")]);
        assert_eq!(parse("a=1,,,b=2"), [pair("a", "1,"), pair("b", "2")]);
        assert_eq!(parse("on"), [Item { key: "on".into(), value: None }]);
        assert_eq!(parse(""), []);
        assert_eq!(escape("a,b"), "a,,b");
    }

    #[test]
    fn help_is_an_item_of_its_own() {
        assert!(asks_for_help("size=1,help"));
        assert!(asks_for_help("?"));
        assert!(!asks_for_help("backing_file=help"));
        assert!(!asks_for_help("a,,help"));
    }
}
