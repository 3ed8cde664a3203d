//! The header of a qcow2 image, read without believing it: whatever its fields say, names and
//! features are found, so that a header too broken for use cannot hide them.

use block_io::Storage;

use super::{AuditError, Place};

const MAGIC: &[u8] = b"QFI\xfb";
/// Header extensions that are known; see the specification of the format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const FEATURE_NAMES: u32 = 0x6803_f857;
const BITMAPS: u32 = 0x2385_2875;
const LUKS: u32 = 0x0537_be77;
/// Bytes of cluster 0 that anything can lie in, whatever the cluster size says.
const AREA_BYTES: usize = 2 << 20;
/// Most extensions that are looked at; a cluster 0 of zero-length ones would have 2^18.
const EXTENSIONS_MAX: usize = 4096;
/// Longest name that is kept; others are refused for their length.
const NAME_BYTES_MAX: usize = 4096;

/// A name in the header.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) bytes: Vec<u8>,
    pub(super) at: Place,
}

/// What the header says, believed or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) virtual_size: u64,
    pub(super) crypt_method: u32,
    pub(super) l1_entries: u32,
    pub(super) refcount_table_clusters: u32,
    pub(super) snapshot_count: u32,
    pub(super) incompatible: u64,
    pub(super) compatible: u64,
    pub(super) autoclear: u64,
    pub(super) backing: Option<Name>,
    /// One for each extension that has it; the specification allows one.
    pub(super) backing_formats: Vec<Name>,
    pub(super) data_files: Vec<Name>,
    /// Extensions that nobody here knows: magic and place.
    pub(super) unknown_extensions: Vec<(u32, Place)>,
}

impl Outline {
    /// Reads the header; `None` if there is no magic.
    pub(super) fn read(storage: &dyn Storage) -> Result<Option<Self>, AuditError> {
        let mut bytes = vec![0; AREA_BYTES];
        let len = storage.read_at(0, &mut bytes)?;
        bytes.truncate(len);
        Ok(bytes.starts_with(MAGIC).then(|| Self::of(&bytes)))
    }

    fn of(bytes: &[u8]) -> Self {
        let version = number(bytes, 4, 4) as u32;
        let is_v2 = version < 3;
        let late = |at, len| if is_v2 { 0 } else { number(bytes, at, len) };
        let mut outline = Self {
            version,
            cluster_bits: number(bytes, 20, 4) as u32,
            virtual_size: number(bytes, 24, 8),
            crypt_method: number(bytes, 32, 4) as u32,
            l1_entries: number(bytes, 36, 4) as u32,
            refcount_table_clusters: number(bytes, 56, 4) as u32,
            snapshot_count: number(bytes, 60, 4) as u32,
            incompatible: late(72, 8),
            compatible: late(80, 8),
            autoclear: late(88, 8),
            backing: backing(bytes),
            ..Self::default()
        };
        let start = if is_v2 { 72 } else { number(bytes, 100, 4).max(104) };
        outline.walk(bytes, usize::try_from(start).unwrap_or(usize::MAX));
        outline
    }

    /// Bytes of a cluster, if the header says a size that the format has.
    pub(super) fn cluster_bytes(&self) -> Option<u64> {
        (9..=21).contains(&self.cluster_bits).then(|| 1 << self.cluster_bits)
    }

    fn walk(&mut self, bytes: &[u8], start: usize) {
        let mut at = start;
        for _ in 0..EXTENSIONS_MAX {
            let (magic, len) =
                (number(bytes, at, 4) as u32, number(bytes, at.saturating_add(4), 4));
            let data = at.saturating_add(8);
            if magic == 0 || data > bytes.len() {
                return;
            }
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            self.extension(magic, bytes, data, len);
            let end = data.saturating_add(len);
            at = end.checked_next_multiple_of(8).unwrap_or(usize::MAX);
        }
    }

    fn extension(&mut self, magic: u32, bytes: &[u8], data: usize, len: usize) {
        let at = Place::new(data as u64, len as u64);
        let name = || Name { bytes: cut(bytes, data, len), at };
        match magic {
            BACKING_FORMAT => self.backing_formats.push(name()),
            DATA_FILE_NAME => self.data_files.push(name()),
            FEATURE_NAMES | BITMAPS | LUKS => {}
            _ => self.unknown_extensions.push((magic, at)),
        }
    }
}

fn backing(bytes: &[u8]) -> Option<Name> {
    let (offset, len) = (number(bytes, 8, 8), number(bytes, 16, 4));
    if offset == 0 {
        return None;
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let bytes = cut(bytes, start, len as usize);
    let name = Name { bytes, at: Place::new(offset, len) };
    (!name.bytes.is_empty()).then_some(name)
}

/// Up to the first zero byte, as programs written in C see it.
fn cut(bytes: &[u8], start: usize, len: usize) -> Vec<u8> {
    let end = start.saturating_add(len.min(NAME_BYTES_MAX)).min(bytes.len());
    let name = bytes.get(start..end).unwrap_or_default();
    name.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// A big-endian number; bytes past the end are zeros.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    (0..len).fold(0, |number, index| {
        let byte = at.checked_add(index).and_then(|at| bytes.get(at)).copied();
        number << 8 | u64::from(byte.unwrap_or(0))
    })
}
