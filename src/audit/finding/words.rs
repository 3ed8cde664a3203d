//! Findings in words, and the keys of the policy that they are about.

use std::fmt;

use super::{Amount, Danger, Finding, FindingKind, Role};

/// A name from an image, on one line and harmless to terminals.
struct Quoted<'a>(&'a str);

/// Characters of a name that are shown.
const SHOWN_MAX: usize = 200;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        for char in self.0.chars().take(SHOWN_MAX) {
            match char.is_control() {
                true => write!(f, "{}", char.escape_default())?,
                false => write!(f, "{char}")?,
            }
        }
        let rest = self.0.chars().count().saturating_sub(SHOWN_MAX);
        if rest > 0 { write!(f, "' and {rest} more characters") } else { f.write_str("'") }
    }
}

impl Role {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BackingFile => "backing file",
            Self::DataFile => "data file",
            Self::Extent => "extent",
        }
    }
}

impl Amount {
    /// Key of the policy with the section.
    const fn rule(self) -> &'static str {
        match self {
            Self::VirtualSize => "limits.virtual-size",
            Self::FileLength => "limits.file-length",
            Self::ClusterSize => "limits.cluster-size",
            Self::L1Tables => "limits.l1-tables",
            Self::RefcountTable => "limits.refcount-table",
            Self::Snapshots => "limits.snapshots",
            Self::VmState => "limits.vm-state",
            Self::Bitmaps => "limits.bitmaps",
            Self::HostClusters => "check.host-clusters",
            Self::ReadBytes => "effort.read-bytes",
            Self::Seconds => "effort.seconds",
        }
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::VirtualSize => ("virtual disk", " bytes"),
            Self::FileLength => ("file", " bytes"),
            Self::ClusterSize => ("cluster size", " bytes"),
            Self::L1Tables => ("L1 tables", " bytes"),
            Self::RefcountTable => ("refcount table", " bytes"),
            Self::Snapshots => ("internal snapshots", ""),
            Self::VmState => ("VM state", " bytes"),
            Self::Bitmaps => ("persistent bitmaps", ""),
            Self::HostClusters => ("host clusters", ""),
            Self::ReadBytes => ("reading", " bytes"),
            Self::Seconds => ("time", " seconds"),
        }
    }
}

impl Finding {
    /// What the finding is measured by: a key of the policy with its section, or `always` for what no
    /// policy can allow.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.kind.rule()
    }
}

