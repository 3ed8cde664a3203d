//! Options of an image that say how it is worked with while it is open: caches, discards, checks.

use qimg::format::Header;

use super::image::switch;
use super::size::{self, SizeError};

/// Smallest piece of an L2 table that a cache may hold, in bytes.
const L2_ENTRY_BYTES_MIN: u64 = 512;
/// Refcount cache of a budget for both, in bytes: four clusters of the usual size.
const REFCOUNT_CACHE_BYTES: u64 = 4 << 16;
/// Most pieces a cache may have.
const CACHE_ENTRIES_MAX: u64 = i32::MAX as u64;
/// Longest time after which unused cache memory is given back, in seconds.
const CLEAN_INTERVAL_MAX: u64 = u32::MAX as u64;

/// Values of `overlap-check`. Every write is compared with every structure here, whatever it says.
const OVERLAP_CHECKS: [&str; 4] = ["none", "constant", "cached", "all"];
/// Structures that `overlap-check.NAME` names.
const STRUCTURES: [&str; 9] = [
    "main-header",
    "active-l1",
    "active-l2",
    "refcount-table",
    "refcount-block",
    "snapshot-table",
    "inactive-l1",
    "inactive-l2",
    "bitmap-directory",
];

/// What becomes of writes that hold nothing but zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DetectZeroes {
    /// They are written.
    #[default]
    Off,
    /// The image notes zeros and keeps the space.
    On,
    /// The image notes zeros and gives the space back.
    Unmap,
}

/// Options of an open image.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Runtime {
    /// `discard`: whether discards are obeyed, if it was said.
    pub discard: Option<bool>,
    /// `detect-zeroes`
    pub detect_zeroes: DetectZeroes,
    /// `cache.no-flush`: whether flushes are ignored.
    pub no_flush: bool,
    cache_bytes: Option<u64>,
    l2_cache_bytes: Option<u64>,
    refcount_cache_bytes: Option<u64>,
    l2_entry_bytes: Option<u64>,
    overlap_check: Option<String>,
    overlap_template: Option<String>,
}

impl Runtime {
    /// Takes an option if it is one of these; tells whether it was.
    ///
    /// # Errors
    /// It is one of these, and the value is none of its values.
    pub(super) fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "cache-size" => self.cache_bytes = Some(bytes(key, value)?),
            "l2-cache-size" => self.l2_cache_bytes = Some(bytes(key, value)?),
            "refcount-cache-size" => self.refcount_cache_bytes = Some(bytes(key, value)?),
            "l2-cache-entry-size" => self.l2_entry_bytes = Some(bytes(key, value)?),
            "cache-clean-interval" => check_interval(key, value)?,
            "overlap-check" => self.overlap_check = Some(value.into()),
            "overlap-check.template" => self.overlap_template = Some(value.into()),
            "discard" => self.discard = Some(discards(value)?),
            "detect-zeroes" => self.detect_zeroes = detects(value)?,
            "cache.no-flush" => self.no_flush = switch(key, value)?,
            "discard-no-unref" if switch(key, value)? => {
                return Err(
                    "discard-no-unref=on is not offered: discards give clusters back".into()
                );
            }
            "discard-no-unref"
            | "pass-discard-request"
            | "pass-discard-snapshot"
            | "pass-discard-other" => {
                switch(key, value)?;
            }
            _ => return take_structure(key, value),
        }
        Ok(true)
    }

    /// What is wrong with the options whatever the image is.
    pub(super) fn check(&self) -> Result<(), String> {
        let exceeds = |part: Option<u64>| part.is_some_and(|part| Some(part) > self.cache_bytes);
        match (self.cache_bytes, self.l2_cache_bytes, self.refcount_cache_bytes) {
            (Some(_), Some(_), Some(_)) => {
                return Err(
                    "cache-size, l2-cache-size and refcount-cache-size may not be set at the \
                            same time"
                        .into(),
                );
            }
            (Some(_), l2, _) if exceeds(l2) => {
                return Err("l2-cache-size may not exceed cache-size".into());
            }
            (Some(_), _, refcount) if exceeds(refcount) => {
                return Err("refcount-cache-size may not exceed cache-size".into());
            }
            _ => {}
        }
        if let (Some(all), Some(template)) = (&self.overlap_check, &self.overlap_template)
            && all != template
        {
            return Err(format!(
                "Conflicting values for qcow2 options 'overlap-check' ('{all}') and \
                 'overlap-check.template' ('{template}')"
            ));
        }
        let asked = self.overlap_check.as_deref().or(self.overlap_template.as_deref());
        match asked.filter(|value| !OVERLAP_CHECKS.contains(value)) {
            None => Ok(()),
            Some(value) => Err(format!(
                "Unsupported value '{value}' for qcow2 option 'overlap-check'. Allowed are any of \
                 the following: none, constant, cached, all"
            )),
        }
    }

    /// What is wrong with the options for this image.
    ///
    /// # Errors
    /// A cache cannot be cut into pieces that way, or has too many of them.
    pub fn check_image(&self, header: &Header) -> Result<(), String> {
        let cluster = header.geometry().cluster_bytes();
        let entry = self.l2_entry_bytes.unwrap_or_else(|| cluster.min(4096));
        if !entry.is_power_of_two() || !(L2_ENTRY_BYTES_MIN..=cluster).contains(&entry) {
            return Err(format!(
                "L2 cache entry size must be a power of two between {L2_ENTRY_BYTES_MIN} and the \
                 cluster size ({cluster})"
            ));
        }
        // A cache is never larger than all tables are.
        let tables = header.virtual_size().div_ceil(cluster).saturating_mul(8);
        let l2 = self.l2_cache_bytes().unwrap_or_default().min(tables);
        if l2 / entry > CACHE_ENTRIES_MAX {
            return Err("L2 cache size too big".into());
        }
        if self.refcount_cache_bytes().unwrap_or_default() / cluster > CACHE_ENTRIES_MAX {
            return Err("Refcount cache size too big".into());
        }
        Ok(())
    }

    /// Memory for L2 tables in bytes, if it was said.
    #[must_use]
    pub fn l2_cache_bytes(&self) -> Option<u64> {
        self.l2_cache_bytes.or_else(|| {
            let rest = self.refcount_cache_bytes.unwrap_or(REFCOUNT_CACHE_BYTES);
            Some(self.cache_bytes?.saturating_sub(rest))
        })
    }

    /// Memory for refcount blocks in bytes, if it was said.
    #[must_use]
    pub fn refcount_cache_bytes(&self) -> Option<u64> {
        self.refcount_cache_bytes.or_else(|| match (self.cache_bytes?, self.l2_cache_bytes) {
            (all, Some(l2)) => Some(all.saturating_sub(l2)),
            (all, None) => Some(all.min(REFCOUNT_CACHE_BYTES)),
        })
    }
}

