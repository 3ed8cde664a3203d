//! From the options as text to the settings of a new image; what is not offered is refused.

use std::path::Path;

use qimg::chain::Format;
use qimg::create::{CreateError, CreateOptions, EXTENT_SIZE_HINT_DEFAULT, HostHints, Qcow2Options};
use qimg::engine::{self, BackingReference, DataFileReference, Preallocation};
use qimg::format::{ClusterBits, CompressionType, RefcountOrder, Version};

use super::options::Options;
use crate::called::stands_in;

/// Options that are known and not offered yet.
const LATER: [&str; 9] = [
    "encryption",
    "encrypt.format",
    "encrypt.key-secret",
    "encrypt.cipher-alg",
    "encrypt.cipher-mode",
    "encrypt.ivgen-alg",
    "encrypt.ivgen-hash-alg",
    "encrypt.hash-alg",
    "encrypt.iter-time",
];

/// Smallest cluster of which a 32nd is a sector.
const CLUSTER_BYTES_EXTENDED_MIN: u64 = 16 << 10;

/// Refuses what is known and not offered yet, before anything is touched.
///
/// # Errors
/// The message, which names the option.
pub fn refuse_unknown(options: &Options) -> Result<(), String> {
    for name in LATER {
        match options.get(name) {
            None | Some("off") => {}
            Some(value) => {
                return Err(format!(
                    "option '{name}={value}' is not offered yet; leave it out or use qemu-img create"
                ));
            }
        }
    }
    Ok(())
}

/// The settings that the options mean.
///
/// # Errors
/// Options that are not possible together, or values nobody knows, in the order in which qemu-img
/// complains.
pub fn create_options(format: Format, options: &Options) -> Result<CreateOptions, String> {
    let hint = options.number("extent_size_hint");
    let hints = HostHints {
        nocow: options.is_on("nocow"),
        extent_size: hint.map_or(EXTENT_SIZE_HINT_DEFAULT, |hint| {
            u32::try_from(hint).unwrap_or(EXTENT_SIZE_HINT_DEFAULT)
        }),
    };
    let (preallocation, qcow2) = match format {
        Format::Raw => (raw_preallocation(options)?, Qcow2Options::default()),
        Format::Qcow2 => qcow2(options)?,
    };
    let virtual_size = options.number("size").unwrap_or(0);
    Ok(CreateOptions { format, virtual_size, preallocation, qcow2, hints })
}

fn raw_preallocation(options: &Options) -> Result<Preallocation, String> {
    let mode = options.get("preallocation").unwrap_or("off");
    mode.parse().map_err(|_| format!("invalid parameter value: {mode}"))
}

fn qcow2(options: &Options) -> Result<(Preallocation, Qcow2Options), String> {
    let defaults = Qcow2Options::default();
    let refuse = |name: &str, value: &str| {
        Err(format!("Parameter '{name}' does not accept value '{value}'"))
    };
    let version = match options.get("compat") {
        None | Some("1.1" | "v3") => Version::V3,
        Some("0.10" | "v2") => Version::V2,
        Some(other) => return refuse("version", other),
    };
    let mode = options.get("preallocation").unwrap_or("off");
    let Ok(preallocation) = mode.parse() else { return refuse("preallocation", mode) };
    let compression = match options.get("compression_type") {
        None | Some("zlib") => CompressionType::Deflate,
        Some("zstd") => CompressionType::Zstd,
        Some(other) => return refuse("compression-type", other),
    };
    let data_file = options.get("data_file");
    let qcow2 = Qcow2Options {
        version,
        cluster_size: options.number("cluster_size").unwrap_or(defaults.cluster_size),
        refcount_bits: options.number("refcount_bits").unwrap_or(defaults.refcount_bits),
        compression,
        lazy_refcounts: options.is_on("lazy_refcounts"),
        extended_l2: options.is_on("extended_l2"),
        backing: backing(options),
        record_base: !stands_in(),
        data_file: data_file.map(|name| DataFileReference {
            name: name.to_owned(),
            raw: options.is_on("data_file_raw"),
        }),
    };
    check_sizes(&qcow2)?;
    if options.get("backing_file").is_none() && options.get("backing_fmt").is_some() {
        return Err("Backing format cannot be used without backing file".into());
    }
    check_combinations(&qcow2, preallocation, options.is_on("data_file_raw"))?;
    Ok((preallocation, qcow2))
}

