//! `info` for programs: the members of qemu-img, in the order it prints them.

use qimg::format::CompressionType;
use qimg::info::{BitmapInfo, EncryptionInfo, Qcow2Info, SnapshotInfo};
use serde::Serialize;

use super::Described;

/// One image.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Image<'a> {
    children: [Child; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_filename_format: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Snapshot<'a>>,
    virtual_size: u64,
    filename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_size: Option<u64>,
    format: String,
    actual_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    format_specific: Option<Specific<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_backing_filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_filename: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    encrypted: bool,
    dirty_flag: bool,
}

#[derive(Serialize)]
struct Child {
    name: &'static str,
    info: File,
}

/// The host file below the format.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    children: [(); 0],
    virtual_size: u64,
    filename: String,
    format: &'static str,
    actual_size: u64,
    format_specific: FileSpecific,
    dirty_flag: bool,
}

#[derive(Serialize)]
struct FileSpecific {
    r#type: &'static str,
    data: Nothing,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Specific<'a> {
    r#type: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Data<'a> {
    compat: &'static str,
    compression_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lazy_refcounts: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bitmaps: Vec<Bitmap<'a>>,
    refcount_bits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypt: Option<Encrypt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_file_raw: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrupt: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_l2: Option<bool>,
}

#[derive(Serialize)]
struct Encrypt {
    format: &'static str,
}

#[derive(Serialize)]
struct Bitmap<'a> {
    flags: Vec<&'static str>,
    name: &'a str,
    granularity: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Snapshot<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    icount: Option<u64>,
    vm_clock_nsec: u64,
    name: &'a str,
    date_sec: u32,
    date_nsec: u32,
    vm_clock_sec: u64,
    id: &'a str,
    vm_state_size: u64,
}

impl<'a> From<&'a Described> for Image<'a> {
    fn from(image: &'a Described) -> Self {
        let info = &image.info;
        let qcow2 = info.qcow2.as_ref();
        let backing_filename = qcow2.and_then(|qcow2| qcow2.backing_name.as_deref());
        Self {
            children: [Child { name: "file", info: file(image) }],
            backing_filename_format: backing_filename
                .and_then(|_| qcow2.and_then(|qcow2| qcow2.backing_format.as_deref())),
            snapshots: qcow2.map_or_else(Vec::new, |qcow2| {
                qcow2.snapshots.iter().map(Snapshot::from).collect()
            }),
            virtual_size: info.virtual_size,
            filename: image.name(),
            cluster_size: qcow2.map(|qcow2| qcow2.cluster_size),
            format: info.format.to_string(),
            actual_size: info.disk_size,
            format_specific: qcow2
                .map(|qcow2| Specific { r#type: "qcow2", data: Data::from(qcow2) }),
            full_backing_filename: image
                .backing_path
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
            backing_filename,
            encrypted: qcow2.is_some_and(|qcow2| qcow2.encryption.is_some()),
            dirty_flag: qcow2.is_some_and(|qcow2| qcow2.dirty),
        }
    }
}

fn file(image: &Described) -> File {
    File {
        children: [],
        virtual_size: image.info.file_length.next_multiple_of(512),
        filename: image.name(),
        format: "file",
        actual_size: image.info.disk_size,
        format_specific: FileSpecific { r#type: "file", data: Nothing {} },
        dirty_flag: false,
    }
}

impl<'a> From<&'a Qcow2Info> for Data<'a> {
    fn from(qcow2: &'a Qcow2Info) -> Self {
        let version_3 = qcow2.version > 2;
        Self {
            compat: if version_3 { "1.1" } else { "0.10" },
            compression_type: compression(qcow2),
            lazy_refcounts: version_3.then_some(qcow2.lazy_refcounts),
            bitmaps: qcow2.bitmaps.iter().map(Bitmap::from).collect(),
            refcount_bits: qcow2.refcount_bits,
            encrypt: qcow2.encryption.map(|encryption| Encrypt {
                format: match encryption {
                    EncryptionInfo::Aes => "aes",
                    EncryptionInfo::Luks => "luks",
                },
            }),
            data_file: qcow2.data_file.as_deref(),
            data_file_raw: qcow2.data_file.as_ref().map(|_| qcow2.data_file_raw),
            corrupt: version_3.then_some(qcow2.corrupt),
            extended_l2: version_3.then_some(qcow2.extended_l2),
        }
    }
}

/// The name of the compression type.
pub(super) fn compression(qcow2: &Qcow2Info) -> &'static str {
    match qcow2.compression {
        CompressionType::Deflate => "zlib",
        CompressionType::Zstd => "zstd",
    }
}

/// The names of the flags of a bitmap.
pub(super) fn flags(bitmap: &BitmapInfo) -> Vec<&'static str> {
    let flags = [(bitmap.in_use, "in-use"), (bitmap.auto, "auto")];
    flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect()
}

impl<'a> From<&'a BitmapInfo> for Bitmap<'a> {
    fn from(bitmap: &'a BitmapInfo) -> Self {
        Self { flags: flags(bitmap), name: &bitmap.name, granularity: bitmap.granularity }
    }
}

impl<'a> From<&'a SnapshotInfo> for Snapshot<'a> {
    fn from(snapshot: &'a SnapshotInfo) -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            icount: snapshot.instructions,
            vm_clock_nsec: snapshot.guest_clock_nanoseconds % SECOND,
            name: &snapshot.name,
            date_sec: snapshot.seconds,
            date_nsec: snapshot.nanoseconds,
            vm_clock_sec: snapshot.guest_clock_nanoseconds / SECOND,
            id: &snapshot.id,
            vm_state_size: snapshot.vm_state_bytes,
        }
    }
}
