//! Names from images and file systems, harmless on a page and in a terminal.

/// Text for HTML, between tags and in quoted attributes.
pub(super) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in plain(text).chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '`' => safe.push_str("&#96;"),
            _ => safe.push(char),
        }
    }
    safe
}

/// Text without characters that move a cursor or turn the direction of writing: those are spelled out.
pub(super) fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() || is_directional(char) {
            true => safe.extend(char.escape_unicode()),
            false => safe.push(char),
        }
    }
    safe
}

const fn is_directional(char: char) -> bool {
    matches!(char,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// JSON for a `script` element: nothing in it can end the element.
pub(super) fn script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        let name = "</script><script>alert(\"1\")</script>&'`";
        let safe = html(name);
        assert!(!safe.contains(['<', '>', '"', '\'', '`']), "{safe}");
        assert_eq!(html("a&b"), "a&amp;b");
        assert_eq!(script("\"</script>&\""), "\"\\u003c/script\\u003e\\u0026\"");
    }

    #[test]
    fn nothing_moves_the_cursor_or_turns_the_line() {
        assert_eq!(plain("a\u{1b}[2Jb\n\u{202e}c\u{e9}"), "a\\u{1b}[2Jb\\u{a}\\u{202e}c\u{e9}");
    }
}
