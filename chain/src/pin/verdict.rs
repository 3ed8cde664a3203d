//! Whether a backing file is still the one that the overlay was made on.

use core::fmt;
use std::path::{Path, PathBuf};

use block_io::Storage;
use cow_engine::BasePin;
use qcow2_format::Header;

use super::{inode, pin_of, pinned};
use crate::format::Format;

/// Whether a backing file is still the one that the overlay was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BaseVerdict {
    /// The same file, not modified since.
    Same,
    /// Another file with the same content, as far as the mark tells.
    Copied,
    /// The same file with another time of modification. The mark is the same, so a change can only be
    /// small; it may have been none.
    Touched,
    /// The same file with other content.
    Modified,
    /// Another file with other content.
    Replaced,
    /// The overlay remembers nothing, or has no backing file.
    NotRecorded,
    /// The overlay remembers another backing file than its header names: the name was changed by
    /// a program that does not know of the record.
    StaleRecord,
}

impl BaseVerdict {
    /// Whether nothing is known against the file: it is the same, a copy of it, or nobody has recorded
    /// what it was.
    #[must_use]
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::Same | Self::Copied | Self::NotRecorded)
    }

    /// Whether the overlay certainly shows wrong bytes where the file has changed.
    #[must_use]
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Modified | Self::Replaced)
    }
}

impl fmt::Display for BaseVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "is the file that the overlay was made on",
            Self::Copied => "is a copy of the file that the overlay was made on",
            Self::Touched => "may have been modified since the overlay was made",
            Self::Modified => "was modified since the overlay was made",
            Self::Replaced => "was replaced since the overlay was made",
            Self::NotRecorded => "is not recorded in the overlay",
            Self::StaleRecord => "is not the one that the overlay has a record of",
        })
    }
}

/// A verdict about one backing file, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFinding {
    /// The overlay's file.
    pub overlay: PathBuf,
    /// Its backing file.
    pub base: PathBuf,
    /// The verdict.
    pub verdict: BaseVerdict,
    /// What the overlay remembers.
    pub recorded: Option<BasePin>,
    /// What the file is like now. Left out where that was not needed, or could not be read.
    pub found: Option<BasePin>,
}

impl BaseFinding {
    /// What differs between then and now, in words; `None` if nothing does or nothing is known.
    #[must_use]
    pub fn difference(&self) -> Option<String> {
        let (then, now) = (self.recorded?, self.found?);
        if self.verdict == BaseVerdict::StaleRecord {
            return None;
        }
        let sizes = [
            ("virtual size", then.virtual_size, now.virtual_size),
            ("length", then.file_bytes, now.file_bytes),
        ];
        let size = sizes.into_iter().find(|(_, then, now)| then != now);
        let size = size.map(|(what, then, now)| format!("its {what} was {then} bytes, is {now}"));
        let others = [
            (then.mark != now.mark, "its content is another"),
            (then.modified != now.modified, "its time of modification is another"),
            (then.inode != now.inode, "its inode is another"),
        ];
        size.or_else(|| others.iter().find(|(is, _)| *is).map(|(_, what)| (*what).to_owned()))
    }
}

impl fmt::Display for BaseFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (overlay, base) = (self.overlay.display(), self.base.display());
        write!(f, "'{overlay}': its backing file '{base}' {}", self.verdict)?;
        self.difference().map_or(Ok(()), |difference| write!(f, " ({difference})"))
    }
}

/// An overlay and its backing file, both open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) overlay: &'a Path,
    pub(crate) header: &'a Header,
    pub(crate) base: &'a Path,
    pub(crate) storage: &'a dyn Storage,
    pub(crate) format: Format,
}

/// Compares what the overlay remembers with what is there: by three questions to the host, and only
/// if the answers differ by the content mark.
pub(crate) fn judge(pair: Pair<'_>) -> BaseFinding {
    let recorded = pair.header.base_pin();
    let (verdict, found) = match recorded {
        None => (BaseVerdict::NotRecorded, None),
        Some(pin) => judge_pin(&pin, pair),
    };
    let (overlay, base) = (pair.overlay.to_owned(), pair.base.to_owned());
    BaseFinding { overlay, base, verdict, recorded, found }
}

