//! Whose turn it is: the library, our programs, or the real ones.

use std::path::Path;

use qimg::chain::{Chain, Format, OpenOptions};
use testkit::{Folder, ModelDisk, Output, Qemu, Rng, built_program, run};

use super::change::Change;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    /// The library in this process.
    Library,
    /// `qimg` and `qimg-io`.
    Ours,
    /// `qemu-img` and `qemu-io`.
    Theirs,
}

/// Everybody.
pub(crate) const HANDS: [Hand; 3] = [Hand::Library, Hand::Ours, Hand::Theirs];

impl Hand {
    /// Runs the image tool of this hand; the library has none and borrows ours.
    pub(crate) fn img(self, args: &[&str]) -> Output {
        match self {
            Self::Library | Self::Ours => run(&built_program("qimg"), args),
            Self::Theirs => Qemu::img(args),
        }
    }

    fn io(self, args: &[String]) -> Output {
        match self {
            Self::Library | Self::Ours => run(&built_program("qimg-io"), args),
            Self::Theirs => Qemu::io(args),
        }
    }

    /// Makes `changes` to the top of a chain, in one session, some of them followed by a flush.
    pub(crate) fn change(self, path: &Path, folder: &Folder, rng: &mut Rng, changes: &[Change]) {
        if self == Self::Library {
            let chain = Chain::open(path, &OpenOptions::new().format(Format::Qcow2)).unwrap();
            for change in changes {
                change.on_chain(&chain).unwrap_or_else(|error| panic!("{change}: {error}"));
                if rng.one_in(4) {
                    chain.flush().unwrap();
                }
            }
            chain.close().unwrap();
            return;
        }
        let mut args = session(path, false);
        let name = args.pop().unwrap();
        for (number, change) in changes.iter().enumerate() {
            let content = folder.path(format!("content-{number}"));
            args.extend(["-c".to_owned(), change.command(&content)]);
            if rng.one_in(4) {
                args.extend(["-c".to_owned(), "flush".to_owned()]);
            }
        }
        args.push(name);
        let output = self.io(&args).success();
        assert_eq!(output.stdout.matches("wrote ").count(), changes.len(), "{output:?}");
    }

    /// Reads a small range and compares it with the model.
    pub(crate) fn read(self, path: &Path, model: &ModelDisk, offset: u64, len: u64) {
        let bytes = if self == Self::Library {
            let options = OpenOptions::new().format(Format::Qcow2).read_only(true);
            let mut bytes = vec![0xaa; len as usize];
            Chain::open(path, &options).unwrap().read_at(offset, &mut bytes).unwrap();
            bytes
        } else {
            let mut args = session(path, true);
            let name = args.pop().unwrap();
            args.extend(["-c".to_owned(), format!("read -v {offset} {len}"), name]);
            dumped(&self.io(&args).success().stdout)
        };
        assert_eq!(bytes.len() as u64, len, "{self:?} reads {len} bytes at {offset}");
        model.assert_at(offset, &bytes);
    }

    /// Turns the whole chain into a raw file and compares that with the model.
    pub(crate) fn convert(self, path: &Path, folder: &Folder, model: &ModelDisk) {
        let raw = folder.path("converted.raw");
        let names = [path.to_str().unwrap(), raw.to_str().unwrap()];
        self.img(&["convert", "-f", "qcow2", "-O", "raw", names[0], names[1]]).success();
        let bytes = std::fs::read(&raw).unwrap();
        assert_eq!(bytes.len(), model.len(), "length after convert");
        model.assert_at(0, &bytes);
    }
}

fn session(path: &Path, read_only: bool) -> Vec<String> {
    let mut args = vec!["-f".to_owned(), "qcow2".to_owned()];
    if read_only {
        args.push("-r".to_owned());
    }
    args.push(path.display().to_string());
    args
}

/// The bytes of a dump: lines of an offset, a colon, up to 16 bytes, and their text.
fn dumped(text: &str) -> Vec<u8> {
    let byte = |word: &str| u8::from_str_radix(word, 16).unwrap();
    let line = |line: &str| {
        let (offset, rest) = line.split_once(":  ")?;
        u64::from_str_radix(offset, 16).ok()?;
        let (bytes, _text) = rest.split_once("  ")?;
        Some(bytes.split(' ').map(byte).collect::<Vec<u8>>())
    };
    text.lines().filter_map(line).flatten().collect()
}

#[test]
fn dumps_are_understood() {
    let text = "00000064:  01 02 0f  ..:\n00000067:  ff 00  ..\nread 5/5 bytes at offset 100\n";
    assert_eq!(dumped(text), [1, 2, 15, 255, 0]);
}
