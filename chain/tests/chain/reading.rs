//! Reading through chains: every byte from the layer that owns it.

use chain::Format;
use testkit::{Pattern, Rng};

use crate::images::{Built, Shape, random_chain, read_all};
use crate::operation::{Operation, range};

#[test]
fn random_chains_show_what_the_model_and_the_real_tools_show() {
    let mut rng = Rng::announced(0xc4a1_0001);
    for number in 0..12 {
        let built = random_chain(&mut rng);
        eprintln!("chain {number} of {} layers", built.layers.len());
        built.assert_shows_model();
        for index in 0..built.layers.len() {
            let (chain, model) = (built.open_layer(index), built.model.layer(index));
            assert_eq!(chain.virtual_size() as usize, model.len());
            assert_eq!(chain.depth(), index + 1);
            model.assert_at(0, &read_all(&chain));
            for _ in 0..30 {
                let (offset, len) = range(&mut rng, chain.virtual_size(), 4096);
                let mut bytes = vec![0xaa; len as usize];
                chain.read_at(offset, &mut bytes).unwrap();
                model.assert_at(offset, &bytes);
            }
        }
    }
}

/// CH-4: a layer that ends early hides what lies further below, for good.
#[test]
fn ch_4_beyond_the_end_of_a_layer_there_are_zeros() {
    let mut built = Built::on_raw(&Pattern::new(1).bytes(0, 400_000));
    built.push(Shape::of(100_352)); // shorter
    built.push(Shape { ours: true, ..Shape::of(300_032) }); // longer again
    built.push(Shape::of(600_064));
    let chain = built.open();
    let bytes = read_all(&chain);
    Pattern::new(1).assert_at(0, &bytes[..100_352]);
    assert!(bytes[100_352..].iter().all(|&byte| byte == 0), "zeros beyond the short layer");
    built.assert_shows_model();
    drop(chain);
    // What is written above the end of the short layer is all that appears there.
    built.change(true, &[Operation::write(200_000, 10, 5)]);
    built.assert_shows_model();
    let formats: Vec<_> = built.open().layers().map(chain::Layer::format).collect();
    assert_eq!(formats, [Format::Qcow2, Format::Qcow2, Format::Qcow2, Format::Raw]);
}

#[test]
fn a_raw_base_may_end_inside_a_sector() {
    let mut built = Built::on_raw(&Pattern::new(2).bytes(0, 100_000));
    built.push(Shape::of(200_192));
    let chain = built.open();
    assert_eq!(chain.layers().last().unwrap().virtual_size(), 100_352);
    let mut bytes = [0xaa; 1000];
    chain.read_at(99_500, &mut bytes).unwrap();
    Pattern::new(2).assert_at(99_500, &bytes[..500]);
    assert_eq!(bytes[500..], [0; 500]);
    built.assert_shows_model();
}

#[test]
fn zero_clusters_hide_the_base() {
    for version_2 in [false, true] {
        for ours in [false, true] {
            let mut built = Built::on_raw(&Pattern::new(3).bytes(0, 1 << 20));
            built.push(Shape { version_2, ours, ..Shape::of(1 << 20) });
            let zeros = [
                Operation::zero(0, 65536, false),
                Operation::zero(131_072, 65536, true),
                Operation::zero(200_000, 1000, false),
                Operation::zero(300_000, 200_000, true),
            ];
            built.change(ours, &zeros);
            built.push(Shape::of(1 << 20));
            built.change(!ours, &[Operation::write(1000, 10, 4)]);
            built.assert_shows_model();
        }
    }
}

#[test]
fn compressed_layers_are_read_at_every_cluster_size() {
    for cluster_bits in [9, 12, 16, 21] {
        for zstd in [false, true] {
            let size = (3 << cluster_bits.max(16)) + 1536;
            let cluster = 1 << cluster_bits;
            let mut built = Built::on_raw(&Pattern::new(6).bytes(0, size as usize));
            for ours in [false, true] {
                built.push(Shape { cluster_bits, zstd, ours, ..Shape::of(size) });
                let blobs = [
                    Operation::compressed(0, cluster, 7 + u64::from(ours)),
                    Operation::compressed(cluster * 2, cluster, 9 + u64::from(ours)),
                ];
                built.change(ours, &blobs);
            }
            built.assert_shows_model();
        }
    }
}

#[test]
fn requests_outside_the_disk_are_refused() {
    let mut built = Built::on_raw(&[1; 2048]);
    built.push(Shape::of(1024));
    let chain = built.open_writable();
    for (offset, len) in [(1024, 1), (0, 1025), (u64::MAX, 1), (u64::MAX - 1, 512)] {
        let mut bytes = vec![0; len];
        let errors = [
            chain.read_at(offset, &mut bytes).unwrap_err(),
            chain.write_at(offset, &bytes).unwrap_err(),
            chain.write_zeroes_at(offset, len as u64, true).unwrap_err(),
            chain.status_at(offset, len as u64).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, chain::Error::OutOfRange { size: 1024, .. }), "{error}");
        }
    }
    chain.read_at(1024, &mut []).unwrap();
    chain.write_at(1024, &[]).unwrap();
    chain.write_zeroes_at(1024, 0, false).unwrap();
    assert_eq!(chain.status_at(1024, 0).unwrap().len, 0);
}
