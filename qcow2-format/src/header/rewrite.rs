//! The canonical form of a header, and changes that move things inside cluster 0.

use alloc::vec;
use alloc::vec::Vec;

use super::encode::encode_structured;
use super::raw::{V2_BYTES, V3_BYTES};
use super::{Backing, Header, Version};
use crate::base_pin::BasePin;
use crate::bitmap::BitmapsExtension;
use crate::error::{Error, Structure};
use crate::extension::{BASE_PIN, Extension, Placed};
use crate::feature::{AutoclearFeatures, FeatureNameTable};
use crate::limit;

/// With clusters of this size or smaller the reference implementation leaves the feature name
/// table out, to keep room for a backing file name.
const FEATURE_NAMES_ABOVE_CLUSTER_BYTES: u64 = 4096;

impl Header {
    /// The header in the form that the reference implementation gives it whenever it rewrites
    /// cluster 0: all 112 bytes, padding zero, the virtual size without its remainder, the
    /// extensions in a fixed order, the backing file name right behind the end marker, zeros to
    /// the end.
    ///
    /// Kept: fields and extensions nobody here knows, in their order. Dropped: stray bytes, and
    /// a bitmaps extension whose autoclear bit is not set.
    ///
    /// # Errors
    /// [`Error::HeaderSpace`] when it does not fit into one cluster.
    pub fn rewritten(&self) -> Result<Self, Error> {
        let name = self.backing.name.clone();
        let mut header = Self {
            size: self.virtual_size(),
            end_marker: Some(0),
            backing: Backing::default(),
            extensions: self.canonical_extensions(),
            rest: Vec::new(),
            ..self.clone()
        };
        header.make_fields_canonical();
        header.place_backing_name(name)?;
        Ok(header)
    }

    fn make_fields_canonical(&mut self) {
        if self.version == Version::V2 {
            self.header_length = V2_BYTES as u32;
            return;
        }
        let unknown = self.unknown_fields().to_vec();
        let length = V3_BYTES.saturating_add(unknown.len());
        self.beyond_compression_type = vec![0; 7];
        self.beyond_compression_type.extend_from_slice(&unknown);
        self.header_length = u32::try_from(length).unwrap_or(u32::MAX);
    }

    fn canonical_extensions(&self) -> Vec<Placed> {
        let feature_names = self.version == Version::V3
            && self.geometry.cluster_bytes() > FEATURE_NAMES_ABOVE_CLUSTER_BYTES;
        let bitmaps =
            self.bitmaps().filter(|_| self.features.autoclear.contains(AutoclearFeatures::BITMAPS));
        let known = [
            self.backing_format().map(|name| Extension::BackingFormat(name.to_vec())),
            // Beside the format: what belongs to the backing file shares a sector.
            self.base_pin().map(Extension::BasePin),
            self.data_file_name().map(|name| Extension::DataFileName(name.to_vec())),
            self.luks().map(Extension::Luks),
            feature_names.then(|| Extension::FeatureNames(FeatureNameTable::standard())),
            bitmaps.map(Extension::Bitmaps),
        ];
        let unknown = self.extensions().filter(|e| matches!(e, Extension::Unknown { .. }));
        known.into_iter().flatten().chain(unknown.cloned()).map(Placed::canonical).collect()
    }

    /// Puts the name behind the end marker, where nothing else lies.
    pub(super) fn place_backing_name(&mut self, name: Vec<u8>) -> Result<(), Error> {
        let offset = encode_structured(self).len();
        let (needed, available) =
            (offset.saturating_add(name.len()) as u64, self.geometry.cluster_bytes());
        if needed > available {
            return Err(Error::HeaderSpace { needed, available });
        }
        if !name.is_empty() {
            let size = u32::try_from(name.len()).unwrap_or(u32::MAX);
            self.rest.clone_from(&name);
            self.backing = Backing { offset: offset as u64, size, name };
        }
        Ok(())
    }

    /// The canonical form with another backing file, of which nothing is remembered; `None` for none.
    ///
    /// # Errors
    /// The name is longer than 1023 bytes, the format name longer than 15, or all of it does not
    /// fit into cluster 0.
    pub fn with_backing(&self, name: Option<&[u8]>, format: Option<&[u8]>) -> Result<Self, Error> {
        self.with_pinned_backing(name, format, None)
    }

    /// The canonical form with another backing file, and what is remembered of it; the record will
    /// be about `name`. Without a name there is no record either.
    ///
    /// # Errors
    /// As for [`Header::with_backing`].
    pub fn with_pinned_backing(
        &self,
        name: Option<&[u8]>,
        format: Option<&[u8]>,
        pin: Option<&BasePin>,
    ) -> Result<Self, Error> {
        self.with_backing_unplaced(name, format, pin)?.rewritten()
    }

    /// The same before anything has its place.
    pub(super) fn with_backing_unplaced(
        &self,
        name: Option<&[u8]>,
        format: Option<&[u8]>,
        pin: Option<&BasePin>,
    ) -> Result<Self, Error> {
        let pin = name.and_then(|name| pin.map(|pin| pin.with_name(name)));
        let name = name.unwrap_or(&[]);
        if name.len() > limit::BACKING_NAME_BYTES_MAX as usize {
            let (found, allowed) = (name.len() as u64, "0..=1023");
            let (field, at) = ("backing_file_size", Some(16));
            return Err(Error::number(Structure::Header, field, at, found, allowed));
        }
        if let Some(format) = format
            && format.len() > limit::BACKING_FORMAT_BYTES_MAX
        {
            let structure = Structure::Extension(crate::extension::BACKING_FORMAT);
            let found = format.len() as u64;
            return Err(Error::number(structure, "length", None, found, "0..=15"));
        }
        let mut header = self.clone();
        header.backing.name = name.to_vec();
        header.replace(
            |extension| matches!(extension, Extension::BackingFormat(_)),
            format.map(|format| Extension::BackingFormat(format.to_vec())),
        );
        // A record of another version is about the former backing file, too.
        header.replace(|extension| extension.magic() == BASE_PIN, pin.map(Extension::BasePin));
        Ok(header)
    }

    /// The canonical form with another bitmaps extension, and the autoclear bit that vouches for
    /// it; `None` for neither.
    ///
    /// # Errors
    /// A version 2 image, a directory outside the limits, or no room in cluster 0.
    pub fn with_bitmaps(&self, bitmaps: Option<BitmapsExtension>) -> Result<Self, Error> {
        let mut header = self.clone();
        let mut features = self.features;
        features.autoclear = features.autoclear.without(AutoclearFeatures::BITMAPS);
        if let Some(bitmaps) = bitmaps {
            bitmaps.validate(self.geometry, 0)?;
            features.autoclear = features.autoclear.with(AutoclearFeatures::BITMAPS);
        }
        header.replace(
            |extension| matches!(extension, Extension::Bitmaps(_)),
            bitmaps.map(Extension::Bitmaps),
        );
        header.with_features(features)?.rewritten()
    }

    pub(super) fn replace(&mut self, drop: impl Fn(&Extension) -> bool, add: Option<Extension>) {
        self.extensions.retain(|placed| !drop(&placed.extension));
        self.extensions.extend(add.map(Placed::canonical));
    }
}
