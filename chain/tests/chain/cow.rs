//! Copy-on-write: a partial write takes the rest of its cluster from whichever layer owns it.

use chain::{Chain, Error, OpenOptions};
use testkit::{Pattern, Rng};

use crate::images::{Built, Shape, random_chain};
use crate::operation::{Operation, range};

const CLUSTER: u64 = 65536;
/// Not a multiple of the cluster size.
const SIZE: u64 = 6 * CLUSTER + 2560;

/// A base, three layers that own one cluster each, and an empty top. Cluster 5 and the partial
/// last one belong to the base.
fn layered(raw: bool, zstd: bool, cluster_bits: u32) -> Built {
    let shape = Shape { zstd, cluster_bits, ..Shape::of(SIZE) };
    let mut built = if raw {
        Built::on_raw(&Pattern::new(1).bytes(0, SIZE as usize))
    } else {
        let mut built = Built::on_qcow2(shape);
        built.change(false, &[Operation::write(0, SIZE, 1)]);
        built
    };
    let owned = [
        Operation::write(CLUSTER, CLUSTER, 2),
        Operation::compressed(2 * CLUSTER, CLUSTER, 3),
        Operation::zero(3 * CLUSTER, CLUSTER, false),
    ];
    for (number, operation) in owned.into_iter().enumerate() {
        built.push(Shape { ours: number == 1, ..shape }).change(number == 1, &[operation]);
    }
    built.push(Shape { ours: true, ..shape });
    built
}

#[test]
fn old_bytes_come_from_any_layer_below() {
    for (raw, zstd, cluster_bits) in
        [(true, false, 16), (false, true, 16), (true, true, 12), (false, false, 9)]
    {
        let mut built = layered(raw, zstd, cluster_bits);
        let middle_of_each = (0..6).map(|n| Operation::write(n * CLUSTER + 30_011, 5001, 10 + n));
        let mut operations: Vec<_> = middle_of_each.collect();
        // The last, partial cluster; and one write over the borders of three layers.
        operations.push(Operation::write(SIZE - 700, 700, 20));
        built.change(true, &operations);
        built.assert_shows_model();
        built.change(false, &[Operation::write(CLUSTER - 100, 2 * CLUSTER + 200, 21)]);
        built.change(true, &[Operation::write(3 * CLUSTER - 7, CLUSTER, 22)]);
        built.assert_shows_model();
    }
}

/// CH-2: whatever is written through the top, the layers below keep every byte.
#[test]
fn ch_2_only_the_top_layer_is_written() {
    let mut built = layered(false, false, 16);
    let below: Vec<_> = built.layers[..4].iter().map(|(p, _)| std::fs::read(p).unwrap()).collect();
    let mut rng = Rng::announced(0xc4a1_0002);
    for _ in 0..20 {
        let operation = Operation::anywhere(&mut rng, SIZE, CLUSTER);
        built.change(true, &[operation]);
    }
    for ((path, _), before) in built.layers.iter().zip(&below) {
        assert!(std::fs::read(path).unwrap() == *before, "{} has changed", path.display());
    }
    let chain = built.open_writable();
    assert!(chain.layers().skip(1).all(|layer| layer.storage().is_read_only()));
    assert!(chain.layers().skip(1).all(|layer| layer.image().unwrap().is_read_only()));
    assert!(!chain.top().storage().is_read_only());
    drop(chain);
    built.assert_shows_model();
}

#[test]
fn a_read_only_chain_refuses_every_change_and_leaves_the_file_alone() {
    let built = layered(true, false, 16);
    let before = std::fs::read(built.top()).unwrap();
    let chain = built.open();
    assert!(chain.is_read_only());
    assert!(matches!(chain.write_at(0, &[1]), Err(Error::ReadOnly)));
    assert!(matches!(chain.write_zeroes_at(0, 1, false), Err(Error::ReadOnly)));
    chain.flush().unwrap();
    chain.close().unwrap();
    assert!(std::fs::read(built.top()).unwrap() == before);
}

#[test]
fn a_raw_top_is_written_in_place() {
    let mut built = Built::on_raw(&Pattern::new(1).bytes(0, 100_000));
    let mut operations = vec![Operation::write(5, 700, 2), Operation::zero(8192, 9000, true)];
    operations.extend([Operation::zero(40_000, 5000, false), Operation::write(99_990, 362, 3)]);
    built.change(true, &operations);
    built.assert_shows_model();
}

#[test]
fn random_chains_are_changed_as_the_model_says() {
    let mut rng = Rng::announced(0xc4a1_0003);
    for _ in 0..8 {
        let mut built = random_chain(&mut rng);
        let size = built.model.active().len() as u64;
        let chain = built.open_writable();
        for _ in 0..40 {
            let operation = Operation::anywhere(&mut rng, size, 8192);
            operation.on_chain(&chain);
            operation.on_model(built.model.active_mut());
            let (offset, len) = range(&mut rng, size, 8192);
            let mut bytes = vec![0xaa; len as usize];
            chain.read_at(offset, &mut bytes).unwrap();
            built.model.active().assert_at(offset, &bytes);
        }
        chain.close().unwrap();
        built.assert_shows_model();
    }
}

#[test]
fn without_backing_files_only_the_top_shows() {
    let built = layered(true, false, 16);
    let options = OpenOptions::new().format(chain::Format::Qcow2).backing(false).read_only(true);
    let alone = Chain::open(built.top(), &options).unwrap();
    assert_eq!(alone.depth(), 1);
    assert_eq!(alone.top().backing_name().as_deref(), Some("layer-3.qcow2"));
    let mut bytes = [0xaa; 512];
    alone.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 512]);
}
