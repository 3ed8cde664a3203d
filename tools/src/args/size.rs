//! Sizes and offsets as QEMU's tools read them: `64k`, `1.5G`, `0x200`, `512b`.

/// Why a text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Not a number, or something follows it that is no suffix.
    Syntax,
    /// A number, but below 0 or above the largest one allowed.
    Range,
}

/// Largest file offset, and so the largest size any verb accepts.
pub const MAX: u64 = i64::MAX as u64;

/// Reads a size of at most 2^63 - 1 bytes.
///
/// # Errors
/// Text that is no size, or a size out of range.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    match parse_u64(text)? {
        size if size <= MAX => Ok(size),
        _ => Err(SizeError::Range),
    }
}

/// Reads a size of at most 2^64 - 1 bytes, which is what `-o` options of type size allow.
///
/// Leading blanks and `+` are allowed, fractions only with a unit (`1.5k`), hexadecimal only
/// without unit and fraction. A fraction of a byte is rounded to the nearest byte.
///
/// # Errors
/// Text that is no size, or a size out of range.
pub fn parse_u64(text: &str) -> Result<u64, SizeError> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    if let Some(magnitude) = text.strip_prefix('-') {
        return Err(refuse_negative(magnitude));
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => hexadecimal(digits),
        None => decimal(text),
    }
}

/// `-5` is a number out of range, `-x` is no number.
fn refuse_negative(magnitude: &str) -> SizeError {
    let digits = magnitude.strip_prefix('.').unwrap_or(magnitude);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        SizeError::Range
    } else {
        SizeError::Syntax
    }
}

fn hexadecimal(digits: &str) -> Result<u64, SizeError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SizeError::Syntax);
    }
    u64::from_str_radix(digits, 16).map_err(|_| SizeError::Range)
}

fn decimal(text: &str) -> Result<u64, SizeError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after_point) => split_digits(after_point),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(SizeError::Syntax);
    }
    let unit = unit(rest).ok_or(SizeError::Syntax)?;
    let part = fraction_of(unit, fraction)?;
    let whole = if whole.is_empty() { 0 } else { digits_value(whole)? };
    whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(part)).ok_or(SizeError::Range)
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn digits_value(digits: &str) -> Result<u64, SizeError> {
    digits.parse().map_err(|_| SizeError::Range)
}

fn unit(suffix: &str) -> Option<u64> {
    Some(match suffix {
        "" | "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        "p" | "P" => 1 << 50,
        "e" | "E" => 1 << 60,
        _ => return None,
    })
}

/// `fraction` is the digits after the point.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the product lies between 0 and 2^60"
)]
fn fraction_of(unit: u64, fraction: &str) -> Result<u64, SizeError> {
    if fraction.bytes().all(|digit| digit == b'0') {
        return Ok(0);
    }
    if unit == 1 {
        return Err(SizeError::Syntax); // half a byte
    }
    let part: f64 = format!("0.{fraction}").parse().map_err(|_| SizeError::Syntax)?;
    Ok((part * unit as f64 + 0.5) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SizeError::{Range, Syntax};

    #[test]
    fn accepts_what_the_real_tool_accepts() {
        let table = [
            (" 1", 1),
            ("\t1", 1),
            ("+1", 1),
            ("1.", 1),
            (".5k", 512),
            ("1E", 1 << 60),
            ("1e", 1 << 60),
            ("1B", 1),
            ("1.000", 1),
            ("1.00b", 1),
            ("0.1k", 102),
            ("1.1k", 1126),
            ("1.7k", 1741),
            ("1.9999999k", 2048),
            ("0.0000001k", 0),
            ("0.0005k", 1),
            ("1.0015k", 1026),
            ("2.k", 2048),
            ("1.5E", 1_729_382_256_910_270_464),
            ("0x1b", 27),
            ("0X10", 16),
            ("010", 10),
            ("0x7fffffffffffffff", MAX),
            ("9223372036854775807", MAX),
        ];
        for (text, bytes) in table {
            assert_eq!(parse(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_the_real_tool_refuses() {
        let syntax = [
            "", "1 ", ".", "0x", "0x1k", "0x1.8", "1e3", "1kk", "1KB", "1.5", "1.5b", "0.4", "-1k",
            "1_000", "inf", "nan", "1 k", "--1", "-", "+", "+-1", "k", ".k", "-0x1", "-0.5", "0b1",
        ];
        for text in syntax {
            assert_eq!(parse(text), Err(Syntax), "{text:?}");
        }
        let range = [
            "-0",
            "-1",
            "-.5",
            "8E",
            "16E",
            "9223372036854775808",
            "7.999999999999999999E",
            "99999999999999999999999999",
            "0x8000000000000000",
            "0x10000000000000000",
            "8192P",
        ];
        for text in range {
            assert_eq!(parse(text), Err(Range), "{text:?}");
        }
    }

    #[test]
    fn options_reach_to_the_full_width() {
        assert_eq!(parse_u64("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_u64("8E"), Ok(1 << 63));
        assert_eq!(parse_u64("16E"), Err(Range));
    }
}
