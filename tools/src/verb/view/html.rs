//! A chain as one page of HTML: nothing is loaded from anywhere, the same chain gives the same page.

mod layer;
mod map;

use std::fmt::Write;

use qimg::view::View;

use super::escape::html;
use super::facts;
use crate::failure::Failure;
use crate::report::bytes::human;

/// Cells of a row of the map.
pub(super) const COLUMNS: u64 = 64;
/// Most rows of the map.
pub(super) const ROWS: u64 = 32;

/// How every page starts, and no image does.
pub(super) const START: &str = "<!doctype html>\n<html lang=\"en\" data-made-by=\"qimg view\">\n";

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");
/// SHA-256 of the script: whatever else would be a script on the page does not run.
const SCRIPT_HASH: &str = "sha256-5fu6P6hLUuOjZwo7CpwUOnoD/l7M5B31sFt2sqWqxsA=";

/// Layers whose colours are easy to tell apart; deeper ones get theirs by a walk round the circle.
const HUES: [u32; 8] = [255, 60, 160, 305, 20, 100, 215, 350];

/// The hue of a layer, in degrees.
fn hue(depth: usize) -> u32 {
    // 137 degrees is the golden angle: neighbours are far apart however many there are.
    HUES.get(depth).copied().unwrap_or_else(|| (depth as u32 % 360 * 137 + 90) % 360)
}

/// The page.
pub(super) fn page(view: &View) -> Result<String, Failure> {
    let names = facts::names(view);
    let top = html(names.first().map(String::as_str).unwrap_or_default());
    let mut page = String::from(START);
    let _ = write!(
        page,
        "<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{top}: a chain of images</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
    );
    page.push_str(&heading(view, &top));
    page.push_str(&map::card(view, &names));
    page.push_str("<h2 class=\"part\">Layers, the one a guest sees first on top</h2>\n");
    for (depth, (seen, name)) in view.layers.iter().zip(&names).enumerate() {
        page.push_str(&layer::card(depth, seen, name));
    }
    let _ = write!(
        page,
        "</main>\n<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        map::data(view, &names)?
    );
    Ok(page)
}

fn heading(view: &View, top: &str) -> String {
    let layers = view.layers.len();
    let on_host = view.layers.iter().map(|layer| layer.info.disk_size);
    let hidden = view.layers.iter().map(|layer| layer.hidden);
    let tiles = [
        ("disk", human(view.virtual_size)),
        ("layers", layers.to_string()),
        ("data", human(view.virtual_size - view.map.zero.min(view.virtual_size))),
        ("reads as zeros", human(view.map.zero)),
        ("on the host", human(on_host.fold(0, u64::saturating_add))),
        ("hidden below others", human(hidden.fold(0, u64::saturating_add))),
    ];
    let mut text = format!("<header>\n<h1>{top}</h1>\n<dl class=\"tiles\">\n");
    for (what, how) in tiles {
        let _ = writeln!(text, "<div><dt>{what}</dt><dd>{how}</dd></div>");
    }
    text.push_str("</dl>\n</header>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_a_hue_and_neighbours_differ() {
        for depth in 0..2000 {
            assert!(hue(depth) < 360);
            assert_ne!(hue(depth), hue(depth + 1), "{depth}");
        }
    }

    #[test]
    fn the_style_and_the_script_stay_where_they_are() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</"));
        for word in ["http", "url(", "@import", "fetch", "innerHTML", "eval"] {
            assert!(!STYLE.contains(word) && !SCRIPT.contains(word), "{word}");
        }
    }

    /// The browser refuses the script otherwise; `openssl` and `sha256sum` both can tell.
    #[test]
    fn the_policy_of_the_page_knows_its_script() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut child =
            Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(SCRIPT.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap().stdout;
        let digits = String::from_utf8(said).unwrap();
        let bytes: Vec<u8> = (0..32)
            .map(|index| u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).unwrap())
            .collect();
        assert_eq!(SCRIPT_HASH, format!("sha256-{}", base64(&bytes)));
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0_usize, |word, &byte| word << 8 | usize::from(byte));
            let word = word << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                match digit <= chunk.len() {
                    true => text.push(char::from(DIGITS[word >> (18 - 6 * digit) & 63])),
                    false => text.push('='),
                }
            }
        }
        text
    }
}
