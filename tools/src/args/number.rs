//! Numbers with a smallest and a largest value, and the words for wrong ones.

use super::size::{self, SizeError};
use crate::failure::Failure;

/// Most of anything that is counted by a C `int`.
pub const COUNT_MAX: u64 = i32::MAX as u64;

/// Reads a number between `min` and `max`; `what` names it in messages.
///
/// # Errors
/// Text that is no number, or one out of range.
pub fn in_range(text: &str, what: &str, min: u64, max: u64) -> Result<u64, Failure> {
    match size::parse(text) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Err(SizeError::Syntax) => Err(Failure::new(format!("Invalid {what} specified: '{text}'."))),
        _ => {
            Err(Failure::new(format!("Invalid {what} specified. Must be between {min} and {max}.")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_their_ends() {
        let read = |text| in_range(text, "bs", 1, COUNT_MAX).map_err(|error| error.to_string());
        assert_eq!(read("1"), Ok(1));
        assert_eq!(read("2147483647"), Ok(COUNT_MAX));
        let words = "Invalid bs specified. Must be between 1 and 2147483647.";
        for wrong in ["0", "2G", "-1", "9E"] {
            assert_eq!(read(wrong), Err(words.into()));
        }
        assert_eq!(read("foo"), Err("Invalid bs specified: 'foo'.".into()));
    }
}
