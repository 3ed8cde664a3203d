//! Cache modes of images, as `-t` and `-T` name them.

use crate::failure::Failure;

/// What to say of a wrong `-t`.
pub(crate) const CACHE_WORDS: &str = "Invalid cache option";
/// What to say of a wrong `-T`.
pub(crate) const SOURCE_CACHE_WORDS: &str = "Invalid source cache option";

/// How the host's page cache is used, and what a flush means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Page cache; durable at flushes.
    #[default]
    Writeback,
    /// Page cache; every write is followed by a flush.
    Writethrough,
    /// No page cache (`O_DIRECT`); durable at flushes.
    None,
    /// No page cache; every write is followed by a flush.
    Directsync,
    /// Page cache; flushes are ignored.
    Unsafe,
}

impl CacheMode {
    /// Reads the name of a mode.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "writeback" => Self::Writeback,
            "writethrough" => Self::Writethrough,
            "none" | "off" => Self::None,
            "directsync" => Self::Directsync,
            "unsafe" => Self::Unsafe,
            _ => return None,
        })
    }

    /// Whether the page cache is bypassed.
    #[must_use]
    pub fn direct(self) -> bool {
        matches!(self, Self::None | Self::Directsync)
    }

    /// Whether every write is followed by a flush.
    #[must_use]
    pub fn flush_each_write(self) -> bool {
        matches!(self, Self::Writethrough | Self::Directsync)
    }

    /// Whether flushes are ignored.
    #[must_use]
    pub fn ignores_flushes(self) -> bool {
        self == Self::Unsafe
    }
}

/// The mode that a flag names; `None` without the flag.
///
/// # Errors
/// There is no such mode: `words`, and the name.
pub(crate) fn cache_flag(name: Option<&str>, words: &str) -> Result<Option<CacheMode>, Failure> {
    let parse =
        |name| CacheMode::parse(name).ok_or_else(|| Failure::new(format!("{words}: {name}")));
    name.map(parse).transpose()
}