impl FindingKind {
    fn rule(&self) -> &'static str {
        match self {
            Self::Format { format: chain::Format::Raw } => "format.raw",
            Self::Format { format: chain::Format::Qcow2 } => "format.qcow2",
            Self::Guessed { .. } => "format.guessed",
            Self::Disguised { .. } | Self::Reference { role: Role::Extent, .. } => {
                "format.disguised"
            }
            Self::Polyglot { .. } => "format.polyglot",
            Self::Reference { danger: Danger::Protocol(_), .. } => "references.protocols",
            Self::Reference { role: Role::BackingFile, .. } => "references.backing-file",
            Self::Reference { role: Role::DataFile, .. } | Self::DataFileUnnamed => {
                "references.data-file"
            }
            Self::BackingFormatMissing => "references.unnamed-format",
            Self::BackingFormat { .. } => "references.other-formats",
            Self::UnknownFeatures { .. } | Self::UnknownExtension { .. } => "features.unknown",
            Self::Feature { key, .. } => key,
            Self::Limit { amount, .. } | Self::Exhausted { amount, .. } => amount.rule(),
            Self::Bomb { data: false, .. } => "bombs.expansion",
            Self::Bomb { data: true, .. } => "bombs.data",
            Self::Corruption { .. } => "check.corruption",
            Self::Leaks { .. } => "check.leaks",
            Self::NotThisFormat { .. }
            | Self::ExtensionTwice { .. }
            | Self::UnknownIncompatible { .. }
            | Self::Header(_)
            | Self::Table { .. }
            | Self::Unchecked { .. } => "always",
        }
    }

    fn fmt_content(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { format } => write!(f, "the image is {format}"),
            Self::Guessed { format } => {
                write!(f, "nobody said the format, it was taken for {format}")
            }
            Self::NotThisFormat { format } => write!(f, "the content is not {format}"),
            Self::Disguised { signature } if signature.is_tail() => write!(
                f,
                "raw content ends like {}: a program that guesses would open it as that",
                signature.name
            ),
            Self::Disguised { signature } => write!(
                f,
                "raw content starts like {}: a program that guesses would open it as that",
                signature.name
            ),
            Self::Polyglot { signature } => {
                write!(f, "the image is {} as well", signature.name)
            }
            _ => Ok(()),
        }
    }

    fn fmt_reference(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference { role, name, danger, allowed } => {
                write!(f, "{} {} {danger}", role.name(), Quoted(name))?;
                match role {
                    Role::Extent => Ok(()),
                    _ => write!(f, ", allowed is '{allowed}'"),
                }
            }
            Self::DataFileUnnamed => {
                f.write_str("guest data lie in an external data file that the image does not name")
            }
            Self::BackingFormatMissing => {
                f.write_str("the format of the backing file is not recorded: others guess it")
            }
            Self::BackingFormat { name } => {
                write!(f, "format {} of the backing file", Quoted(name))
            }
            Self::ExtensionTwice { role } => {
                write!(f, "the header has more than one extension for the {}", role.name())
            }
            _ => Ok(()),
        }
    }

    fn fmt_metadata(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIncompatible { bits } => {
                write!(f, "incompatible features {bits:#x} are not known")
            }
            Self::UnknownFeatures { compatible, autoclear } => write!(
                f,
                "features that are not known: compatible {compatible:#x}, autoclear {autoclear:#x}"
            ),
            Self::UnknownExtension { magic } => {
                write!(f, "header extension {magic:#010x} is not known")
            }
            Self::Feature { what, .. } => f.write_str(what),
            Self::Header(error) => write!(f, "{error}"),
            Self::Table { reason } => f.write_str(reason),
            Self::Unchecked { reason } => write!(f, "the metadata cannot be checked: {reason}"),
            Self::Corruption { count, first } => {
                write!(f, "{count} errors in the metadata, the first: {first}")
            }
            Self::Leaks { count } => write!(f, "{count} host clusters are used by nothing"),
            _ => Ok(()),
        }
    }

    fn fmt_amount(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { amount, found, allowed } => {
                let (what, unit) = amount.words();
                let side = if found < allowed { "at least" } else { "at most" };
                write!(f, "{what}: {found}{unit}, allowed is {side} {allowed}")
            }
            Self::Exhausted { amount, allowed } => {
                let (what, unit) = amount.words();
                write!(f, "no verdict within the effort allowed: {what}, at most {allowed}{unit}")
            }
            Self::Bomb { data, guest_bytes, file_bytes, allowed } => {
                let what = if *data { "of guest data" } else { "of virtual disk" };
                write!(
                    f,
                    "{guest_bytes} bytes {what} from a file of {file_bytes}, allowed is \
                     {allowed} times as much"
                )
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(name) => write!(f, "is no file but means {}", Quoted(name)),
            Self::NotText => f.write_str("is not text"),
            Self::Itself => f.write_str("is the image itself"),
            Self::Absolute => f.write_str("is an absolute path"),
            Self::Up => f.write_str("leaves its folder"),
            Self::Below => f.write_str("lies in a folder below"),
            Self::Beside => f.write_str("lies in the same folder"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { .. }
            | Self::Guessed { .. }
            | Self::NotThisFormat { .. }
            | Self::Disguised { .. }
            | Self::Polyglot { .. } => self.fmt_content(f),
            Self::Reference { .. }
            | Self::DataFileUnnamed
            | Self::BackingFormatMissing
            | Self::BackingFormat { .. }
            | Self::ExtensionTwice { .. } => self.fmt_reference(f),
            Self::Limit { .. } | Self::Exhausted { .. } | Self::Bomb { .. } => self.fmt_amount(f),
            _ => self.fmt_metadata(f),
        }
    }
}
