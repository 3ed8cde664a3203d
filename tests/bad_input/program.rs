//! Our programs under limits, and what a refusal looks like.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::{Folder, Output, built_program, run};

/// Address space, in KiB: far more than any of these images needs, far less than a length field
/// that is believed would take.
const MEMORY_KIB: u64 = 1 << 20;
/// Processor time, in seconds.
const SECONDS: u64 = 20;

/// One way to use an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Info,
    Map,
    Convert,
    Compare,
    Check,
    Explain,
    ChainShow,
    /// Reads everything.
    Read,
    /// Writes the first sector.
    Write,
}

/// All that read guest data, or the tables that lead there.
pub(crate) const READERS: [Use; 3] = [Use::Map, Use::Convert, Use::Read];
/// All.
pub(crate) const ALL: [Use; 9] = [
    Use::Info,
    Use::Map,
    Use::Convert,
    Use::Compare,
    Use::Check,
    Use::Explain,
    Use::ChainShow,
    Use::Read,
    Use::Write,
];

impl Use {
    /// Does it, within limits; neither a panic nor a signal may end it.
    #[track_caller]
    pub(crate) fn run(self, folder: &Folder, image: &Path) -> Output {
        let image = image.to_str().unwrap();
        let target = folder.path("target.raw");
        let target = target.to_str().unwrap();
        let (program, args) = match self {
            Self::Info => ("qimg", vec!["info", "-f", "qcow2", image]),
            Self::Map => ("qimg", vec!["map", "--output=json", "-f", "qcow2", image]),
            Self::Convert => ("qimg", vec!["convert", "-f", "qcow2", "-O", "raw", image, target]),
            Self::Compare => ("qimg", vec!["compare", "-f", "qcow2", "-F", "qcow2", image, image]),
            Self::Check => ("qimg", vec!["check", "-f", "qcow2", image]),
            Self::Explain => ("qimg", vec!["explain", "-f", "qcow2", image, "0"]),
            Self::ChainShow => ("qimg", vec!["chain", "show", "-f", "qcow2", image]),
            Self::Read => ("qimg-io", vec!["-r", "-f", "qcow2", "-c", "read 0 1M", image]),
            Self::Write => ("qimg-io", vec!["-f", "qcow2", "-c", "write 0 512", image]),
        };
        limited(&built_program(program), &args)
    }
}

#[track_caller]
fn limited(program: &Path, args: &[&str]) -> Output {
    let script = format!("ulimit -v {MEMORY_KIB}; ulimit -t {SECONDS}; exec \"$@\"");
    let words = ["-c", &script, "sh", program.to_str().unwrap()];
    let begun = Instant::now();
    let output = run(Path::new("sh"), words.iter().chain(args));
    let ended_itself = matches!(output.code, Some(0..=3));
    assert!(ended_itself, "a signal, a panic or memory: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(SECONDS * 2), "{output:?}");
    output
}

/// Asserts that the program has refused in one line that has all `words`. Commands of `qimg-io`
/// that fail say so on standard output, as those of the real one do.
#[track_caller]
pub(crate) fn assert_refused(one: Use, output: &Output, words: &[&str]) {
    // To compare, 1 means "different".
    let code = if one == Use::Compare { 2 } else { 1 };
    assert_eq!(output.code, Some(code), "{output:?}");
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {output:?}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {output:?}");
    }
}

/// Puts `bytes` into a file, uses it in all `uses`, and asserts that each refuses in one line
/// with all `words` and leaves the file as it was.
#[track_caller]
pub(crate) fn assert_all_refuse(folder: &Folder, bytes: &[u8], uses: &[Use], words: &[&str]) {
    let path = folder.write("bad.qcow2", bytes);
    for one in uses {
        let output = one.run(folder, &path);
        assert_refused(*one, &output, words);
        match one {
            Use::Write => assert_only_marked(&path, bytes),
            _ => assert_unchanged(&path, bytes),
        }
    }
}

/// The file is as it was, but that a writer may have noted that it is damaged.
#[track_caller]
pub(crate) fn assert_only_marked(path: &Path, bytes: &[u8]) {
    let mut marked = bytes.to_vec();
    if let Some(features) = marked.get_mut(79) {
        // Bit 1 of the incompatible features.
        *features |= 2;
    }
    let is_marked = std::fs::read(path).unwrap() == marked;
    assert_unchanged(path, if is_marked { &marked } else { bytes });
}

#[track_caller]
pub(crate) fn assert_unchanged(path: &Path, bytes: &[u8]) {
    // A file that has grown to terabytes must not be read.
    assert_eq!(std::fs::metadata(path).unwrap().len(), bytes.len() as u64, "length of the file");
    assert!(std::fs::read(path).unwrap() == bytes, "the file has changed");
}
