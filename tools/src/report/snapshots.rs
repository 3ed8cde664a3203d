//! The table of internal snapshots.

use std::fmt::Write;

use qimg::info::SnapshotInfo;

use super::bytes;

const SECOND: u64 = 1_000_000_000;

/// Renders the snapshots with a heading. Times are UTC.
#[must_use]
pub fn table(snapshots: &[SnapshotInfo]) -> String {
    let mut text = line(["ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"]);
    for snapshot in snapshots {
        let instructions =
            snapshot.instructions.map_or_else(|| "--".to_owned(), |count| count.to_string());
        text.push_str(&line([
            &snapshot.id,
            &snapshot.name,
            &bytes::human(snapshot.vm_state_bytes),
            &date(snapshot.seconds.into()),
            &clock(snapshot.guest_clock_nanoseconds),
            &instructions,
        ]));
    }
    text
}

fn line([id, tag, size, date, clock, instructions]: [&str; 6]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{id:<7} {tag:<16} {size:>8} {date:>19} {clock:>15} {instructions:>10}");
    text
}

/// Time the guest had run: `hhhh:mm:ss.mmm`.
fn clock(nanoseconds: u64) -> String {
    let (seconds, rest) = (nanoseconds / SECOND, nanoseconds % SECOND);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:04}:{minutes:02}:{:02}.{:03}", seconds % 60, rest / 1_000_000)
}

/// `YYYY-MM-DD hh:mm:ss` of seconds since 1970.
fn date(seconds: u64) -> String {
    let (days, time) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}")
}

/// The date `days` days after 1970-01-01, counted in 400-year eras that start in March, so
/// that the leap day is the last day of a year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(1_795_396_176), "2026-11-23 01:09:36");
        assert_eq!(date(u32::MAX.into()), "2106-02-07 06:28:15");
    }

    #[test]
    fn columns() {
        let snapshot = SnapshotInfo {
            id: "1".into(),
            name: "snap1".into(),
            vm_state_bytes: 0,
            seconds: 1_795_396_176,
            nanoseconds: 0,
            guest_clock_nanoseconds: 3_723_004_000_000,
            instructions: Some(0),
        };
        assert_eq!(
            table(&[snapshot]),
            "ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT\n\
             1       snap1                 0 B 2026-11-23 01:09:36  0001:02:03.004          0\n"
        );
    }
}
