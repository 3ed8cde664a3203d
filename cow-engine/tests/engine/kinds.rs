//! Kinds of images: every dialect that the engine writes, made in memory and opened again.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, CreateOptions, DataFileReference, Image, OpenOptions, Preallocation};
use qcow2_format::{ClusterBits, CompressionType, RefcountOrder, Version};

/// Where guest data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// In the image file.
    Inside,
    /// In a file of its own.
    Outside,
    /// In a file of its own that is a raw image of the disk.
    Raw,
}

/// What an image is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) size: u64,
    pub(crate) cluster_bits: u32,
    pub(crate) version: Version,
    /// Counts have `1 << refcount_order` bits.
    pub(crate) refcount_order: u32,
    pub(crate) extended_l2: bool,
    pub(crate) lazy_refcounts: bool,
    pub(crate) compression: CompressionType,
    pub(crate) preallocation: Preallocation,
    pub(crate) data: Data,
    pub(crate) l2_cache_bytes: u64,
}

/// The files of one image.
#[derive(Clone, Debug)]
pub(crate) struct Media<S> {
    pub(crate) image: Arc<S>,
    pub(crate) data: Option<Arc<S>>,
}

impl Kind {
    /// Version 3 with 16-bit counts, everything else off.
    pub(crate) const fn standard(size: u64, cluster_bits: u32) -> Self {
        Self {
            size,
            cluster_bits,
            version: Version::V3,
            refcount_order: 4,
            extended_l2: false,
            lazy_refcounts: false,
            compression: CompressionType::Deflate,
            preallocation: Preallocation::Off,
            data: Data::Inside,
            l2_cache_bytes: 0,
        }
    }

    /// The same with subclusters.
    pub(crate) const fn extended(size: u64, cluster_bits: u32) -> Self {
        Self { extended_l2: true, ..Self::standard(size, cluster_bits) }
    }

    pub(crate) const fn lazy(self) -> Self {
        Self { lazy_refcounts: true, ..self }
    }

    pub(crate) const fn with_data(self, data: Data) -> Self {
        Self { data, ..self }
    }

    pub(crate) const fn width(self, order: u32) -> Self {
        Self { refcount_order: order, ..self }
    }

    pub(crate) const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn create_options(&self) -> CreateOptions {
        let mut options = CreateOptions::new(self.size);
        options.cluster_bits = ClusterBits::new(self.cluster_bits).unwrap();
        options.version = self.version;
        options.refcount_order = RefcountOrder::new(self.refcount_order).unwrap();
        options.extended_l2 = self.extended_l2;
        options.lazy_refcounts = self.lazy_refcounts;
        options.compression_type = self.compression;
        options.preallocation = self.preallocation;
        let raw = self.data == Data::Raw;
        options.data_file = (self.data != Data::Inside)
            .then(|| DataFileReference { name: "disk.data".to_owned(), raw });
        options
    }

    /// Makes a new image of this kind in these files.
    pub(crate) fn create<S: Storage>(&self, media: &Media<S>) {
        let options = self.create_options();
        match &media.data {
            None => cow_engine::create(&*media.image, &options),
            Some(data) => cow_engine::create_with_data_file(&*media.image, &**data, &options),
        }
        .unwrap();
    }

    /// A new image of this kind in memory.
    pub(crate) fn memory(&self) -> Media<MemoryStorage> {
        let media = Media {
            image: Arc::new(MemoryStorage::new()),
            data: (self.data != Data::Inside).then(|| Arc::new(MemoryStorage::new())),
        };
        self.create(&media);
        media
    }

    /// Opens for writing over a layer, or nothing.
    pub(crate) fn open<S: Storage + 'static>(
        &self,
        media: &Media<S>,
        backing: Option<Arc<dyn Backing>>,
    ) -> Image {
        self.try_open(media, backing).unwrap()
    }

    pub(crate) fn try_open<S: Storage + 'static>(
        &self,
        media: &Media<S>,
        backing: Option<Arc<dyn Backing>>,
    ) -> cow_engine::Result<Image> {
        let image: Arc<dyn Storage> = Arc::<S>::clone(&media.image);
        let options = OpenOptions::new().backing(backing).data_file(media.data());
        Image::open(image, options.l2_cache_bytes(self.l2_cache_bytes))
    }
}

impl<S: Storage + 'static> Media<S> {
    pub(crate) fn data(&self) -> Option<Arc<dyn Storage>> {
        self.data.clone().map(|data| data as Arc<dyn Storage>)
    }

    /// Opens without the right to change anything.
    pub(crate) fn open_read_only(
        &self,
        backing: Option<Arc<dyn Backing>>,
    ) -> cow_engine::Result<Image> {
        let image: Arc<dyn Storage> = Arc::<S>::clone(&self.image);
        let options = OpenOptions::new().read_only(true);
        Image::open(image, options.backing(backing).data_file(self.data()))
    }

    /// The same files, each in a wrapper.
    pub(crate) fn wrapped<W>(&self, wrap: impl Fn(&Arc<S>) -> W) -> Media<W> {
        Media {
            image: Arc::new(wrap(&self.image)),
            data: self.data.as_ref().map(|data| Arc::new(wrap(data))),
        }
    }
}
