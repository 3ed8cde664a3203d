//! Amounts of bytes for people: `64 MiB`, `196 KiB`, three significant digits.

const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Renders an amount as qemu-img does: the unit changes at 1000 of the smaller one, so that
/// three digits always suffice (`0.977 MiB` follows `999 KiB`).
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn human(bytes: u64) -> String {
    let mut unit = 0;
    let mut scale = 1u64;
    while unit + 1 < UNITS.len() && u128::from(bytes) >= 1000 * u128::from(scale) {
        scale <<= 10;
        unit += 1;
    }
    format!("{} {}B", three_digits(bytes as f64 / scale as f64), UNITS[unit])
}

/// Like C's `%0.3g` for values from 0 to 1000 (only 999.5 and above need the exponent).
fn three_digits(value: f64) -> String {
    let digits = match value {
        0.0 => return "0".into(),
        value if value < 0.9995 => 3,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        value if value < 999.5 => 0,
        _ => return "1e+03".into(),
    };
    let text = format!("{value:.digits$}");
    if digits == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_the_real_tool_renders() {
        let table = [
            (0, "0 B"),
            (512, "512 B"),
            (999, "999 B"),
            (1000, "0.977 KiB"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10240, "10 KiB"),
            (197_120, "192 KiB"),
            (200_704, "196 KiB"),
            (1_000_448, "977 KiB"),
            (1_023_488, "1e+03 KiB"),
            (1_024_000, "0.977 MiB"),
            (1_047_552, "0.999 MiB"),
            (1_048_064, "1 MiB"),
            (10_995_200, "10.5 MiB"),
            (107_374_592, "102 MiB"),
            (1_098_437_885_952, "0.999 TiB"),
            (5_000_000_000_000, "4.55 TiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }
}
