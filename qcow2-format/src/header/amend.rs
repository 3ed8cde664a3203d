//! Headers of existing images with another version, refcount width or data file name.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::encode::encode_structured;
use super::raw::{V2_BYTES, V3_BYTES};
use super::{CompressionType, Header, TablePointer, Version, decode};
use crate::error::{Error, Structure};
use crate::extension::{self, Extension};
use crate::feature::{Features, IncompatibleFeatures};
use crate::geometry::{Geometry, RefcountOrder};

/// Longest name of an external data file, in bytes: what the reference implementation opens.
const DATA_FILE_NAME_BYTES_MAX: usize = 4095;

impl Header {
    /// The canonical form in another version of the format. Version 2 has no feature bits, and no
    /// fields that nobody here knows: compatible and autoclear bits and such fields are dropped.
    ///
    /// # Errors
    /// For version 2, an incompatible feature other than the compression type, or a refcount width
    /// other than 16 bits; the header does not fit into cluster 0.
    pub fn with_version(&self, version: Version) -> Result<Self, Error> {
        let mut header = self.clone();
        match (self.version, version) {
            (Version::V2, Version::V2) | (Version::V3, Version::V3) => {}
            (Version::V2, Version::V3) => {
                header.beyond_compression_type = Vec::new();
                header.header_length = V3_BYTES as u32;
            }
            (Version::V3, Version::V2) => {
                self.check_version_2()?;
                header.features = Features::default();
                header.compression_type = CompressionType::Deflate;
                header.beyond_compression_type = Vec::new();
                header.header_length = V2_BYTES as u32;
            }
        }
        header.version = version;
        header.rewritten()
    }

    fn check_version_2(&self) -> Result<(), Error> {
        let refuse = |field, offset, found, allowed| {
            Err(Error::number(Structure::Header, field, Some(offset), found, allowed))
        };
        let incompatible = self.features.incompatible;
        if !incompatible.without(IncompatibleFeatures::COMPRESSION_TYPE).is_empty() {
            let found = incompatible.bits();
            return refuse("incompatible_features", 72, found, "none in a version 2 header");
        }
        let order = self.geometry.refcount_order();
        if order != RefcountOrder::DEFAULT {
            let found = order.get().into();
            return refuse("refcount_order", 96, found, "4 in a version 2 header");
        }
        Ok(())
    }

    /// The same header with refcounts of another width, in another table.
    ///
    /// # Errors
    /// A width other than 16 bits in a version 2 header, or a table that is empty, too large or
    /// unaligned.
    pub fn with_refcounts(
        mut self,
        order: RefcountOrder,
        table: TablePointer,
    ) -> Result<Self, Error> {
        if self.version == Version::V2 && order != RefcountOrder::DEFAULT {
            let (found, allowed) = (order.get().into(), "4 in a version 2 header");
            let (field, at) = ("refcount_order", Some(96));
            return Err(Error::number(Structure::Header, field, at, found, allowed));
        }
        let (bits, layout) = (self.geometry.cluster_bits(), self.geometry.l2_layout());
        self.geometry = Geometry::new(bits, order, layout)?;
        decode::validate_refcount_table(self.geometry, table, decode::Purpose::Use)?;
        self.refcount_table = table;
        Ok(self)
    }

    /// The canonical form with another name of the external data file; `None` for no name.
    ///
    /// # Errors
    /// The name is longer than 4095 bytes, or the header does not fit into cluster 0.
    pub fn with_data_file_name(&self, name: Option<&[u8]>) -> Result<Self, Error> {
        if let Some(name) = name
            && name.len() > DATA_FILE_NAME_BYTES_MAX
        {
            let structure = Structure::Extension(extension::DATA_FILE_NAME);
            let found = name.len() as u64;
            return Err(Error::number(structure, "length", None, found, "0..=4095"));
        }
        let mut header = self.clone();
        header.replace(
            |extension| matches!(extension, Extension::DataFileName(_)),
            name.map(|name| Extension::DataFileName(name.to_vec())),
        );
        header.rewritten()
    }

    /// The canonical form without the table of feature names, which only makes messages nicer.
    ///
    /// # Errors
    /// The header does not fit into cluster 0.
    pub fn without_feature_names(&self) -> Result<Self, Error> {
        let mut header = self.rewritten()?;
        header.replace(|extension| matches!(extension, Extension::FeatureNames(_)), None);
        let name = core::mem::take(&mut header.backing.name);
        header.backing = super::Backing::default();
        header.rest = Vec::new();
        header.place_backing_name(name)?;
        Ok(header)
    }

