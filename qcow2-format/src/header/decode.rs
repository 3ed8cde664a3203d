//! Cluster 0 to a [`Header`]: every check, in the order of the reference implementation.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use zerocopy::FromBytes;

use super::raw::{
    COMPRESSION_TYPE_OFFSET, MAGIC, RawHeaderV2, RawHeaderV3Tail, V2_BYTES, V3_BYTES_MIN,
};
use super::{Backing, CompressionType, CryptMethod, Header, TablePointer, Version};
use crate::error::{Error, Structure};
use crate::extension::{Context, Extension, FEATURE_NAMES, Placed, Walk};
use crate::feature::{
    AutoclearFeatures, CompatibleFeatures, FeatureKind, FeatureName, Features,
    IncompatibleFeatures, name_in,
};
use crate::geometry::{ClusterBits, Geometry, L2Layout, RefcountOrder};
use crate::limit;
use crate::unit::HostOffset;

const HEADER: Structure = Structure::Header;

/// What the header is decoded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reading and writing the image.
    Use,
    /// Checking or repairing it.
    Check,
}

/// See [`Header::peek_cluster_bits`].
pub(super) fn peek_cluster_bits(bytes: &[u8]) -> Result<ClusterBits, Error> {
    let field = |at: usize| {
        let field = bytes.get(at..at.saturating_add(4)).and_then(|four| four.try_into().ok());
        field.map(u32::from_be_bytes).ok_or_else(|| cut_off(bytes, "24 bytes or more"))
    };
    let magic = field(0)?;
    if magic != MAGIC {
        return Err(Error::NotQcow2 { found: magic });
    }
    decode_version(field(4)?)?;
    ClusterBits::new(field(20)?)
}

fn cut_off(bytes: &[u8], allowed: &'static str) -> Error {
    Error::cut_off(HEADER, "file length", 0, bytes.len() as u64, allowed)
}

fn decode_version(number: u32) -> Result<Version, Error> {
    match number {
        2 => Ok(Version::V2),
        3 => Ok(Version::V3),
        other => Err(Error::number(HEADER, "version", Some(4), u64::from(other), "2 or 3")),
    }
}

/// See [`Header::decode`].
pub(super) fn decode(bytes: &[u8], purpose: Purpose) -> Result<Header, Error> {
    let cluster_bits = peek_cluster_bits(bytes)?;
    let fixed = Fixed::decode(bytes, cluster_bits)?;
    let cluster = first_cluster(bytes, cluster_bits);
    validate_backing_offset(&fixed, &cluster)?;
    let compression_type = decode_compression_type(&fixed, &cluster)?;
    validate_incompatible(&fixed, &cluster)?;
    let geometry = decode_geometry(&fixed, cluster_bits)?;
    let crypt_method = decode_crypt_method(fixed.head.crypt_method.get())?;
    let (l1_table, refcount_table, snapshot_table) = decode_tables(&fixed, geometry, purpose)?;

    let context = Context {
        geometry,
        is_luks: crypt_method == CryptMethod::Luks,
        bitmaps_trusted: fixed.features.autoclear.contains(AutoclearFeatures::BITMAPS),
    };
    let mut walk = fixed.extension_area(&cluster);
    let extensions = decode_extensions(&mut walk, context)?;
    let rest = cluster.get(walk.position()..).unwrap_or(&[]);
    Ok(Header {
        version: fixed.version,
        geometry,
        size: fixed.head.size.get(),
        crypt_method,
        l1_table,
        refcount_table,
        snapshot_table,
        features: fixed.features,
        compression_type,
        beyond_compression_type: fixed.beyond_compression_type(&cluster),
        header_length: fixed.header_length,
        backing: decode_backing(&fixed, &cluster)?,
        extensions,
        end_marker: walk.end_marker(),
        rest: without_trailing_zeros(rest).to_vec(),
    })
}

/// The fixed fields, with version 2 filled up with what it implies.
struct Fixed {
    head: RawHeaderV2,
    version: Version,
    features: Features,
    refcount_order: u32,
    header_length: u32,
}

