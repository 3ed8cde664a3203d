//! Host space: what is reserved, what is written, what stays a hole; and objects of fixed size.

use std::sync::Arc;

use block_io::{Create, ExtentKind, FileStorage, MemoryStorage, OpenOptions, Storage, StorageExt};
use cow_engine::{
    CreateOptions, DataFileReference, Image, Preallocation, create, create_with_data_file,
};
use testkit::{Call, FaultStorage, Folder};

const SIZE: u64 = 3 << 20;

fn file(folder: &Folder, name: &str) -> FileStorage {
    OpenOptions::new().write(true).create(Create::Truncate).open(folder.path(name)).unwrap()
}

fn options(mode: Preallocation) -> CreateOptions {
    let mut options = CreateOptions::new(SIZE);
    options.preallocation = mode;
    options
}

#[test]
fn metadata_keeps_holes_and_the_others_take_space() {
    let folder = Folder::new();
    for (mode, takes) in [
        (Preallocation::Metadata, false),
        (Preallocation::Falloc, true),
        (Preallocation::Full, true),
    ] {
        let storage = file(&folder, "image");
        create(&storage, &options(mode)).unwrap();
        assert_eq!(storage.len().unwrap(), (5 << 16) + SIZE);
        assert_eq!(storage.allocated_bytes().unwrap() >= SIZE, takes, "{mode}");
        // Reserved space is not written yet; the host tells the difference.
        let extent = storage.extent_at(5 << 16).unwrap().unwrap();
        assert_eq!(extent.kind == ExtentKind::Data, mode == Preallocation::Full, "{mode}");
    }
}

#[test]
fn space_of_an_external_data_file() {
    let folder = Folder::new();
    for (mode, takes) in [
        (Preallocation::Off, false),
        (Preallocation::Metadata, false),
        (Preallocation::Falloc, true),
        (Preallocation::Full, true),
    ] {
        let (storage, data) = (file(&folder, "image"), file(&folder, "data"));
        let mut options = options(mode);
        options.data_file = Some(DataFileReference { name: "data".into(), raw: false });
        create_with_data_file(&storage, &data, &options).unwrap();
        assert_eq!(data.len().unwrap(), SIZE);
        assert_eq!(data.allocated_bytes().unwrap() >= SIZE, takes, "{mode}");
        assert!(storage.allocated_bytes().unwrap() < 400 << 10);
    }
}

#[test]
fn tables_are_written_in_large_pieces() {
    let storage = FaultStorage::new(MemoryStorage::new());
    let mut options = options(Preallocation::Metadata);
    options.cluster_bits = qcow2_format::ClusterBits::new(12).unwrap();
    options.virtual_size = 4 << 30;
    create(&storage, &options).unwrap();
    let counts = storage.counts();
    // 8 MiB of L2 tables and 2 MiB of counts.
    assert!(counts.written_bytes > 10 << 20, "{counts}");
    assert!(counts.of(Call::Write) < 16, "{counts}");
    assert_eq!((counts.of(Call::WriteZeroes), counts.of(Call::Allocate)), (0, 1), "{counts}");
}

/// Like a block device: keeps its length, and its old bytes.
#[derive(Debug)]
struct Fixed(MemoryStorage);

macro_rules! pass_on {
    ($(fn $name:ident(&self $(, $arg:ident: $kind:ty)*) -> $answer:ty;)*) => {
        $(fn $name(&self $(, $arg: $kind)*) -> block_io::Result<$answer> {
            self.0.$name($($arg),*)
        })*
    };
}

impl Storage for Fixed {
    pass_on! {
        fn len(&self) -> u64;
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize;
        fn read_vectored_at(&self, offset: u64, bufs: &mut [std::io::IoSliceMut<'_>]) -> usize;
        fn write_at(&self, offset: u64, buf: &[u8]) -> ();
        fn write_vectored_at(&self, offset: u64, bufs: &[std::io::IoSlice<'_>]) -> ();
        fn write_zeroes_at(&self, offset: u64, len: u64) -> ();
        fn punch_hole(&self, offset: u64, len: u64) -> bool;
        fn allocate(&self, offset: u64, len: u64) -> ();
        fn sync(&self) -> ();
        fn extent_at(&self, offset: u64) -> Option<block_io::Extent>;
        fn allocated_bytes(&self) -> u64;
        fn identity(&self) -> Option<block_io::FileId>;
        fn modified(&self) -> Option<i64>;
        fn lock(&self, lock: block_io::Lock) -> ();
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}

    fn begin_sync(&self) {}

    fn set_len(&self, len: u64) -> block_io::Result<()> {
        assert!(len <= self.0.len()?, "too small");
        Ok(())
    }

    fn alignment(&self) -> block_io::Alignment {
        self.0.alignment()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

#[test]
fn nothing_old_shows_on_an_object_of_fixed_size() {
    let full = |bytes: u64| {
        let storage = MemoryStorage::new();
        storage.write_at(0, &vec![0xaa; bytes as usize]).unwrap();
        Arc::new(Fixed(storage))
    };
    for mode in
        [Preallocation::Off, Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full]
    {
        let storage = full(8 << 20);
        create(&*storage, &options(mode)).unwrap();
        let shared: Arc<dyn Storage> = Arc::<Fixed>::clone(&storage);
        let image = Image::open(shared, cow_engine::OpenOptions::new()).unwrap();
        let mut bytes = vec![1; SIZE as usize];
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0), "{mode}");
        let new = MemoryStorage::new();
        create(&new, &options(mode)).unwrap();
        let len = new.len().unwrap() as usize;
        let (mut expected, mut found) = (vec![0; len], vec![0; len]);
        new.read_exact_at(0, &mut expected).unwrap();
        storage.read_exact_at(0, &mut found).unwrap();
        assert!(expected == found, "{mode}");

        let (storage, data) = (full(8 << 20), full(SIZE + 512));
        let mut options = options(mode);
        options.data_file = Some(DataFileReference { name: "data".into(), raw: true });
        create_with_data_file(&*storage, &*data, &options).unwrap();
        let mut found = vec![1; SIZE as usize];
        data.read_exact_at(0, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == 0), "{mode}");
    }
}
