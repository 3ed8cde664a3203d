//! The byte a `-P` flag names.

/// Reads a byte value: decimal, `0x` hexadecimal, or octal after a leading `0`.
///
/// # Errors
/// The message to print.
pub fn parse(text: &str) -> Result<u8, String> {
    let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16),
        None if text.len() > 1 && text.starts_with('0') => u8::from_str_radix(&text[1..], 8),
        None => text.parse(),
    };
    value.map_err(|_| format!("{text} is not a valid pattern byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_notations() {
        assert_eq!(parse("0xab"), Ok(0xab));
        assert_eq!(parse("010"), Ok(8));
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("255"), Ok(255));
        for bad in ["256", "0x1ff", "-1", "foo", "", "09"] {
            assert_eq!(parse(bad), Err(format!("{bad} is not a valid pattern byte")));
        }
    }
}
