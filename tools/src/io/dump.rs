//! Hexadecimal dumps of what was read.

use std::fmt::Write;

const WIDTH: usize = 16;

/// Renders `bytes`, read at `offset`, sixteen to a line.
#[must_use]
pub fn render(offset: u64, bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / WIDTH * 77 + 77);
    let mut at = offset;
    for line in bytes.chunks(WIDTH) {
        render_line(&mut text, at, line);
        at = at.saturating_add(WIDTH as u64);
    }
    text
}

fn render_line(text: &mut String, at: u64, line: &[u8]) {
    let _ = write!(text, "{at:08x}:  "); // writing to a String cannot fail
    for byte in line {
        let _ = write!(text, "{byte:02x} ");
    }
    text.push(' ');
    text.extend(line.iter().map(|&byte| shown(byte)));
    text.push('\n');
}

fn shown(byte: u8) -> char {
    if byte.is_ascii_alphanumeric() { char::from(byte) } else { '.' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_digits_are_shown_and_short_lines_are_not_padded() {
        let text = render(0x10020, b"09@AZ[`az{\x7f\xff 1234ab");
        assert_eq!(
            text,
            "00010020:  30 39 40 41 5a 5b 60 61 7a 7b 7f ff 20 31 32 33  09.AZ..az....123\n\
             00010030:  34 61 62  4ab\n"
        );
    }
}