/// `overlap-check.main-header` and its kind.
fn take_structure(key: &str, value: &str) -> Result<bool, String> {
    let structure = key.strip_prefix("overlap-check.");
    if structure.is_none_or(|name| !STRUCTURES.contains(&name)) {
        return Ok(false);
    }
    switch(key, value).map(|_| true)
}

fn check_interval(key: &str, value: &str) -> Result<(), String> {
    match value.parse::<i128>() {
        Err(_) => Err(format!("Parameter '{key}' expects a number")),
        Ok(seconds) if (0..=i128::from(CLEAN_INTERVAL_MAX)).contains(&seconds) => Ok(()),
        Ok(_) => Err("Cache clean interval too big".into()),
    }
}

fn discards(value: &str) -> Result<bool, String> {
    match value {
        "unmap" | "on" => Ok(true),
        "ignore" | "off" => Ok(false),
        _ => Err("Invalid discard option".into()),
    }
}

fn detects(value: &str) -> Result<DetectZeroes, String> {
    match value {
        "off" => Ok(DetectZeroes::Off),
        "on" => Ok(DetectZeroes::On),
        "unmap" => Ok(DetectZeroes::Unmap),
        _ => Err(format!("invalid parameter value: {value}")),
    }
}

fn bytes(key: &str, value: &str) -> Result<u64, String> {
    size::parse_u64(value).map_err(|error| match error {
        SizeError::Range => format!("Value '{value}' is out of range for parameter '{key}'"),
        SizeError::Syntax => format!(
            "Parameter '{key}' expects a non-negative number below 2^64, with an optional suffix k, \
             M, G, T, P or E"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pairs: &[(&str, &str)]) -> Result<Runtime, String> {
        let mut runtime = Runtime::default();
        for (key, value) in pairs {
            assert!(runtime.take(key, value)?, "{key}");
        }
        runtime.check()?;
        Ok(runtime)
    }

    #[test]
    fn a_budget_for_both_caches_is_divided() {
        let both = taken(&[("cache-size", "2M")]).unwrap();
        assert_eq!(both.l2_cache_bytes(), Some((2 << 20) - (256 << 10)));
        assert_eq!(both.refcount_cache_bytes(), Some(256 << 10));
        let one = taken(&[("cache-size", "2M"), ("l2-cache-size", "1.5M")]).unwrap();
        assert_eq!(one.l2_cache_bytes(), Some(3 << 19));
        assert_eq!(one.refcount_cache_bytes(), Some(1 << 19));
        assert_eq!(taken(&[]).unwrap().l2_cache_bytes(), None);
        assert_eq!(taken(&[("cache-size", "0")]).unwrap().l2_cache_bytes(), Some(0));
    }

    #[test]
    fn harmless_options_are_taken() {
        let pairs = [
            ("overlap-check", "all"),
            ("overlap-check.active-l2", "off"),
            ("pass-discard-request", "on"),
            ("discard-no-unref", "off"),
            ("cache-clean-interval", "600"),
        ];
        assert_eq!(taken(&pairs).unwrap().detect_zeroes, DetectZeroes::Off);
        assert_eq!(Runtime::default().take("overlap-check.l3", "on"), Ok(false));
    }

    #[test]
    fn wrong_values_get_the_known_words() {
        for (pairs, words) in [
            (&[("cache-size", "1M"), ("l2-cache-size", "2M")][..], "l2-cache-size may not exceed"),
            (&[("overlap-check", "blubb")], "Unsupported value 'blubb' for qcow2 option"),
            (&[("cache-clean-interval", "-1")], "Cache clean interval too big"),
            (&[("discard", "x")], "Invalid discard option"),
            (&[("detect-zeroes", "x")], "invalid parameter value: x"),
            (&[("discard-no-unref", "on")], "discard-no-unref=on is not offered"),
            (
                &[("l2-cache-size", "much")],
                "Parameter 'l2-cache-size' expects a non-negative number",
            ),
            (&[("overlap-check.active-l1", "x")], "Parameter 'overlap-check.active-l1' expects"),
        ] {
            let message = taken(pairs).unwrap_err();
            assert!(message.starts_with(words), "{message}");
        }
    }
}
