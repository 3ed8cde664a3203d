//! `--output=human|json`.

use crate::failure::Failure;

/// Who reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Output {
    /// A person.
    #[default]
    Human,
    /// A program.
    Json,
}

impl Output {
    /// Reads the value of `--output` of a verb.
    ///
    /// # Errors
    /// It is neither `human` nor `json`.
    pub fn parse(verb: &str, value: Option<&str>) -> Result<Self, Failure> {
        match value {
            None | Some("human") => Ok(Self::Human),
            Some("json") => Ok(Self::Json),
            Some(other) => Err(Failure::usage(
                "qimg",
                verb,
                &format!("--output expects 'human' or 'json' not '{other}'"),
            )),
        }
    }
}
