//! The statistics `qimg-io` prints after each request, in the shapes of qemu-io.

use std::time::Duration;

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `read`, `wrote` or `discard`.
    pub verb: &'a str,
    /// Guest offset in bytes.
    pub offset: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Requests sent for them.
    pub operations: u32,
    /// Time it took.
    pub elapsed: Duration,
    /// `-C`: one line of comma-separated values.
    pub terse: bool,
}

impl Request<'_> {
    /// Renders the request, with the final newline.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "rates are shown with few digits")]
    pub fn render(&self) -> String {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        let byte_rate = self.bytes as f64 / seconds;
        let rate = f64::from(self.operations) / seconds;
        let Self { verb, offset, bytes, operations, elapsed, .. } = *self;
        if self.terse {
            return format!("{bytes},{operations},{},{byte_rate:.3},{rate:.3}\n", clock(elapsed));
        }
        format!(
            "{verb} {bytes}/{bytes} bytes at offset {offset}\n\
             {}, {operations} ops; {} ({}/sec and {rate:.4} ops/sec)\n",
            amount(bytes as f64),
            time(elapsed),
            amount(byte_rate),
        )
    }
}

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// An amount of bytes as qemu-io prints it: `64 KiB`, `1.500 KiB`, `100 bytes`.
#[must_use]
pub fn amount(bytes: f64) -> String {
    if bytes < 1024.0 {
        return format!("{} bytes", without_zero_fraction(format!("{bytes:.6}")));
    }
    let mut value = bytes / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", without_zero_fraction(format!("{value:.3}")), UNITS[unit])
}

/// [`amount`] of a whole number of bytes.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three decimals are shown")]
pub fn size(bytes: u64) -> String {
    amount(bytes as f64)
}

fn without_zero_fraction(number: String) -> String {
    match number.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole.into(),
        _ => number,
    }
}

/// Below a second `00.01 sec`, from then on like [`clock`].
fn time(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0 => format!("00.{:02} sec", elapsed.subsec_millis() / 10),
        _ => clock(elapsed),
    }
}

/// `h:mm:ss.hundredths`.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let hundredths = elapsed.subsec_millis() / 10;
    format!("{}:{:02}:{:02}.{hundredths:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: u64, elapsed: Duration, terse: bool) -> String {
        Request { verb: "wrote", offset: 65536, bytes, operations: 1, elapsed, terse }.render()
    }

    #[test]
    fn amounts_have_three_decimals_unless_whole() {
        let table = [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (1025, "1.001 KiB"),
            (1536, "1.500 KiB"),
            (65536, "64 KiB"),
            (99_999, "97.655 KiB"),
            (1_048_575, "1023.999 KiB"),
            (1 << 20, "1 MiB"),
            (1_729_382_256_910_270_464, "1.500 EiB"),
            (9_222_246_136_947_933_184, "7.999 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(amount(269.195_252), "269.195252 bytes");
    }

    #[test]
    fn short_and_long_requests() {
        let quick = request(65536, Duration::from_millis(10), false);
        assert_eq!(
            quick,
            "wrote 65536/65536 bytes at offset 65536\n\
             64 KiB, 1 ops; 00.01 sec (6.250 MiB/sec and 100.0000 ops/sec)\n"
        );
        let slow = request(512, Duration::from_millis(66_970), false);
        assert!(slow.contains("; 0:01:06.97 (7.645214 bytes/sec and 0.0149 ops/sec)"), "{slow}");
    }

    #[test]
    fn terse_form() {
        let text = request(1024, Duration::from_millis(500), true);
        assert_eq!(text, "1024,1,0:00:00.50,2048.000,2.000\n");
    }
}
