//! Images of many kinds, made by the real tools.

use testkit::{Folder, Qemu};

/// A folder of images.
pub(crate) struct Gallery {
    folder: Folder,
}

/// Images that every verb can read, with their formats.
pub(crate) const READABLE: [(&str, &str); 15] = [
    ("base.raw", "raw"),
    ("empty.raw", "raw"),
    ("odd.raw", "raw"),
    ("top.qcow2", "qcow2"),
    ("sub/overlay.qcow2", "qcow2"),
    ("deep.qcow2", "qcow2"),
    ("compressed.qcow2", "qcow2"),
    ("zstd.qcow2", "qcow2"),
    ("v2.qcow2", "qcow2"),
    ("small-clusters.qcow2", "qcow2"),
    ("large-clusters.qcow2", "qcow2"),
    ("zero.qcow2", "qcow2"),
    ("zero-allocated.qcow2", "qcow2"),
    ("scattered.qcow2", "qcow2"),
    ("nothing.qcow2", "qcow2"),
];

impl Gallery {
    /// Makes all of them.
    pub(crate) fn new() -> Self {
        let gallery = Self { folder: Folder::new() };
        gallery.raw();
        gallery.overlays();
        gallery.kinds();
        gallery
    }

    /// The path of an image.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path(name).display().to_string()
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    fn raw(&self) {
        self.create(&["-f", "raw"], "base.raw", "1M");
        self.io("raw", "base.raw", &["write -P 1 0 256k", "write -P 9 700k 3000"]);
        self.folder.write("empty.raw", &[]);
        self.folder.write("odd.raw", &[7; 10_000]);
    }

    fn overlays(&self) {
        self.create(&["-f", "qcow2", "-b", "base.raw", "-F", "raw"], "top.qcow2", "2M");
        let writes = ["write -P 2 64k 64k", "write -z 128k 64k", "write -P 3 1536k 100"];
        self.io("qcow2", "top.qcow2", &writes);
        self.create(&["-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2"], "deep.qcow2", "3M");
        self.io("qcow2", "deep.qcow2", &["write -P 4 100k 100k", "write -P 5 2500k 1k"]);
        let sub = self.folder.path("sub");
        std::fs::create_dir(&sub).expect("a folder can be made");
        std::fs::copy(self.folder.path("base.raw"), sub.join("only.raw")).expect("a copy");
        self.create(&["-f", "qcow2", "-b", "only.raw", "-F", "raw"], "sub/overlay.qcow2", "1M");
    }

    fn kinds(&self) {
        self.convert(&["-c", "-O", "qcow2"], "compressed.qcow2");
        self.convert(&["-c", "-O", "qcow2", "-o", "compression_type=zstd"], "zstd.qcow2");
        self.convert(&["-O", "qcow2", "-o", "compat=0.10"], "v2.qcow2");
        self.convert(&["-O", "qcow2", "-o", "cluster_size=512"], "small-clusters.qcow2");
        self.convert(&["-O", "qcow2", "-o", "cluster_size=2M"], "large-clusters.qcow2");
        for (name, writes) in [
            ("zero.qcow2", &["write -z 0 1M"][..]),
            ("zero-allocated.qcow2", &["write 0 1M", "write -z 0 1M"]),
            ("scattered.qcow2", &["write -P 1 512k 512k", "write -P 1 0 512k"]),
            ("nothing.qcow2", &[]),
        ] {
            self.create(&["-f", "qcow2"], name, "1M");
            self.io("qcow2", name, writes);
        }
    }

    /// `qemu-img create` in the folder.
    pub(crate) fn create(&self, flags: &[&str], name: &str, size: &str) {
        let path = self.path(name);
        Qemu::img([&["create", "-q"], flags, &[&path, size]].concat()).success();
    }

    /// `qemu-io` on an image of the folder.
    pub(crate) fn io(&self, format: &str, name: &str, commands: &[&str]) {
        if commands.is_empty() {
            return;
        }
        let path = self.path(name);
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let args: Vec<&str> = ["-f", format].into_iter().chain(commands).chain([&*path]).collect();
        Qemu::io(args).success();
    }

    fn convert(&self, flags: &[&str], name: &str) {
        let (from, to) = (self.path("base.raw"), self.path(name));
        Qemu::img([&["convert", "-f", "raw"], flags, &[&from, &to]].concat()).success();
    }
}
