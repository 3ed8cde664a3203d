//! `-o help`: the options of a format.

use super::options::{Kind, table};
use qimg::chain::Format;

/// Options of the host file rather than of the format; named once a file name is known.
const HOST_ONLY: [&str; 2] = ["extent_size_hint", "nocow"];

/// Lists the options of a format. With a file name those of the host file are included.
#[must_use]
pub fn render(format: Format, with_host: bool) -> String {
    let host = |name: &str| HOST_ONLY.contains(&name) || (format, name) == RAW_PREALLOCATION;
    let mut lines: Vec<String> = table(format)
        .iter()
        .filter(|option| with_host || !host(option.name))
        .map(|option| line(option.name, option.kind, text(format, option.name)))
        .collect();
    lines.sort();
    let list = lines.concat();
    if with_host {
        return format!("Supported options:\n{list}");
    }
    format!(
        "Supported {} options:\n{list}\nThe protocol level may support further options.\n\
         Specify the target filename to include those options.\n",
        format.name()
    )
}

const RAW_PREALLOCATION: (Format, &str) = (Format::Raw, "preallocation");

/// One option and what it is about.
pub(super) fn line(name: &str, kind: Kind, text: &str) -> String {
    let kind = match kind {
        Kind::Switch => "<bool (on/off)>",
        Kind::Size => "<size>",
        Kind::Number => "<num>",
        Kind::Text => "<str>",
    };
    format!("  {:<22} - {}\n", format!("{name}={kind}"), text)
}

/// What an option is about.
pub(super) fn text(format: Format, name: &str) -> &'static str {
    match name {
        "size" => "Virtual disk size",
        "preallocation" if format == Format::Raw => {
            "Preallocation mode (allowed values: off, falloc, full)"
        }
        "preallocation" => "Preallocation mode (allowed values: off, metadata, falloc, full)",
        "backing_file" => "File name of a base image",
        "backing_fmt" => "Image format of the base image",
        "cluster_size" => "qcow2 cluster size",
        "compat" => "Compatibility level (v2 [0.10] or v3 [1.1])",
        "compression_type" => "Compression method used for image cluster compression",
        "data_file" => "File name of an external data file",
        "data_file_raw" => "The external data file must stay valid as a raw image",
        "encrypt.cipher-alg" => "Name of encryption cipher algorithm",
        "encrypt.cipher-mode" => "Name of encryption cipher mode",
        "encrypt.format" => "Encrypt the image, format choices: 'aes', 'luks'",
        "encrypt.hash-alg" => "Name of encryption hash algorithm",
        "encrypt.iter-time" => "Time to spend in PBKDF in milliseconds",
        "encrypt.ivgen-alg" => "Name of IV generator algorithm",
        "encrypt.ivgen-hash-alg" => "Name of IV generator hash algorithm",
        "encrypt.key-secret" => "ID of secret providing qcow AES key or LUKS passphrase",
        "encryption" => {
            "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"
        }
        "extended_l2" => "Extended L2 tables",
        "lazy_refcounts" => "Postpone refcount updates",
        "refcount_bits" => "Width of a reference count entry in bits",
        "extent_size_hint" => "Extent size hint for the image file, 0 to disable",
        "nocow" => "Turn off copy-on-write (valid only on btrfs)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_help_is_short() {
        assert_eq!(
            render(Format::Raw, false),
            "Supported raw options:\n  size=<size>            - Virtual disk size\n\n\
             The protocol level may support further options.\n\
             Specify the target filename to include those options.\n"
        );
        assert!(render(Format::Raw, true).contains("preallocation=<str>    - "));
    }

    #[test]
    fn every_option_is_explained() {
        for format in [Format::Raw, Format::Qcow2] {
            for option in table(format) {
                assert_ne!(text(format, option.name), "", "{}", option.name);
            }
        }
    }
}
