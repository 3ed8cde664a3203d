//! Images forged byte by byte: a sound one by the real tool, and what somebody hostile makes of it.

use testkit::{Folder, Qemu};

/// Magic of header extensions.
pub(crate) const BACKING_FORMAT: u32 = 0xe279_2aca;
pub(crate) const DATA_FILE: u32 = 0x4441_5441;

/// Where header extensions begin, and where names are put.
const EXTENSIONS: usize = 112;
const NAMES: usize = 0x800;

/// An image to be changed, in a folder of its own.
pub(crate) struct Forged {
    pub(crate) folder: Folder,
    pub(crate) bytes: Vec<u8>,
    extensions: usize,
}

impl Forged {
    /// A sound image with some data, and no header extensions.
    pub(crate) fn new(size: &str, options: &str, commands: &[&str]) -> Self {
        let folder = Folder::new();
        let path = folder.path("made.qcow2").display().to_string();
        let create = ["create", "-q", "-f", "qcow2", "-o", options, &path, size];
        Qemu::img(
            create
                .iter()
                .filter(|word| !word.is_empty() && (**word != "-o" || !options.is_empty())),
        )
        .success();
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        Qemu::io(["-f", "qcow2"].into_iter().chain(commands).chain([&*path])).success();
        let bytes = folder.read("made.qcow2");
        let mut forged = Self { folder, bytes, extensions: EXTENSIONS };
        forged.poke(EXTENSIONS, &[0; NAMES - EXTENSIONS]);
        forged
    }

    /// 64 MiB with 128 KiB of data.
    pub(crate) fn plain() -> Self {
        Self::new("64M", "", &["write -P 1 0 64k", "write -P 2 1M 64k"])
    }

    pub(crate) fn poke(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn u32(&mut self, at: usize, number: u32) -> &mut Self {
        self.poke(at, &number.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, at: usize, number: u64) -> &mut Self {
        self.poke(at, &number.to_be_bytes())
    }

    pub(crate) fn number(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    /// Sets incompatible features.
    pub(crate) fn incompatible(&mut self, bits: u64) -> &mut Self {
        let bits = self.number(72) | bits;
        self.u64(72, bits)
    }

    /// Adds a header extension.
    pub(crate) fn extension(&mut self, magic: u32, data: &str) -> &mut Self {
        let at = self.extensions;
        self.u32(at, magic).u32(at + 4, data.len() as u32).poke(at + 8, data.as_bytes());
        self.extensions = (at + 8 + data.len()).next_multiple_of(8);
        self
    }

    /// Names a backing file, and its format if it is not empty.
    pub(crate) fn backing(&mut self, name: &str, format: &str) -> &mut Self {
        self.u64(8, NAMES as u64).u32(16, name.len() as u32).poke(NAMES, name.as_bytes());
        if format.is_empty() { self } else { self.extension(BACKING_FORMAT, format) }
    }

    /// Writes the image under a name and returns its path.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.write(name, &self.bytes).display().to_string()
    }
}