fn judge_pin(pin: &BasePin, pair: Pair<'_>) -> (BaseVerdict, Option<BasePin>) {
    let name = pair.header.backing_name().unwrap_or_default();
    if !pin.is_about(name) || pin.format != pinned(pair.format) {
        return (BaseVerdict::StaleRecord, None);
    }
    if is_untouched(pin, pair.storage).unwrap_or(false) {
        return (BaseVerdict::Same, None);
    }
    // Whoever cannot read the file now will hear of it when its bytes are wanted.
    match pin_of(pair.storage, pair.format, &String::from_utf8_lossy(name)) {
        Ok(now) => (compare(pin, &now), Some(now)),
        Err(_) => (BaseVerdict::Touched, None),
    }
}

/// Whether the host says that this is the same file, and that nobody has written to it.
fn is_untouched(pin: &BasePin, storage: &dyn Storage) -> block_io::Result<bool> {
    let modified = storage.modified()?;
    Ok(modified.is_some()
        && modified == pin.modified
        && storage.len()? == pin.file_bytes
        && inode(storage)? == pin.inode)
}

fn compare(then: &BasePin, now: &BasePin) -> BaseVerdict {
    let same_file = then.inode == now.inode;
    match (then.mark == now.mark, same_file) {
        (true, true) if then.modified == now.modified => BaseVerdict::Same,
        (true, true) => BaseVerdict::Touched,
        (true, false) => BaseVerdict::Copied,
        (false, true) => BaseVerdict::Modified,
        (false, false) => BaseVerdict::Replaced,
    }
}

#[cfg(test)]
mod tests {
    use cow_engine::PinnedFormat;

    use super::*;

    fn pin(mark: u128, modified: Option<i64>, inode: Option<u64>) -> BasePin {
        BasePin {
            format: PinnedFormat::Raw,
            virtual_size: 512,
            file_bytes: 100,
            modified,
            inode,
            mark,
            name_hash: 0,
            content_hash: None,
        }
    }

    fn finding(verdict: BaseVerdict, then: BasePin, now: Option<BasePin>) -> BaseFinding {
        let (overlay, base) = ("top.qcow2".into(), "base.raw".into());
        BaseFinding { overlay, base, verdict, recorded: Some(then), found: now }
    }

    #[test]
    fn verdicts_follow_from_mark_inode_and_time() {
        let then = pin(1, Some(5), Some(7));
        let verdict = |mark, modified, inode| compare(&then, &pin(mark, modified, inode));
        assert_eq!(verdict(1, Some(5), Some(7)), BaseVerdict::Same);
        assert_eq!(verdict(1, Some(6), Some(7)), BaseVerdict::Touched);
        assert_eq!(verdict(1, Some(5), Some(8)), BaseVerdict::Copied);
        assert_eq!(verdict(2, Some(5), Some(7)), BaseVerdict::Modified);
        assert_eq!(verdict(2, Some(5), None), BaseVerdict::Replaced);
        // Without a host that knows times and inodes.
        assert_eq!(compare(&pin(1, None, None), &pin(1, None, None)), BaseVerdict::Same);
    }

    #[test]
    fn findings_say_what_differs() {
        let then = pin(1, Some(5), Some(7));
        let longer = BasePin { virtual_size: 1024, file_bytes: 700, ..pin(2, Some(6), Some(7)) };
        let found = [
            finding(BaseVerdict::Modified, then, Some(longer)),
            finding(BaseVerdict::Modified, then, Some(pin(2, Some(6), Some(7)))),
            finding(BaseVerdict::Replaced, then, Some(pin(2, Some(5), Some(8)))),
            finding(BaseVerdict::Touched, then, Some(pin(1, Some(6), Some(7)))),
            finding(BaseVerdict::Touched, then, None),
            finding(BaseVerdict::Copied, then, Some(pin(1, Some(5), Some(8)))),
            finding(BaseVerdict::StaleRecord, then, None),
            finding(BaseVerdict::Same, then, None),
            finding(BaseVerdict::NotRecorded, then, None),
        ];
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