fn backing(options: &Options) -> Option<BackingReference> {
    let format = options.get("backing_fmt").map(Into::into);
    options.get("backing_file").map(|name| BackingReference { name: name.into(), format })
}

/// What stands behind the name of a feature that version 2 does not have.
const NEEDS_VERSION_3: &str =
    "supported with compatibility level 1.1 and above (use version=v3 or greater)";

/// The first of some complaints that applies.
fn first<const N: usize>(rows: [(bool, String); N]) -> Result<(), String> {
    match rows.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, message)) => Err(message),
        None => Ok(()),
    }
}

fn check_sizes(qcow2: &Qcow2Options) -> Result<(), String> {
    let found = qcow2.cluster_size;
    let is_possible = found.is_power_of_two() && ClusterBits::new(found.trailing_zeros()).is_ok();
    let is_small = qcow2.extended_l2 && found < CLUSTER_BYTES_EXTENDED_MIN;
    first([
        (
            qcow2.extended_l2 && qcow2.version == Version::V2,
            format!("Extended L2 entries are only {NEEDS_VERSION_3}"),
        ),
        (!is_possible, CreateError::ClusterSize { found }.to_string()),
        (
            is_small,
            format!(
                "Extended L2 entries are only supported with cluster sizes of at least \
                 {CLUSTER_BYTES_EXTENDED_MIN} bytes"
            ),
        ),
    ])
}

fn check_combinations(
    qcow2: &Qcow2Options,
    preallocation: Preallocation,
    data_file_raw: bool,
) -> Result<(), String> {
    let is_old = qcow2.version == Version::V2;
    let (has_backing, has_data_file) = (qcow2.backing.is_some(), qcow2.data_file.is_some());
    let found = qcow2.refcount_bits;
    let is_width = found.is_power_of_two() && RefcountOrder::new(found.trailing_zeros()).is_ok();
    first([
        (
            has_backing && preallocation != Preallocation::Off && !qcow2.extended_l2,
            "Backing file and preallocation can only be used at the same time if extended_l2 is on"
                .into(),
        ),
        (is_old && qcow2.lazy_refcounts, format!("Lazy refcounts only {NEEDS_VERSION_3}")),
        (!is_width, CreateError::RefcountBits { found }.to_string()),
        (
            is_old && found != u64::from(RefcountOrder::DEFAULT.bits()),
            "Different refcount widths than 16 bits require compatibility level 1.1 or above (use \
             version=v3 or greater)"
                .into(),
        ),
        (data_file_raw && !has_data_file, "data-file-raw requires data-file".into()),
        (
            data_file_raw && has_backing,
            "Backing file and data-file-raw cannot be used at the same time".into(),
        ),
        (is_old && has_data_file, format!("External data files are only {NEEDS_VERSION_3}")),
        (
            is_old && qcow2.compression != CompressionType::Deflate,
            format!("Non-zlib compression type is only {NEEDS_VERSION_3}"),
        ),
    ])
}

/// Error number of a file that its file system cannot make so large (`EFBIG`).
const TOO_LARGE: i32 = 27;

/// The words for a failed creation.
#[must_use]
pub fn words(path: &Path, format: Format, error: &CreateError) -> String {
    let too_large = || {
        let help = match format {
            Format::Raw => "",
            Format::Qcow2 => " (try using a larger cluster size)",
        };
        format!("The image size is too large for file format '{format}'{help}")
    };
    match error {
        CreateError::Size { .. } => too_large(),
        CreateError::Engine(engine::Error::Option { name: "size", .. }) => too_large(),
        CreateError::Storage(error) if is_too_large(error) => too_large(),
        CreateError::Engine(engine::Error::Storage { source, .. }) if is_too_large(source) => {
            too_large()
        }
        CreateError::Storage(error) => file_words(path, error),
        CreateError::DataFile { path, source } => file_words(path, source),
        other => other.to_string(),
    }
}

fn is_too_large(error: &qimg::io::Error) -> bool {
    matches!(error, qimg::io::Error::Io { source, .. } if source.raw_os_error() == Some(TOO_LARGE))
}

fn file_words(path: &Path, error: &qimg::io::Error) -> String {
    match error {
        qimg::io::Error::Open { source, .. } => {
            format!("Could not create '{}': {}", path.display(), crate::open::os_text(source))
        }
        error => crate::open::storage_words(path, error),
    }
}