impl Fixed {
    fn decode(bytes: &[u8], cluster_bits: ClusterBits) -> Result<Self, Error> {
        let (head, after) =
            RawHeaderV2::read_from_prefix(bytes).map_err(|_| cut_off(bytes, "72 bytes or more"))?;
        let version = decode_version(head.version.get())?;
        if version == Version::V2 {
            let (features, header_length) = (Features::default(), V2_BYTES as u32);
            return Ok(Self { head, version, features, refcount_order: 4, header_length });
        }
        let (tail, _) = RawHeaderV3Tail::read_from_prefix(after)
            .map_err(|_| cut_off(bytes, "104 bytes or more in version 3"))?;
        let header_length = tail.header_length.get();
        validate_header_length(bytes, header_length, cluster_bits)?;
        let features = Features {
            incompatible: IncompatibleFeatures::from_bits(tail.incompatible_features.get()),
            compatible: CompatibleFeatures::from_bits(tail.compatible_features.get()),
            autoclear: AutoclearFeatures::from_bits(tail.autoclear_features.get()),
        };
        let refcount_order = tail.refcount_order.get();
        Ok(Self { head, version, features, refcount_order, header_length })
    }

    /// The bytes between the header and the backing file name, or the end of cluster 0.
    fn extension_area<'a>(&self, cluster: &'a [u8]) -> Walk<'a> {
        let end = match self.head.backing_file_offset.get() {
            0 => cluster.len(),
            offset => usize::try_from(offset).unwrap_or(usize::MAX).min(cluster.len()),
        };
        Walk::new(cluster, self.header_length as usize, end)
    }

    fn beyond_compression_type(&self, cluster: &[u8]) -> Vec<u8> {
        let from = COMPRESSION_TYPE_OFFSET.saturating_add(1);
        cluster.get(from..self.header_length as usize).unwrap_or(&[]).to_vec()
    }
}

fn validate_header_length(
    bytes: &[u8],
    header_length: u32,
    cluster_bits: ClusterBits,
) -> Result<(), Error> {
    let found = u64::from(header_length);
    if found < V3_BYTES_MIN as u64 || found > 1 << cluster_bits.get() {
        let allowed = "104 to the cluster size";
        return Err(Error::number(HEADER, "header_length", Some(100), found, allowed));
    }
    if found > bytes.len() as u64 {
        return Err(cut_off(bytes, "all of the header length"));
    }
    Ok(())
}

/// Cluster 0, past the end of the file filled with zeros.
fn first_cluster(bytes: &[u8], cluster_bits: ClusterBits) -> Cow<'_, [u8]> {
    // Nearly always all of it is there; a chain has many headers.
    if let Some(cluster) = bytes.get(..1 << cluster_bits.get()) {
        return Cow::Borrowed(cluster);
    }
    let mut cluster = vec![0; 1 << cluster_bits.get()];
    let len = cluster.len().min(bytes.len());
    if let (Some(to), Some(from)) = (cluster.get_mut(..len), bytes.get(..len)) {
        to.copy_from_slice(from);
    }
    Cow::Owned(cluster)
}

fn without_trailing_zeros(bytes: &[u8]) -> &[u8] {
    const ZEROS: [u8; 512] = [0; 512];
    let mut bytes = bytes;
    // Nearly all of a cluster 0 of 2 MiB is zeros: whole blocks of them first.
    while let Some(rest) = bytes.strip_suffix(&ZEROS) {
        bytes = rest;
    }
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
    bytes.get(..end).unwrap_or(bytes)
}

fn validate_backing_offset(fixed: &Fixed, cluster: &[u8]) -> Result<(), Error> {
    let offset = fixed.head.backing_file_offset.get();
    let overlaps_header =
        offset < u64::from(fixed.header_length) && fixed.head.backing_file_size.get() != 0;
    if offset != 0 && (offset > cluster.len() as u64 || overlaps_header) {
        let allowed = "0, or behind the header and inside cluster 0";
        return Err(Error::hex(HEADER, "backing_file_offset", Some(8), offset, allowed));
    }
    Ok(())
}

