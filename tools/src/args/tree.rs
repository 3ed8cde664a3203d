//! Option trees of images, flat: `json:{...}` becomes the dotted keys of `--image-opts`.

use serde_json::Value;

use super::keyval;

/// Dotted keys and their values, in the order given.
pub type Flat = Vec<(String, String)>;

/// Flattens the JSON object of a `json:` name.
///
/// # Errors
/// Text that is no JSON, is no object, or holds a null.
pub fn from_json(text: &str) -> Result<Flat, String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("Could not parse the JSON options: {error}"))?;
    if !value.is_object() {
        return Err("Could not parse the JSON options: an object is needed".into());
    }
    let mut flat = Flat::new();
    flatten("", &value, &mut flat)?;
    Ok(flat)
}

/// Reads the dotted keys of `--image-opts`.
///
/// # Errors
/// An item without a value.
pub fn from_list(text: &str) -> Result<Flat, String> {
    let pair = |item: keyval::Item| match item.value {
        Some(value) => Ok((item.key, value)),
        None => Err(format!("image option '{}' has no value", item.key)),
    };
    keyval::parse(text).into_iter().map(pair).collect()
}

fn flatten(prefix: &str, value: &Value, flat: &mut Flat) -> Result<(), String> {
    let joined = |key: &str| if prefix.is_empty() { key.into() } else { format!("{prefix}.{key}") };
    let text = match value {
        Value::Object(members) => {
            return members.iter().try_for_each(|(key, value)| flatten(&joined(key), value, flat));
        }
        Value::Array(items) => {
            return items
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| flatten(&joined(&index.to_string()), value, flat));
        }
        Value::Null => {
            return Err(format!("image option '{prefix}' is null, which is not offered"));
        }
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
    };
    flat.push((prefix.into(), text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_dotted_json_are_the_same() {
        let nested =
            r#"{"driver":"qcow2","file":{"driver":"file","filename":"a,b","locking":false}}"#;
        let mut flat = from_json(nested).unwrap();
        flat.sort();
        let list = "driver=qcow2,file.driver=file,file.filename=a,,b,file.locking=off";
        assert_eq!(flat, from_list(list).unwrap());
        let dotted = from_json(r#"{"file.filename":"x"}"#).unwrap();
        assert_eq!(dotted, [("file.filename".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn broken_json_is_refused() {
        assert!(from_json("{").unwrap_err().starts_with("Could not parse the JSON options: "));
        assert!(from_json("[1]").unwrap_err().ends_with("an object is needed"));
        assert!(from_json(r#"{"backing":null}"#).unwrap_err().contains("'backing'"));
    }

    #[test]
    fn deep_json_is_refused_without_recursion_trouble() {
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(from_json(&deep).is_err());
    }
}
