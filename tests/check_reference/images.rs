//! Images made by the real tools, each with something special, to be damaged later.

use testkit::{Folder, Qemu, Rng};

/// How an image is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) options: &'static str,
    pub(crate) size: u64,
    pub(crate) writes: u64,
    pub(crate) snapshots: u64,
    pub(crate) bitmaps: u64,
}

const PLAIN: Recipe =
    Recipe { options: "cluster_size=64k", size: 64 << 20, writes: 12, snapshots: 0, bitmaps: 0 };

/// One of each kind.
pub(crate) const RECIPES: [Recipe; 14] = [
    PLAIN,
    Recipe { options: "cluster_size=512", size: 1 << 20, writes: 20, ..PLAIN },
    Recipe { options: "cluster_size=4k,refcount_bits=1", size: 16 << 20, ..PLAIN },
    Recipe { options: "cluster_size=4k,refcount_bits=2", size: 16 << 20, ..PLAIN },
    Recipe { options: "cluster_size=4k,refcount_bits=4", size: 16 << 20, ..PLAIN },
    Recipe { options: "cluster_size=4k,refcount_bits=8", size: 16 << 20, snapshots: 2, ..PLAIN },
    Recipe { options: "cluster_size=4k,refcount_bits=32", size: 16 << 20, ..PLAIN },
    Recipe { options: "cluster_size=4k,refcount_bits=64", size: 16 << 20, snapshots: 1, ..PLAIN },
    Recipe { options: "cluster_size=2M", size: 1 << 30, writes: 6, ..PLAIN },
    Recipe { options: "cluster_size=64k,compat=0.10", snapshots: 1, ..PLAIN },
    Recipe { options: "cluster_size=4k", size: 16 << 20, snapshots: 3, ..PLAIN },
    Recipe { options: "cluster_size=64k,extended_l2=on", snapshots: 1, ..PLAIN },
    Recipe { options: "cluster_size=16k,extended_l2=on", bitmaps: 2, ..PLAIN },
    Recipe { options: "cluster_size=4k,compression_type=zstd", bitmaps: 1, ..PLAIN },
];

impl Recipe {
    /// Makes the image and returns its bytes.
    pub(crate) fn make(&self, folder: &Folder, rng: &mut Rng) -> Vec<u8> {
        let path = folder.path("made.qcow2");
        let image = path.to_str().unwrap();
        let size = self.size.to_string();
        Qemu::img(["create", "-q", "-f", "qcow2", "-o", self.options, image, &size]).success();
        for _ in 0..self.bitmaps {
            let name = format!("b{}", rng.below(1 << 32));
            Qemu::img(["bitmap", "--add", image, &name]).success();
        }
        let mut compressed = 0;
        self.write(image, &mut compressed, rng);
        for index in 0..self.snapshots {
            Qemu::img(["snapshot", "-c", &format!("s{index}"), image]).success();
            self.write(image, &mut compressed, rng);
        }
        std::fs::read(path).unwrap()
    }

    fn write(&self, image: &str, compressed: &mut u64, rng: &mut Rng) {
        let mut args = vec!["-f".to_owned(), "qcow2".to_owned()];
        for _ in 0..self.writes {
            args.extend(["-c".to_owned(), self.command(compressed, rng)]);
        }
        args.push(image.to_owned());
        Qemu::io(args).success();
    }

    fn command(&self, compressed: &mut u64, rng: &mut Rng) -> String {
        // Half of the writes close together, so that tables fill; the last quarter is for
        // compressed clusters.
        let below = self.size / 4 * 3;
        let within = if rng.one_in(2) { below } else { below / 64 };
        let offset = rng.below(within / 512) * 512;
        let len = (rng.within(1..64) << rng.below(9)) * 512;
        let len = len.min(below - offset);
        match rng.below(5) {
            0 if !self.options.contains("0.10") => format!("write -z {offset} {len}"),
            1 => {
                // Never twice in one place: after that failed, the reference implementation may
                // put the next compressed cluster over a table.
                *compressed += 1;
                let cluster = self.cluster_bytes();
                let offset = self.size - *compressed * cluster;
                format!("write -c -P {} {offset} {cluster}", rng.below(256))
            }
            2 => format!("discard {offset} {len}"),
            _ => format!("write -P {} {offset} {len}", rng.below(256)),
        }
    }

    fn cluster_bytes(&self) -> u64 {
        let sizes = [("=512", 512), ("=4k", 4096), ("=16k", 16384), ("=2M", 2 << 20)];
        let found = sizes.into_iter().find(|(text, _)| self.options.contains(text));
        found.map_or(65536, |(_, bytes)| bytes)
    }
}
