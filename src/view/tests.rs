//! Amounts of chains whose layers cover each other.

use chain::{Format, OpenOptions};
use cow_engine::BackingReference;
use testkit::Folder;

use super::*;
use crate::create::{CreateOptions, create};

const CLUSTER: usize = 65536;

fn open(folder: &Folder, name: &str, format: Format) -> Chain {
    Chain::open(&folder.path(name), &OpenOptions::new().format(format)).unwrap()
}

/// A raw base of 16 clusters, all data; an overlay that is larger; a top that is larger still.
fn chain(folder: &Folder) -> Chain {
    folder.write("base", &vec![1; 16 * CLUSTER]);
    for (name, below, format, clusters) in
        [("middle", "base", "raw", 20), ("top", "middle", "qcow2", 32)]
    {
        let mut options = CreateOptions::new(Format::Qcow2, clusters * CLUSTER as u64);
        let (name_below, format) = (below.to_owned(), Some(format.to_owned()));
        options.qcow2.backing = Some(BackingReference { name: name_below, format });
        create(&folder.path(name), &options).unwrap();
    }
    let middle = open(folder, "middle", Format::Qcow2);
    middle.write_at(0, &[2; 4 * CLUSTER]).unwrap();
    middle.write_zeroes_at(8 * CLUSTER as u64, 2 * CLUSTER as u64, true).unwrap();
    let mut compressor = middle.compressor().unwrap();
    middle.write_compressed_at(&mut compressor, 18 * CLUSTER as u64, &[3; CLUSTER]).unwrap();
    middle.close().unwrap();
    let top = open(folder, "top", Format::Qcow2);
    top.write_at(2 * CLUSTER as u64, &[4; 3 * CLUSTER]).unwrap();
    top.flush().unwrap();
    top
}

#[test]
fn every_byte_is_counted_where_it_lies() {
    let folder = Folder::new();
    let chain = chain(&folder);
    let view = view(&chain, ViewOptions::default()).unwrap();
    let clusters = |bytes: u64| bytes / CLUSTER as u64;
    let layers: Vec<[u64; 6]> = view
        .layers
        .iter()
        .map(|layer| {
            let LayerView { visible_data, visible_zero, stored, hidden, compressed, zero, .. } =
                *layer;
            [visible_data, visible_zero, stored, hidden, compressed, zero].map(clusters)
        })
        .collect();
    assert_eq!(layers[0], [3, 0, 3, 0, 0, 0]);
    // Two of four are seen; the compressed one is, too; two clusters of zeros.
    assert_eq!(layers[1], [3, 2, 5, 2, 1, 2]);
    // Five are covered by data, two by zeros.
    assert_eq!(layers[2], [9, 0, 16, 7, 0, 0]);
    assert_eq!(clusters(view.map.unowned), 32 - 3 - 5 - 9);
    assert_eq!(clusters(view.map.zero), 32 - 3 - 3 - 9);
    let checks = view.layers.iter().map(|layer| layer.check.as_ref());
    let checks: Vec<bool> =
        checks.map(|check| check.is_some_and(|check| check.as_ref().unwrap().leaks == 0)).collect();
    assert_eq!(checks, [true, true, false]);
}

#[test]
fn cells_cover_the_disk_and_nothing_else() {
    let folder = Folder::new();
    let chain = chain(&folder);
    for cells in [0, 1, 3, 16, 1000, 1 << 20] {
        let options = ViewOptions { cells, check: false };
        let found = view(&chain, options).unwrap();
        let map = &found.map;
        assert!(map.cells.len() as u64 <= cells.max(1), "{cells}");
        assert!(map.cells.len() as u64 * map.cell_bytes >= found.virtual_size);
        let shares = map.cells.iter().flat_map(|cell| &cell.shares);
        let owned: u64 = shares.map(|share| share.bytes).sum();
        assert_eq!(owned + map.unowned, found.virtual_size, "{cells}");
        let sorted = |cell: &Cell| {
            cell.shares.is_sorted_by_key(|share| (share.depth, share.zero))
                && cell.shares.iter().map(|share| share.bytes).sum::<u64>() <= map.cell_bytes
        };
        assert!(map.cells.iter().all(sorted), "{cells}");
        assert!(found.layers.iter().all(|layer| layer.check.is_none()));
    }
    // Half of the first cell belongs to each of two layers.
    let found = view(&chain, ViewOptions { cells: 8, check: false }).unwrap();
    let share = |depth, clusters: u64| Share { depth, zero: false, bytes: clusters << 16 };
    assert_eq!(found.map.cells[0].shares, [share(0, 2), share(1, 2)]);
    assert_eq!(found.map.cells[1].shares, [share(0, 1), share(2, 3)]);
}

#[test]
fn an_empty_disk_has_no_cells() {
    let folder = Folder::new();
    folder.write("empty", &[]);
    let chain = open(&folder, "empty", Format::Raw);
    let view = view(&chain, ViewOptions::default()).unwrap();
    assert_eq!((view.map.cells.len(), view.map.cell_bytes), (0, 512));
}
