//! From the options as text to the settings of a new image; what is not offered is refused.

use std::path::Path;

use qimg::chain::Format;
use qimg::create::{CreateError, CreateOptions, Qcow2Options};
use qimg::engine::BackingReference;
use qimg::format::{CompressionType, Version};

use super::options::Options;

/// Options that are known and not offered yet, whatever their value.
const LATER: [&str; 11] = [
    "encryption",
    "encrypt.format",
    "encrypt.key-secret",
    "encrypt.cipher-alg",
    "encrypt.cipher-mode",
    "encrypt.ivgen-alg",
    "encrypt.ivgen-hash-alg",
    "encrypt.hash-alg",
    "encrypt.iter-time",
    "data_file",
    "extent_size_hint",
];

/// Refuses what is known and not offered yet, before anything is touched.
///
/// # Errors
/// The message, which names the option.
pub fn refuse_unknown(options: &Options) -> Result<(), String> {
    let later = |what: String| {
        Err(format!("option '{what}' is not offered yet; leave it out or use qemu-img create"))
    };
    for name in LATER {
        match options.get(name) {
            None | Some("off") => {}
            Some(value) => return later(format!("{name}={value}")),
        }
    }
    for name in ["extended_l2", "nocow"] {
        if options.is_on(name) {
            return later(format!("{name}=on"));
        }
    }
    if options.is_on("data_file_raw") {
        return Err("data-file-raw requires data-file".into());
    }
    match options.get("preallocation") {
        Some(mode @ ("metadata" | "full")) => return later(format!("preallocation={mode}")),
        Some("falloc") if options.knows("backing_file") => {
            return later("preallocation=falloc".into());
        }
        None | Some("off" | "falloc") => {}
        Some(other) => {
            return Err(format!("Parameter 'preallocation' does not accept value '{other}'"));
        }
    }
    match options.number("refcount_bits") {
        None | Some(16) => Ok(()),
        Some(bits) if bits.is_power_of_two() && bits <= 64 => {
            later(format!("refcount_bits={bits}"))
        }
        Some(_) => Err("Refcount width must be a power of two and may not exceed 64 bits".into()),
    }
}

/// The settings that the options mean.
///
/// # Errors
/// Options that are not possible together, or values nobody knows.
pub fn create_options(format: Format, options: &Options) -> Result<CreateOptions, String> {
    Ok(CreateOptions {
        format,
        virtual_size: options.number("size").unwrap_or(0),
        qcow2: qcow2(options)?,
        reserve: options.get("preallocation") == Some("falloc"),
    })
}

fn qcow2(options: &Options) -> Result<Qcow2Options, String> {
    let defaults = Qcow2Options::default();
    let version = match options.get("compat") {
        None | Some("1.1" | "v3") => Version::V3,
        Some("0.10" | "v2") => Version::V2,
        Some(other) => return Err(format!("Parameter 'version' does not accept value '{other}'")),
    };
    let compression = match options.get("compression_type") {
        None | Some("zlib") => CompressionType::Deflate,
        Some("zstd") => CompressionType::Zstd,
        Some(other) => {
            return Err(format!("Parameter 'compression-type' does not accept value '{other}'"));
        }
    };
    let lazy_refcounts = options.is_on("lazy_refcounts");
    let needs_version_3 =
        "supported with compatibility level 1.1 and above (use version=v3 or greater)";
    if version == Version::V2 && lazy_refcounts {
        return Err(format!("Lazy refcounts only {needs_version_3}"));
    }
    if version == Version::V2 && compression != CompressionType::Deflate {
        return Err(format!("Non-zlib compression type is only {needs_version_3}"));
    }
    let backing = match (options.get("backing_file"), options.get("backing_fmt")) {
        (Some(name), Some(format)) => {
            Some(BackingReference { name: name.to_owned(), format: Some(format.to_owned()) })
        }
        (Some(_), None) => return Err("Backing file specified without backing format".into()),
        (None, Some(_)) => return Err("Backing format cannot be used without backing file".into()),
        (None, None) => None,
    };
    let cluster_size = options.number("cluster_size").unwrap_or(defaults.cluster_size);
    Ok(Qcow2Options { version, cluster_size, compression, lazy_refcounts, backing })
}

/// The words for a failed creation.
#[must_use]
pub fn words(path: &Path, error: &CreateError) -> String {
    let too_large =
        "The image size is too large for file format 'qcow2' (try using a larger cluster size)";
    match error {
        CreateError::Size { .. } => too_large.into(),
        CreateError::Engine(qimg::engine::Error::Option { name: "size", .. }) => too_large.into(),
        CreateError::Storage(qimg::io::Error::Open { source, .. }) => {
            format!("Could not create '{}': {}", path.display(), crate::open::os_text(source))
        }
        CreateError::Storage(error) => crate::open::storage_words(path, error),
        other => other.to_string(),
    }
}
