//! Carrying what has changed between two raw images into the active overlay, range by range.

use std::path::Path;

use qimg::chain::{Chain, Format, OpenOptions};
use testkit::{Folder, built_program, run};

/// Unit in which differences are looked for.
const BLOCK: usize = 4096;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    Library,
    QimgIo,
}

/// The ranges in which two images of one size differ. Every second one is cut to the very bytes,
/// so that clusters and sectors are written in part.
pub(crate) fn differences(before: &[u8], after: &[u8]) -> Vec<(usize, usize)> {
    assert_eq!(before.len(), after.len());
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (index, (old, new)) in before.chunks(BLOCK).zip(after.chunks(BLOCK)).enumerate() {
        let start = index * BLOCK;
        if old != new {
            match ranges.last_mut() {
                Some((_, end)) if *end == start => *end = start + new.len(),
                _ => ranges.push((start, start + new.len())),
            }
        }
    }
    for (start, end) in ranges.iter_mut().step_by(2) {
        let differs = |at: &usize| before[*at] != after[*at];
        let (first, last) = ((*start..*end).find(differs), (*start..*end).rfind(differs));
        (*start, *end) = (first.unwrap(), last.unwrap() + 1);
    }
    ranges
}

impl Writer {
    /// Writes the ranges of `after` into the image; zeros as zeros.
    pub(crate) fn write(
        self,
        folder: &Folder,
        top: &Path,
        after: &[u8],
        ranges: &[(usize, usize)],
    ) {
        let is_zero = |range: &(usize, usize)| after[range.0..range.1].iter().all(|&b| b == 0);
        if self == Self::Library {
            let chain = Chain::open(top, &OpenOptions::new().format(Format::Qcow2)).unwrap();
            for range in ranges {
                let (offset, len) = (range.0 as u64, (range.1 - range.0) as u64);
                match is_zero(range) {
                    true => chain.write_zeroes_at(offset, len, true).unwrap(),
                    false => chain.write_at(offset, &after[range.0..range.1]).unwrap(),
                }
            }
            chain.close().unwrap();
            return;
        }
        let mut args = vec!["-f".to_owned(), "qcow2".to_owned()];
        for (number, range) in ranges.iter().enumerate() {
            let (offset, len) = (range.0, range.1 - range.0);
            let command = if is_zero(range) {
                format!("write -z -u {offset} {len}")
            } else {
                let content = folder.write(format!("content-{number}"), &after[range.0..range.1]);
                format!("write -s {} {offset} {len}", content.display())
            };
            args.extend(["-c".to_owned(), command]);
        }
        args.push(top.display().to_string());
        let output = run(&built_program("qimg-io"), args).success();
        assert_eq!(output.stdout.matches("wrote ").count(), ranges.len(), "{output:?}");
    }
}

#[test]
fn differences_are_found_and_cut() {
    let before = vec![0; 5 * BLOCK + 100];
    let mut after = before.clone();
    after[10] = 1;
    after[BLOCK * 2 + 5..BLOCK * 4].fill(2);
    *after.last_mut().unwrap() = 3;
    let last = after.len();
    let expected = [(10, 11), (BLOCK * 2, BLOCK * 4), (last - 1, last)];
    assert_eq!(differences(&before, &after), expected);
}
