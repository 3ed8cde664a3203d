//! Flags that every verb has: in which form failures and progress are told, and what may be opened
//! because an image says so.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::OnceLock;

use qimg::chain::Policy;

use crate::failure::Failure;

/// What every verb is told: who reads failures and progress on standard error, and which files may be
/// opened.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Forms {
    /// `--error-format=json`
    pub json_errors: bool,
    /// `--progress=json`
    pub json_progress: bool,
    /// The verb, which is what progress is about.
    pub verb: String,
    /// `--allow-dir`: backing and data files only below these folders, if there are any.
    pub allow_dirs: Vec<PathBuf>,
    /// `--depth-max`: most layers of a chain.
    pub depth_max: Option<usize>,
}

/// The policy under which chains are opened, as far as these flags say it.
#[must_use]
pub fn policy() -> Policy {
    let Forms { allow_dirs, depth_max, .. } = forms();
    let policy = depth_max.map_or(Policy::new(), |layers| Policy::new().depth_max(layers));
    allow_dirs.iter().fold(policy, |policy, folder| policy.allow_directory(folder.clone()))
}

/// The help for them.
pub const HELP: &str = "With every verb: --error-format=json tells a failure, and --progress=json (where \
                        there is -p) progress, as JSON, one object a line, on standard error. \
                        --allow-dir=FOLDER (again for more) opens backing and data files only below that \
                        folder, --depth-max=LAYERS chains of at most so many layers.";

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

/// Of these flags, those whose value may stand behind a space, as it may with flags of the verbs.
const WITH_VALUE: [&str; 3] = ["--error-format", "--allow-dir", "--depth-max"];

fn split(arguments: &[OsString]) -> Result<(Forms, Vec<OsString>), Failure> {
    let mut forms = Forms::default();
    let mut rest = Vec::with_capacity(arguments.len());
    let mut words = arguments.iter().enumerate();
    while let Some((index, word)) = words.next() {
        if word == OsStr::new("--") {
            rest.extend_from_slice(&arguments[index..]);
            break;
        }
        if let Some(flag) = WITH_VALUE.into_iter().find(|flag| word == OsStr::new(flag)) {
            let needs = || Failure::new(format!("option '{flag}' requires an argument"));
            let (_, value) = words.next().ok_or_else(needs)?;
            forms.set(flag, value)?;
            continue;
        }
        match word.to_str().and_then(|word| word.split_once('=')) {
            Some((flag, value)) if WITH_VALUE.contains(&flag) => forms.set(flag, value.as_ref())?,
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
    }
    Ok((forms, rest))
}

impl Forms {
    fn set(&mut self, flag: &str, value: &OsStr) -> Result<(), Failure> {
        match flag {
            "--allow-dir" => self.allow_dirs.push(value.into()),
            "--depth-max" => self.depth_max = Some(number(flag, &value.to_string_lossy())?),
            _ => self.json_errors = is_json(flag, &value.to_string_lossy())?,
        }
        Ok(())
    }
}

fn number(flag: &str, text: &str) -> Result<usize, Failure> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Failure::new(format!("{flag} expects a number above 0 not '{text}'")))
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
        let (forms, rest) =
            split(&words("qimg map --allow-dir=a --depth-max=3 --allow-dir=b x")).unwrap();
        assert_eq!((forms.allow_dirs, forms.depth_max), (vec!["a".into(), "b".into()], Some(3)));
        assert_eq!(rest, words("qimg map x"));
        assert!(split(&words("qimg map --depth-max=0 x")).is_err());
        let (forms, rest) = split(&words("qimg map --allow-dir a --depth-max 3 x")).unwrap();
        assert_eq!((forms.allow_dirs, forms.depth_max), (vec!["a".into()], Some(3)));
        assert_eq!(rest, words("qimg map x"));
        assert!(split(&words("qimg map x --allow-dir")).is_err());
    }
}
