//! An image file in a folder of its own, in the hands of the real tools, of our programs and of
//! the library.

use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions, Policy};
use testkit::{Folder, Output, Qemu, built_program, run};

/// An image file, alone with its backing file.
pub(crate) struct Disk {
    pub(crate) folder: Folder,
    pub(crate) path: PathBuf,
}

impl Disk {
    /// `qemu-img create -f qcow2` with these words behind it; `@name` means a file beside it.
    pub(crate) fn new(words: &str) -> Self {
        Self::over(words, &[])
    }

    /// The same with `base.raw` beside it, which holds these bytes.
    pub(crate) fn over(words: &str, base: &[u8]) -> Self {
        let folder = Folder::new();
        folder.write("base.raw", base);
        let path = folder.path("disk.qcow2");
        let disk = Self { folder, path };
        let words = words.split(' ').filter(|word| !word.is_empty());
        let (size, flags): (Vec<&str>, Vec<&str>) =
            words.partition(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        let flags: Vec<String> = flags.into_iter().map(|word| disk.named(word)).collect();
        let mut args = vec!["create".to_owned(), "-q".into(), "-f".into(), "qcow2".into()];
        args.extend(flags);
        args.push(disk.name().to_owned());
        args.extend(size.into_iter().map(str::to_owned));
        Qemu::img(args).success();
        disk
    }

    /// A copy in a folder of its own, with the files beside it.
    pub(crate) fn copy(&self) -> Self {
        let folder = Folder::new();
        for file in std::fs::read_dir(self.folder.root()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path(file.file_name())).unwrap();
        }
        let path = folder.path("disk.qcow2");
        Self { folder, path }
    }

    /// The word with `@name` replaced by a path beside the image.
    fn named(&self, word: &str) -> String {
        word.replace('@', &format!("{}/", self.folder.root().display()))
    }

    pub(crate) fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// `qemu-img VERB ...`, with the image's name as the last word.
    pub(crate) fn img(&self, words: &str) -> Output {
        Qemu::img(self.words(words))
    }

    /// `qimg VERB ...`, with the image's name as the last word.
    pub(crate) fn qimg(&self, words: &str) -> Output {
        run(&built_program("qimg"), self.words(words))
    }

    fn words(&self, words: &str) -> Vec<String> {
        words.split(' ').map(|word| self.named(word)).chain([self.name().to_owned()]).collect()
    }

    /// Commands of `qemu-io`, all of which must succeed.
    #[track_caller]
    pub(crate) fn theirs(&self, commands: &[&str]) {
        assert_done(&self.try_theirs(&[], commands));
    }

    /// Commands of our `qimg-io`, all of which must succeed.
    #[track_caller]
    pub(crate) fn ours(&self, commands: &[&str]) {
        assert_done(&self.try_ours(&[], commands));
    }

    pub(crate) fn try_theirs(&self, flags: &[&str], commands: &[&str]) -> Output {
        Qemu::io(self.io_words(flags, commands))
    }

    pub(crate) fn try_ours(&self, flags: &[&str], commands: &[&str]) -> Output {
        run(&built_program("qimg-io"), self.io_words(flags, commands))
    }

    fn io_words(&self, flags: &[&str], commands: &[&str]) -> Vec<String> {
        let mut words = vec!["-f".to_owned(), "qcow2".to_owned()];
        words.extend(flags.iter().map(|&flag| flag.to_owned()));
        for command in commands {
            words.extend(["-c".to_owned(), (*command).to_owned()]);
        }
        words.push(self.name().to_owned());
        words
    }

    /// Opens with everything below it.
    pub(crate) fn open(&self) -> Chain {
        Chain::open(&self.path, &Self::options()).unwrap()
    }

    /// Opens without the right to change anything.
    pub(crate) fn open_read_only(&self) -> Chain {
        Chain::open(&self.path, &Self::options().read_only(true)).unwrap()
    }

    /// The images here are our own: their data files are those that they name.
    fn options() -> OpenOptions {
        OpenOptions::new().format(Format::Qcow2).policy(Policy::new().data_files(true))
    }

    /// What a guest sees.
    pub(crate) fn content(&self) -> Vec<u8> {
        let chain = self.open_read_only();
        let mut bytes = vec![0xee; chain.virtual_size() as usize];
        chain.read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// The guest sees these bytes, with our eyes and with those of the real tool.
    #[track_caller]
    pub(crate) fn assert_content(&self, expected: &[u8]) {
        let found = self.content();
        let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
        assert_eq!(first, None, "first byte that differs, of {}", found.len());
        assert_eq!(found.len(), expected.len());
        let raw = self.folder.write("expected.raw", expected);
        Qemu::assert_same(("raw", &raw), ("qcow2", &self.path));
        std::fs::remove_file(raw).unwrap();
    }

    /// Neither of the two checks finds anything, not even a leak.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        Qemu::check(&self.path);
        self.qimg("check -f qcow2").success();
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// Bytes put into the file behind everybody's back.
    pub(crate) fn poke(&self, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// A big-endian word put into the file behind everybody's back.
    pub(crate) fn poke_word(&self, at: u64, word: u64) {
        self.poke(at, &word.to_be_bytes());
    }

    /// A big-endian word of the file; what lies behind its end is zeros.
    pub(crate) fn word(&self, at: u64) -> u64 {
        word(&self.bytes(), at)
    }

    /// Where the L2 entry of a guest offset lies, by the tables on disk.
    #[track_caller]
    pub(crate) fn l2_entry_at(&self, guest: u64) -> u64 {
        let bytes = self.bytes();
        let cluster_bits = word(&bytes, 20) >> 32;
        let is_extended = word(&bytes, 0) & 0xffff_ffff == 3 && word(&bytes, 72) & 16 != 0;
        let entry_bits = if is_extended { 4 } else { 3 };
        let cluster = guest >> cluster_bits;
        let entries = 1 << (cluster_bits - entry_bits);
        let l1 = word(&bytes, 40);
        let table = word(&bytes, l1 + cluster / entries * 8) & 0x00ff_ffff_ffff_fe00;
        assert!(table != 0, "no L2 table for guest offset {guest:#x}");
        table + ((cluster % entries) << entry_bits)
    }

    /// The L2 entry of a guest offset.
    #[track_caller]
    pub(crate) fn l2_entry(&self, guest: u64) -> u64 {
        self.word(self.l2_entry_at(guest))
    }
}

/// Neither program exits with an error because a command failed: only the words tell.
#[track_caller]
fn assert_done(output: &Output) {
    let failed = ["failed", "error", "Error", "must", "not "];
    let said = format!("{}{}", output.stdout, output.stderr);
    let is_done = output.code == Some(0) && !failed.iter().any(|word| said.contains(word));
    assert!(is_done, "{output:?}");
}

/// A big-endian word; what lies behind the end is zeros.
pub(crate) fn word(bytes: &[u8], at: u64) -> u64 {
    let mut word = [0; 8];
    let there = bytes.get(at as usize..).unwrap_or_default();
    let len = there.len().min(8);
    word[..len].copy_from_slice(&there[..len]);
    u64::from_be_bytes(word)
}

/// Whether a file can be read as a whole.
pub(crate) fn reads(chain: &Chain, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    chain.read_at(offset, &mut bytes).ok().map(|()| bytes)
}

/// Whether the real tool can read a range.
pub(crate) fn they_read(path: &Path, offset: u64, len: usize) -> bool {
    let command = format!("read {offset} {len}");
    let output = Qemu::io(["-r", "-f", "qcow2", "-c", &command, path.to_str().unwrap()]);
    output.stdout.contains(&format!("read {len}/{len} bytes"))
}
