//! What is acceptable: a plain struct, and the table of its keys for those who read it from text.

use std::fmt;

/// Which files an image may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// None.
    No,
    /// Files in its own folder.
    Beside,
    /// Files in its own folder and the folders in it: relative names without `..`.
    Below,
    /// Any local file.
    Any,
}

impl Reach {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::No, "no"), (Self::Beside, "beside"), (Self::Below, "below"), (Self::Any, "any")];

    /// The name that policies use.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(reach, _)| *reach == self).map_or("no", |(_, name)| name)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Whether something is acceptable.
    Flag(bool),
    /// At most, or at least, so many bytes.
    Bytes(u64),
    /// At most so many.
    Number(u64),
    /// Which files may be named.
    Reach(Reach),
}

/// A key of a policy.
#[derive(Clone, Copy)]
pub struct Key {
    /// Section.
    pub section: &'static str,
    /// Name in the section.
    pub name: &'static str,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    get: fn(&Policy) -> Value,
    set: fn(&mut Policy, Value) -> bool,
}

impl Key {
    /// The value that a policy has.
    #[must_use]
    pub fn get(&self, policy: &Policy) -> Value {
        (self.get)(policy)
    }

    /// Gives a policy another value. `false` if it is of another kind than the key: nothing is
    /// changed then.
    #[must_use]
    pub fn set(&self, policy: &mut Policy, value: Value) -> bool {
        (self.set)(policy, value)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.name)
    }
}

/// Makes the struct, its defaults and the table from one list, so that no key can lack any of them.
macro_rules! policy {
    ($($section:literal { $(
        $field:ident $name:literal : $kind:ident($type:ty) = $default:expr, $meaning:literal;
    )+ })+) => {
        /// What is acceptable. [`Policy::default`] is for images of strangers that are to be used alone.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Policy { $($(
            #[doc = $meaning]
            pub $field: $type,
        )+)+ }

        impl Default for Policy {
            fn default() -> Self {
                Self { $($( $field: $default, )+)+ }
            }
        }

        impl Policy {
            /// Every key, in the order in which people should read them.
            pub const KEYS: &[Key] = &[$($( Key {
                section: $section,
                name: $name,
                meaning: $meaning,
                get: |policy| Value::$kind(policy.$field),
                set: |policy, value| match value {
                    Value::$kind(value) => {
                        policy.$field = value;
                        true
                    }
                    _ => false,
                },
            }, )+)+];
        }
    };
}

policy! {
    "format" {
        raw "raw": Flag(bool) = true, "Raw images.";
        qcow2 "qcow2": Flag(bool) = true, "qcow2 images.";
        guessed "guessed": Flag(bool) = true,
            "The format may be read off the content, where nobody said it.";
        disguised "disguised": Flag(bool) = false,
            "Raw images whose content is an image of another format, or an archive.";
        polyglot "polyglot": Flag(bool) = false,
            "qcow2 images that are something else as well.";
    }
    "references" {
        backing_file "backing-file": Reach(Reach) = Reach::No,
            "The backing file that an image may name: no, beside (in its own folder), below \
             (relative, without ..) or any.";
        data_file "data-file": Reach(Reach) = Reach::No,
            "The external data file that an image may name: no, beside, below or any.";
        protocols "protocols": Flag(bool) = false,
            "Names that are no files: json:, nbd:, https: and the like.";
        unnamed_format "unnamed-format": Flag(bool) = false,
            "A backing file without a format, which others will guess.";
        other_formats "other-formats": Flag(bool) = false,
            "A backing file of another format than raw and qcow2.";
    }
    "features" {
        version_2 "version-2": Flag(bool) = true, "Version 2 of the format.";
        extended_l2 "extended-l2": Flag(bool) = true, "Extended L2 entries.";
        zstd "zstd": Flag(bool) = true, "Clusters compressed with zstd.";
        encryption "encryption": Flag(bool) = false, "Encrypted images.";
        dirty "dirty": Flag(bool) = false, "The mark of an image that was not closed cleanly.";
        corrupt "corrupt": Flag(bool) = false, "The mark of an image that is known to be damaged.";
        unknown "unknown": Flag(bool) = true,
            "Compatible and autoclear features and header extensions that nobody here knows. \
             (Incompatible ones are never acceptable.)";
    }
    "limits" {
        virtual_size "virtual-size": Bytes(u64) = 16 << 40, "Most bytes of the virtual disk.";
        file_length "file-length": Bytes(u64) = 16 << 40, "Most bytes of the file.";
        cluster_size_min "cluster-size-min": Bytes(u64) = 512, "Fewest bytes of a cluster.";
        cluster_size_max "cluster-size-max": Bytes(u64) = 2 << 20, "Most bytes of a cluster.";
        l1_tables "l1-tables": Bytes(u64) = 16 << 20,
            "Most bytes of the L1 tables of the disk and all snapshots together; the check takes about \
             16 times as much memory.";
        refcount_table "refcount-table": Bytes(u64) = 8 << 20, "Most bytes of the refcount table.";
        snapshots "snapshots": Number(u64) = 32, "Most internal snapshots.";
        vm_state "vm-state": Bytes(u64) = 64 << 30,
            "Most bytes of VM state, of all internal snapshots together.";
        bitmaps "bitmaps": Number(u64) = 64, "Most persistent bitmaps.";
    }
    "bombs" {
        expansion "expansion": Number(u64) = 100_000,
            "Most bytes of the virtual disk for each byte of the file, data or not.";
        expansion_from "expansion-from": Bytes(u64) = 1 << 40,
            "Virtual disks up to this size may be as empty as they like.";
        data "data": Number(u64) = 200,
            "Most bytes of guest data for each byte of the file: compressed, or one cluster many times.";
        data_from "data-from": Bytes(u64) = 1 << 30,
            "Images with guest data up to this may be packed as well as they like.";
    }
    "check" {
        consistency "consistency": Flag(bool) = true,
            "Whether the metadata are checked; otherwise the keys of this section mean nothing, and \
             bombs.data neither.";
        leaks "leaks": Flag(bool) = true, "Host clusters that nothing uses.";
        corruption "corruption": Flag(bool) = false, "Metadata that contradict each other.";
        host_clusters "host-clusters": Number(u64) = 1 << 26,
            "Most host clusters of the file, for each of which the check needs two bytes of memory.";
    }
    "effort" {
        read_bytes "read-bytes": Bytes(u64) = 4 << 30, "Most bytes that are read for the verdict.";
        seconds "seconds": Number(u64) = 60, "Most seconds that the verdict may take.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_once_and_settable() {
        let mut policy = Policy::default();
        for (index, key) in Policy::KEYS.iter().enumerate() {
            let name = format!("{key:?}");
            let again = Policy::KEYS.iter().skip(index + 1).any(|key| format!("{key:?}") == name);
            assert!(!again, "{name} appears twice");
            assert!(key.meaning.ends_with(['.', ')']), "{name}: {}", key.meaning);
            let other = match key.get(&policy) {
                Value::Flag(flag) => Value::Flag(!flag),
                Value::Bytes(bytes) => Value::Bytes(bytes + 1),
                Value::Number(number) => Value::Number(number + 1),
                Value::Reach(_) => Value::Reach(Reach::Any),
            };
            assert!(key.set(&mut policy, other), "{name}");
            assert_eq!(key.get(&policy), other);
            let wrong = match other {
                Value::Flag(_) => Value::Number(1),
                _ => Value::Flag(true),
            };
            assert!(!key.set(&mut policy, wrong), "{name}");
            assert_eq!(key.get(&policy), other);
        }
    }
}
