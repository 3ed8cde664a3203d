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

/// The options without formats that pass everything through: raw above or below another format. A
/// tree of which anything else is left is not offered, which its reader says.
///
/// # Errors
/// A format on top of another that is not raw.
pub fn without_passthrough(mut flat: Flat) -> Result<Flat, String> {
    loop {
        let value = |name: &str| {
            flat.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let (above, below) = (value("driver"), value("file.driver"));
        let Some(below) = below.filter(|below| ["raw", "qcow2"].contains(&below.as_str())) else {
            return Ok(flat);
        };
        if !flat.iter().any(|(key, _)| key.starts_with("file.file.")) {
            return Err("A block device must be specified for \"file\"".into());
        }
        let driver = match (above.as_deref().unwrap_or("raw"), below.as_str()) {
            ("raw", below) => below.to_owned(),
            (above, "raw") => above.to_owned(),
            (above, below) => {
                return Err(format!("'{above}' on top of '{below}' is not offered"));
            }
        };
        flat.retain(|(key, _)| key != "driver" && key != "file.driver");
        for (key, _) in &mut flat {
            if let Some(inner) = key.strip_prefix("file.") {
                *key = inner.to_owned();
            }
        }
        flat.insert(0, ("driver".into(), driver));
    }
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
    fn raw_above_or_below_another_format_is_not_there() {
        let plain = |text: &str| without_passthrough(from_list(text).unwrap());
        let qcow2 = from_list("driver=qcow2,file.driver=file,file.filename=x").unwrap();
        let inner = "file.file.driver=file,file.file.filename=x";
        for outer in ["driver=raw,file.driver=qcow2", "driver=qcow2,file.driver=raw"] {
            assert_eq!(plain(&format!("{outer},{inner}")), Ok(qcow2.clone()), "{outer}");
        }
        assert_eq!(plain("driver=qcow2,file.driver=file,file.filename=x"), Ok(qcow2));
        assert!(plain(&format!("driver=qcow2,file.driver=qcow2,{inner}")).is_err());
        assert!(plain("driver=raw,file.driver=qcow2,file.filename=x").is_err());
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
