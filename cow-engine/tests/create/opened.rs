//! New images in use: they read as zeros, and a preallocated one takes writes without growing.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage, StorageExt};
use cow_engine::{Image, OpenOptions, Preallocation, create, create_with_data_file};
use testkit::{Folder, Pattern, Qemu, Rng};

use crate::choice::any_preallocated;

#[test]
fn a_preallocated_image_takes_writes_where_they_are() {
    let mut rng = Rng::announced(0x09e4);
    let folder = Folder::new();
    for round in 0..40 {
        let mut options = any_preallocated(&mut rng);
        options.backing = None;
        options.virtual_size = options.virtual_size.clamp(512, 8 << 20);
        if options.preallocation == Preallocation::Off {
            options.preallocation = Preallocation::Metadata;
        }
        let (storage, data) = (Arc::new(MemoryStorage::new()), Arc::new(MemoryStorage::new()));
        let mut open = OpenOptions::new();
        if let Some(file) = &mut options.data_file {
            file.name = folder.path("data").to_str().unwrap().to_owned();
            create_with_data_file(&*storage, &*data, &options).unwrap();
            let data: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&data);
            open = open.data_file(Some(data));
        } else {
            create(&*storage, &options).unwrap();
        }
        let len = storage.len().unwrap();
        let shared: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&storage);
        let image = Image::open(shared, open).unwrap();
        let size = options.virtual_size as usize;
        let mut model = vec![0; size];
        let mut found = vec![1; size];
        image.read_at(0, &mut found).unwrap();
        assert!(found == model, "round {round}: not zeros");
        for step in 0..20 {
            let start = rng.below(size as u64) as usize;
            let bytes = &mut model[start..(start + 70_000).min(size)];
            Pattern::new(step + 1).fill(start as u64, bytes);
            image.write_at(start as u64, bytes).unwrap();
        }
        image.read_at(0, &mut found).unwrap();
        assert!(found == model, "round {round}: not what was written");
        image.close().unwrap();
        assert_eq!(storage.len().unwrap(), len, "round {round}: the file grew");
        let all = |storage: &MemoryStorage| {
            let mut bytes = vec![0; storage.len().unwrap() as usize];
            storage.read_exact_at(0, &mut bytes).unwrap();
            bytes
        };
        if options.data_file.is_some() {
            folder.write("data", &all(&data));
        }
        let path = folder.write("image", &all(&storage));
        Qemu::check(&path);
        Qemu::assert_same(("qcow2", &path), ("raw", &folder.write("raw", &model)));
    }
}
