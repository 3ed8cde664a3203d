//! Offsets and lengths in `qimg-io` commands, and the words for wrong ones.

use crate::args::size::{self, SizeError};

/// Most bytes one request may have.
pub const REQUEST_MAX: u64 = 2_147_483_136;

/// Reads an offset or length.
///
/// # Errors
/// The message to print.
pub fn parse(text: &str) -> Result<u64, String> {
    size::parse(text).map_err(|error| match error {
        SizeError::Syntax => format!(
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}"
        ),
        SizeError::Range => format!("Parsing error: argument too large -- {text}"),
    })
}

/// Reads the length of one request. `exception` is put after the limit in the message.
///
/// # Errors
/// The message to print.
pub fn parse_length(text: &str, exception: &str) -> Result<u64, String> {
    match parse(text)? {
        length if length <= REQUEST_MAX => Ok(length),
        _ => Err(format!("length cannot exceed {REQUEST_MAX}{exception}, given {text}")),
    }
}

/// Reads the lengths of a vectored request and returns their sum.
///
/// # Errors
/// The message to print.
pub fn parse_lengths(texts: &[String]) -> Result<u64, String> {
    texts.iter().try_fold(0u64, |total, text| {
        let length = parse(text)?;
        if length > REQUEST_MAX {
            return Err(format!("Argument '{text}' exceeds maximum size {REQUEST_MAX}"));
        }
        let total = total + length; // both stay far below 2^63
        if total > REQUEST_MAX {
            return Err(format!("The total number of bytes exceed the maximum size {REQUEST_MAX}"));
        }
        Ok(total)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_wrong_numbers() {
        assert_eq!(parse("1k"), Ok(1024));
        assert_eq!(
            parse("foo").unwrap_err(),
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- foo"
        );
        assert_eq!(parse("-1").unwrap_err(), "Parsing error: argument too large -- -1");
        assert_eq!(
            parse_length("3G", "").unwrap_err(),
            "length cannot exceed 2147483136, given 3G"
        );
    }

    #[test]
    fn lengths_add_up() {
        assert_eq!(parse_lengths(&["512".into(), "1k".into()]), Ok(1536));
        assert_eq!(
            parse_lengths(&["1G".into(), "1G".into()]).unwrap_err(),
            "The total number of bytes exceed the maximum size 2147483136"
        );
    }
}
