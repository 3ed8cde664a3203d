//! Headers as the reference implementation writes them, byte for byte. Needs `qemu-img`.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::Command;

use qcow2_format::{
    CompressionType, Features, Header, HeaderBuilder, SnapshotTable, SnapshotTableDecode, Version,
};

/// Runs `qemu-img` in a folder; a machine without it fails the test.
fn qemu_img(folder: &Path, arguments: &str) {
    let output = Command::new("qemu-img")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("qemu-img is installed (Debian: qemu-utils)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments}: {errors}");
}

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("qcow2-format-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Cluster 0 of an image, filled up with zeros where the file is shorter.
    fn cluster_0(&self, name: &str) -> Vec<u8> {
        let mut bytes = std::fs::read(self.0.join(name)).unwrap();
        let bits = Header::peek_cluster_bits(&bytes).unwrap().get();
        bytes.resize(1 << bits, 0);
        bytes
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Builds the header that should be found, from the decoded one's geometry, size and tables.
fn builder_like(header: &Header) -> HeaderBuilder {
    HeaderBuilder::new(header.geometry(), header.virtual_size())
        .version(header.version())
        .l1_table(header.l1_table())
        .refcount_table(header.refcount_table())
}

fn assert_creates(options: &str, build: impl Fn(HeaderBuilder) -> HeaderBuilder) {
    let name: String = options.chars().filter(char::is_ascii_alphanumeric).collect();
    let folder = Folder::new(&name);
    qemu_img(&folder.0, "create -q -f raw base.raw 1M");
    qemu_img(&folder.0, &format!("create -q -f qcow2 {options} image 64M"));
    let cluster = folder.cluster_0("image");
    let header = Header::decode(&cluster).unwrap();
    let built = build(builder_like(&header)).build().unwrap();
    assert_eq!(built, header, "{options}");
    assert_eq!(built.encode(), cluster, "{options}");
    assert_eq!(header.rewritten().unwrap(), header, "{options}");
}

#[test]
fn new_headers_are_the_same_bytes() {
    assert_creates("", |b| b);
    assert_creates("-o compat=0.10", |b| b.version(Version::V2));
    assert_creates("-o cluster_size=4k", |b| b);
    assert_creates("-o cluster_size=8k", |b| b);
    assert_creates("-o cluster_size=2M", |b| b);
    assert_creates("-o cluster_size=512", |b| b);
    assert_creates("-o refcount_bits=1", |b| b);
    assert_creates("-o refcount_bits=64", |b| b);
    assert_creates("-o lazy_refcounts=on", |b| b.lazy_refcounts(true));
    assert_creates("-o compression_type=zstd", |b| b.compression_type(CompressionType::Zstd));
    assert_creates("-o extended_l2=on", |b| b);
    assert_creates("-b base.raw -F raw", |b| b.backing(b"base.raw", Some(b"raw")));
    assert_creates("-b base.raw -F raw -o cluster_size=4k,compat=0.10", |b| {
        b.version(Version::V2).backing(b"base.raw", Some(b"raw"))
    });
    assert_creates(
        "-b base.raw -F raw -o extended_l2=on,lazy_refcounts=on,compression_type=zstd",
        |b| {
            b.backing(b"base.raw", Some(b"raw"))
                .lazy_refcounts(true)
                .compression_type(CompressionType::Zstd)
        },
    );
    assert_creates("-o data_file=data.raw", |b| b.data_file(Some(b"data.raw"), false));
    assert_creates("-o data_file=data.raw,data_file_raw=on", |b| {
        b.data_file(Some(b"data.raw"), true)
    });
}

#[test]
fn a_luks_header_is_found_and_comes_back() {
    let folder = Folder::new("luks");
    qemu_img(
        &folder.0,
        "create -q -f qcow2 --object secret,id=s,data=x \
         -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 image 1M",
    );
    let cluster = folder.cluster_0("image");
    let header = Header::decode(&cluster).unwrap();
    let luks = header.luks().unwrap();
    assert_eq!(luks.bytes, 2_068_480);
    assert_eq!(builder_like(&header).luks(luks).build().unwrap().encode(), cluster);
}

#[test]
fn rewrites_are_the_same_bytes() {
    let folder = Folder::new("rewrites");
    qemu_img(&folder.0, "create -q -f raw base.raw 1M");
    qemu_img(&folder.0, "create -q -f raw other.raw 1M");
    qemu_img(&folder.0, "create -q -f qcow2 -b base.raw -F raw image 1000k");
    // An unknown field, an unknown extension with odd padding, an odd size, a stray byte.
    let mut bytes = std::fs::read(folder.0.join("image")).unwrap();
    bytes[30..32].copy_from_slice(&[0x12, 0x34]);
    bytes[100..104].copy_from_slice(&120_u32.to_be_bytes());
    bytes[105] = 1;
    bytes[112..120].copy_from_slice(b"unknown!");
    bytes[120..136].copy_from_slice(b"\x11\x22\x33\x44\0\0\0\x05datumpad");
    bytes[136..144].copy_from_slice(&[0; 8]);
    bytes[500..1000].fill(0);
    bytes[8..16].copy_from_slice(&600_u64.to_be_bytes());
    bytes[600..608].copy_from_slice(b"base.raw");
    bytes[700] = 7;
    std::fs::write(folder.0.join("image"), &bytes).unwrap();
    let before = Header::decode(&folder.cluster_0("image")).unwrap();
    assert_eq!(before.encode(), folder.cluster_0("image"));
    assert_eq!(before.backing_name(), Some(&b"base.raw"[..]));

    qemu_img(&folder.0, "amend -o lazy_refcounts=on image");
    let mut features = before.features();
    features.compatible = qcow2_format::CompatibleFeatures::LAZY_REFCOUNTS;
    let expected = before.with_features(features).unwrap().rewritten().unwrap();
    assert_eq!(expected.encode(), folder.cluster_0("image"));

    qemu_img(&folder.0, "rebase -u -b other.raw -F raw image");
    let expected = expected.with_backing(Some(b"other.raw"), Some(b"raw")).unwrap();
    assert_eq!(expected.encode(), folder.cluster_0("image"));

    let removed = Command::new("qemu-img")
        .args(["rebase", "-u", "-b", "", "image"])
        .current_dir(&folder.0)
        .status();
    assert!(removed.unwrap().success());
    assert_eq!(expected.with_backing(None, None).unwrap().encode(), folder.cluster_0("image"));
}

#[test]
fn a_rewrite_that_does_not_fit_is_refused_by_both() {
    let folder = Folder::new("space");
    qemu_img(&folder.0, "create -q -f qcow2 -o cluster_size=512 image 1M");
    let before = folder.cluster_0("image");
    let header = Header::decode(&before).unwrap();
    // 512 - 112 - 8 (end marker) - 16 (backing format) leaves 376.
    let fits = "x".repeat(376);
    let too_long = "x".repeat(377);
    assert!(header.with_backing(Some(too_long.as_bytes()), Some(b"raw")).is_err());
    let status = Command::new("qemu-img")
        .args(["rebase", "-u", "-F", "raw", "-b", &too_long, "image"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    assert!(!status.status.success());
    assert_eq!(folder.cluster_0("image"), before);
    qemu_img(&folder.0, &format!("rebase -u -F raw -b {fits} image"));
    let expected = header.with_backing(Some(fits.as_bytes()), Some(b"raw")).unwrap();
    assert_eq!(expected.encode(), folder.cluster_0("image"));
}

#[test]
fn snapshots_and_bitmaps_are_found_and_come_back() {
    let folder = Folder::new("snapshots");
    qemu_img(&folder.0, "create -q -f qcow2 image 1M");
    qemu_img(&folder.0, "bitmap --add image first");
    qemu_img(&folder.0, "bitmap --add -g 32k image second");
    qemu_img(&folder.0, "snapshot -c odd image");
    qemu_img(&folder.0, "snapshot -c another image");
    let bytes = std::fs::read(folder.0.join("image")).unwrap();
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.encode(), folder.cluster_0("image"));
    assert_eq!(header.rewritten().unwrap(), header);
    assert_ne!(header.features(), Features::default());

    assert_eq!(header.snapshot_count(), 2);
    let at = usize::try_from(header.snapshot_table_offset().get()).unwrap();
    let decoded = SnapshotTable::decode(&bytes[at..], header.snapshot_count()).unwrap();
    let SnapshotTableDecode::Complete(table) = decoded else { panic!("not enough bytes") };
    let names: Vec<&[u8]> = table.snapshots().iter().map(qcow2_format::Snapshot::name).collect();
    assert_eq!(names, [&b"odd"[..], b"another"]);
    assert!(table.snapshots().iter().all(|snapshot| snapshot.virtual_size() == Some(1 << 20)));
    assert!(
        table
            .snapshots()
            .iter()
            .all(|snapshot| snapshot.validate_l1_table(header.geometry()).is_ok())
    );
    let encoded = table.encode();
    assert_eq!(encoded, bytes[at..at + encoded.len()]);

    let bitmaps = header.bitmaps().unwrap();
    let at = usize::try_from(bitmaps.directory_offset().get()).unwrap();
    let directory = &bytes[at..at + usize::try_from(bitmaps.directory_bytes()).unwrap()];
    let entries =
        qcow2_format::decode_bitmap_directory(header.geometry(), directory, bitmaps.count())
            .unwrap();
    let names: Vec<_> = entries.iter().map(|e| (e.name(), e.granularity_bits())).collect();
    assert_eq!(names, [(&b"first"[..], 16), (&b"second"[..], 15)]);
    let mut encoded = Vec::new();
    for entry in &entries {
        entry.encode_into(&mut encoded);
    }
    assert_eq!(encoded, directory);
}