fn decode_compression_type(fixed: &Fixed, cluster: &[u8]) -> Result<CompressionType, Error> {
    let has_field = fixed.header_length as usize > COMPRESSION_TYPE_OFFSET;
    let number = match cluster.get(COMPRESSION_TYPE_OFFSET) {
        Some(&number) if has_field => number,
        _ => 0,
    };
    let has_bit = fixed.features.incompatible.contains(IncompatibleFeatures::COMPRESSION_TYPE);
    let invalid = |allowed| {
        let at = Some(COMPRESSION_TYPE_OFFSET as u64);
        Err(Error::number(HEADER, "compression_type", at, u64::from(number), allowed))
    };
    match (number, has_bit) {
        (0, false) => Ok(CompressionType::Deflate),
        (0, true) => invalid("not 0 with incompatible feature bit 3"),
        (_, false) => invalid("0 without incompatible feature bit 3"),
        (1, true) => Ok(CompressionType::Zstd),
        (_, true) => invalid("0 (deflate) or 1 (zstd)"),
    }
}

fn validate_incompatible(fixed: &Fixed, cluster: &[u8]) -> Result<(), Error> {
    let unknown = fixed.features.incompatible.unknown().bits();
    if unknown == 0 {
        return Ok(());
    }
    let bit = unknown.trailing_zeros();
    let name = feature_name(fixed, cluster, bit).unwrap_or(FeatureName::EMPTY);
    Err(Error::UnknownFeature { bit, name, all: unknown })
}

/// What the image itself calls an incompatible feature bit. The extensions are not checked yet,
/// so a broken one only ends the search.
fn feature_name(fixed: &Fixed, cluster: &[u8], bit: u32) -> Option<FeatureName> {
    let mut walk = fixed.extension_area(cluster);
    while let Ok(Some(extension)) = walk.step() {
        if extension.magic == FEATURE_NAMES {
            return name_in(extension.data, FeatureKind::Incompatible, bit);
        }
    }
    None
}

fn decode_geometry(fixed: &Fixed, cluster_bits: ClusterBits) -> Result<Geometry, Error> {
    let extended = fixed.features.incompatible.contains(IncompatibleFeatures::EXTENDED_L2);
    let layout = if extended { L2Layout::Extended } else { L2Layout::Standard };
    // The subcluster size is looked at first, so that the first error is the same as elsewhere.
    Geometry::new(cluster_bits, RefcountOrder::DEFAULT, layout)?;
    Geometry::new(cluster_bits, RefcountOrder::new(fixed.refcount_order)?, layout)
}

fn decode_crypt_method(number: u32) -> Result<CryptMethod, Error> {
    match number {
        0 => Ok(CryptMethod::None),
        1 => Ok(CryptMethod::Aes),
        2 => Ok(CryptMethod::Luks),
        other => {
            Err(Error::number(HEADER, "crypt_method", Some(32), u64::from(other), "0, 1 or 2"))
        }
    }
}

/// L1, refcount and snapshot table, checked in the other order.
fn decode_tables(
    fixed: &Fixed,
    geometry: Geometry,
    purpose: Purpose,
) -> Result<(TablePointer, TablePointer, TablePointer), Error> {
    let head = &fixed.head;
    let refcount_table = TablePointer {
        offset: HostOffset::new(head.refcount_table_offset.get()),
        count: head.refcount_table_clusters.get(),
    };
    validate_refcount_table(geometry, refcount_table, purpose)?;
    let snapshot_table = TablePointer {
        offset: HostOffset::new(head.snapshots_offset.get()),
        count: head.nb_snapshots.get(),
    };
    validate_snapshot_table(geometry, snapshot_table)?;
    let l1_table = TablePointer {
        offset: HostOffset::new(head.l1_table_offset.get()),
        count: head.l1_size.get(),
    };
    validate_l1_table(geometry, l1_table, head.size.get())?;
    Ok((l1_table, refcount_table, snapshot_table))
}