    /// Where the backing file name lies in cluster 0, if there is one.
    #[must_use]
    pub fn backing_name_offset(&self) -> Option<u64> {
        self.backing_name().map(|_| self.backing.offset)
    }

    /// The same header with its backing file name at another place in cluster 0; nothing but zeros
    /// lies between the extensions and the name.
    ///
    /// # Errors
    /// The place is not behind the extensions, or the name does not fit there.
    pub fn with_backing_name_at(mut self, offset: u64) -> Result<Self, Error> {
        let start = encode_structured(&self).len() as u64;
        let end = offset.saturating_add(self.backing.name.len() as u64);
        let available = self.geometry.cluster_bytes();
        if offset < start || end > available {
            return Err(Error::HeaderSpace { needed: end.max(start), available });
        }
        self.rest = vec![0; offset.saturating_sub(start) as usize];
        self.rest.extend_from_slice(&self.backing.name);
        self.backing.offset = offset;
        Ok(self)
    }

    /// What means something in cluster 0: fields and extensions, and the backing file name. All
    /// other bytes are kept, and nobody reads them.
    #[must_use]
    pub fn occupied_parts(&self) -> [Range<u64>; 2] {
        let structured = encode_structured(self).len() as u64;
        let name = match self.backing.offset {
            0 => 0..0,
            offset => offset..offset.saturating_add(self.backing.size.into()),
        };
        [0..structured, name]
    }

    /// Bytes from the start of cluster 0 to the end of all that means something.
    #[must_use]
    pub fn occupied_bytes(&self) -> u64 {
        let [structured, name] = self.occupied_parts();
        structured.end.max(name.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{ClusterBits, L2Layout};
    use crate::header::HeaderBuilder;
    use crate::unit::HostOffset;

    const TABLE: TablePointer = TablePointer { offset: HostOffset::new(0x1_0000), count: 1 };

    fn header(version: Version) -> Header {
        let bits = ClusterBits::DEFAULT;
        let geometry = Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap();
        let l1 = TablePointer { offset: HostOffset::new(0x3_0000), count: 1 };
        HeaderBuilder::new(geometry, 1 << 20)
            .version(version)
            .refcount_table(TABLE)
            .l1_table(l1)
            .backing(b"base.raw", Some(b"raw"))
            .build()
            .unwrap()
    }

    fn reread(header: &Header) -> Header {
        Header::decode(&header.encode()).unwrap()
    }

    #[test]
    fn versions_change_there_and_back() {
        let (old, new) = (header(Version::V2), header(Version::V3));
        assert_eq!(reread(&old.with_version(Version::V3).unwrap()), new);
        assert_eq!(reread(&new.with_version(Version::V2).unwrap()), old);
        assert!(old.occupied_bytes() < new.occupied_bytes());
        assert_eq!(
            new.occupied_bytes() as usize,
            new.encode().iter().rposition(|b| *b != 0).unwrap() + 1
        );
    }

    #[test]
    fn names_move_behind_the_extensions() {
        let moved = header(Version::V3).with_backing_name_at(5000).unwrap();
        assert_eq!(reread(&moved).backing_name(), Some(&b"base.raw"[..]));
        assert_eq!(reread(&moved).backing_name_offset(), Some(5000));
        assert_eq!(moved.occupied_bytes(), 5008);
        assert!(header(Version::V3).with_backing_name_at(200).is_err());
        assert!(header(Version::V3).with_backing_name_at(65_530).is_err());
    }

    #[test]
    fn version_2_has_no_features() {
        let incompatible = IncompatibleFeatures::DIRTY;
        let features = Features { incompatible, ..Features::default() };
        let dirty = header(Version::V3).with_features(features).unwrap();
        assert!(dirty.with_version(Version::V2).is_err());
        let order = RefcountOrder::new(6).unwrap();
        let wide = header(Version::V3).with_refcounts(order, TABLE).unwrap();
        assert_eq!(reread(&wide).geometry().refcount_order(), order);
        assert!(wide.with_version(Version::V2).is_err());
        assert!(header(Version::V2).with_refcounts(order, TABLE).is_err());
    }

    #[test]
    fn names_of_data_files_change() {
        let named = header(Version::V3).with_data_file_name(Some(b"d.raw")).unwrap();
        assert_eq!(named.data_file_name(), Some(&b"d.raw"[..]));
        assert_eq!(named.with_data_file_name(None).unwrap(), header(Version::V3));
        assert!(named.with_data_file_name(Some(&[b'x'; 5000])).is_err());
    }
}
