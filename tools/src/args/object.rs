//! `--object`: secrets for encrypted images. They are checked and otherwise not used yet, since
//! encrypted images are not opened.

use super::keyval;
use crate::failure::Failure;

/// Properties of a secret.
const PROPERTIES: [&str; 7] = ["qom-type", "id", "data", "file", "format", "keyid", "iv"];

/// Checks the values of `--object`.
///
/// # Errors
/// One is no secret, or no complete one, or its file cannot be read.
pub fn check_all(objects: &[String]) -> Result<(), Failure> {
    objects.iter().try_for_each(|object| check(object)).map_err(Failure::new)
}

fn check(object: &str) -> Result<(), String> {
    let mut items = keyval::parse(object).into_iter().map(|item| (item.key, item.value));
    let first = items.next().unwrap_or_default();
    let rest = items.map(|(key, value)| (key, value.unwrap_or_else(|| "on".into())));
    let mut pairs: Vec<(String, String)> = match first {
        (kind, None) => vec![("qom-type".into(), kind)],
        (key, Some(value)) => vec![(key, value)],
    };
    pairs.extend(rest);
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !PROPERTIES.contains(&key.as_str())) {
        return Err(format!("Parameter '{key}' is unexpected"));
    }
    let get = |name: &str| {
        pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    };
    check_secret(get)
}

fn check_secret<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<(), String> {
    match get("qom-type").unwrap_or_default() {
        "secret" => {}
        kind => return Err(format!("--object {kind} is not offered (known is secret)")),
    }
    let id = get("id").ok_or("Parameter 'id' is missing")?;
    if !id.starts_with(|first: char| first.is_ascii_alphabetic())
        || !id.chars().all(|char| char.is_ascii_alphanumeric() || "-._".contains(char))
    {
        return Err(
            "Parameter 'id' expects an identifier (letters, digits, '-', '.', '_', starting \
                    with a letter)"
                .into(),
        );
    }
    if let Some(format) = get("format").filter(|format| !["raw", "base64"].contains(format)) {
        return Err(format!("Parameter 'format' does not accept value '{format}'"));
    }
    if let Some(key) = get("keyid") {
        return Err(format!("secret '{id}': keyid={key} is not offered: secrets of secrets"));
    }
    match (get("data"), get("file")) {
        (None, None) => Err("Either 'file' or 'data' must be provided".into()),
        (Some(_), Some(_)) => Err("'file' and 'data' are mutually exclusive".into()),
        (Some(_), None) => Ok(()),
        (None, Some(file)) => match std::fs::File::open(file) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("Unable to read {file}: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_and_all_else_is_named() {
        let checked = |text: &str| check_all(&[text.into()]).map_err(|error| error.to_string());
        assert_eq!(checked("secret,id=s0,data=PASS"), Ok(()));
        assert_eq!(checked("qom-type=secret,id=s0,data=a,,b,format=base64"), Ok(()));
        for (text, part) in [
            ("iothread,id=t", "--object iothread is not offered"),
            ("secret", "'id' is missing"),
            ("secret,id=9", "expects an identifier"),
            ("secret,id=s", "Either 'file' or 'data'"),
            ("secret,id=s,data=x,file=y", "mutually exclusive"),
            ("secret,id=s,file=no/such", "Unable to read no/such"),
            ("secret,id=s,data=x,foo=1", "Parameter 'foo' is unexpected"),
            ("secret,id=s,data=x,format=hex", "'format' does not accept value 'hex'"),
            ("secret,id=s,data=x,keyid=k", "keyid=k is not offered"),
        ] {
            let message = checked(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