/// A table must start at a cluster and end at a position that a file can have.
fn validate_place(
    geometry: Geometry,
    field: &'static str,
    at: u64,
    offset: HostOffset,
    bytes: u64,
) -> Result<(), Error> {
    let end = offset.get().checked_add(bytes);
    let fits = end.is_some_and(|end| i64::try_from(end).is_ok());
    if fits && geometry.is_cluster_aligned(offset.get()) {
        return Ok(());
    }
    let allowed = "a multiple of the cluster size whose table ends below 2^63";
    Err(Error::hex(HEADER, field, Some(at), offset.get(), allowed))
}

pub(super) fn validate_refcount_table(
    geometry: Geometry,
    table: TablePointer,
    purpose: Purpose,
) -> Result<(), Error> {
    let bytes = u64::from(table.count).saturating_mul(geometry.cluster_bytes());
    let empty = table.count == 0 && purpose == Purpose::Use;
    if empty || bytes > limit::REFCOUNT_TABLE_BYTES_MAX {
        let (field, allowed) = ("refcount_table_clusters", "1 cluster to 8 MiB");
        return Err(Error::number(HEADER, field, Some(56), u64::from(table.count), allowed));
    }
    validate_place(geometry, "refcount_table_offset", 48, table.offset, bytes)
}

pub(super) fn validate_snapshot_table(
    geometry: Geometry,
    table: TablePointer,
) -> Result<(), Error> {
    if table.count > limit::SNAPSHOT_COUNT_MAX {
        let found = u64::from(table.count);
        return Err(Error::number(HEADER, "nb_snapshots", Some(60), found, "0..=65536"));
    }
    // The true length is only known once the entries are read; none is shorter than 40 bytes.
    let bytes = u64::from(table.count).saturating_mul(40);
    validate_place(geometry, "snapshots_offset", 64, table.offset, bytes)
}

pub(super) fn validate_l1_table(
    geometry: Geometry,
    table: TablePointer,
    size: u64,
) -> Result<(), Error> {
    let bytes = u64::from(table.count).saturating_mul(8);
    let invalid =
        |allowed| Err(Error::number(HEADER, "l1_size", Some(36), u64::from(table.count), allowed));
    if bytes > limit::L1_TABLE_BYTES_MAX {
        return invalid("0..=4194304");
    }
    validate_place(geometry, "l1_table_offset", 40, table.offset, bytes)?;
    if geometry.l1_entries_for(size & !(limit::SECTOR_BYTES.saturating_sub(1)))
        > u64::from(table.count)
    {
        return invalid("as many entries as the virtual size needs");
    }
    Ok(())
}

fn decode_extensions(walk: &mut Walk<'_>, context: Context) -> Result<Vec<Placed>, Error> {
    let mut extensions = Vec::new();
    while let Some(extension) = walk.step()? {
        extensions.push(extension.decode(context)?);
    }
    let has_luks = extensions.iter().any(|placed| matches!(placed.extension, Extension::Luks(_)));
    if context.is_luks && !has_luks {
        let allowed = "2 only with the LUKS header extension";
        return Err(Error::number(HEADER, "crypt_method", Some(32), 2, allowed));
    }
    Ok(extensions)
}

fn decode_backing(fixed: &Fixed, cluster: &[u8]) -> Result<Backing, Error> {
    let offset = fixed.head.backing_file_offset.get();
    let size = fixed.head.backing_file_size.get();
    if offset == 0 {
        return Ok(Backing { offset, size, name: Vec::new() });
    }
    let name = usize::try_from(offset)
        .ok()
        .and_then(|from| cluster.get(from..from.checked_add(size as usize)?))
        .filter(|_| size <= limit::BACKING_NAME_BYTES_MAX);
    let Some(name) = name else {
        let allowed = "0..=1023 and inside cluster 0";
        return Err(Error::number(HEADER, "backing_file_size", Some(16), u64::from(size), allowed));
    };
    Ok(Backing { offset, size, name: until_nul(name).to_vec() })
}

/// The reference implementation keeps names as C strings.
pub(super) fn until_nul(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == 0).next().unwrap_or(name)
}
