//! Flags that every verb has: in which form failures and progress are told.

use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

use crate::failure::Failure;

/// Who reads failures and progress on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Forms {
    /// `--error-format=json`
    pub json_errors: bool,
    /// `--progress=json`
    pub json_progress: bool,
    /// The verb, which is what progress is about.
    pub verb: String,
}

/// The help for them.
pub const HELP: &str = "With every verb: --error-format=json tells a failure, and --progress=json (where \
                        there is -p) progress, as JSON, one object a line, on standard error.";

static FORMS: OnceLock<Forms> = OnceLock::new();

/// The forms that were asked for.
#[must_use]
pub fn forms() -> &'static Forms {
    FORMS.get_or_init(Forms::default)
}

/// Takes these flags out of a command line, for this process; what is left is the verb's.
///
/// # Errors
/// A form nobody knows.
pub fn take(arguments: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let (forms, rest) = split(arguments)?;
    let _ = FORMS.set(forms); // the first call counts
    Ok(rest)
}

fn split(arguments: &[OsString]) -> Result<(Forms, Vec<OsString>), Failure> {
    let mut forms = Forms::default();
    let mut rest = Vec::with_capacity(arguments.len());
    for (index, word) in arguments.iter().enumerate() {
        match word.to_str().and_then(|word| word.split_once('=')) {
            Some(("--error-format", form)) => forms.json_errors = is_json("--error-format", form)?,
            Some(("--progress", form)) => {
                forms.json_progress = is_json("--progress", form)?;
                rest.push("--progress".into());
            }
            _ => {
                if index == 1 {
                    forms.verb = word.to_string_lossy().into_owned();
                }
                rest.push(word.clone());
            }
        }
        if word == OsStr::new("--") {
            rest.extend_from_slice(&arguments[index + 1..]);
            break;
        }
    }
    Ok((forms, rest))
}

fn is_json(flag: &str, form: &str) -> Result<bool, Failure> {
    match form {
        "json" => Ok(true),
        "human" => Ok(false),
        _ => Err(Failure::new(format!("{flag} expects 'human' or 'json' not '{form}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn flags_are_taken_out_and_the_rest_stays() {
        let (forms, rest) =
            split(&words("qimg convert --progress=json --error-format=json a b")).unwrap();
        assert!(forms.json_errors && forms.json_progress);
        assert_eq!(forms.verb, "convert");
        assert_eq!(rest, words("qimg convert --progress a b"));
        let untouched = words("qimg convert -p -- --error-format=json b");
        assert_eq!(split(&untouched).unwrap().1, untouched);
        assert!(split(&words("qimg info --error-format=xml a")).is_err());
    }
}
