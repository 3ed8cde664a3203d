//! Another size for the disk of a chain: only the top layer gets it, and new area is zeros whatever
//! lies below.

use chain::Error;
use cow_engine::{Preallocation, ResizeOptions, ResizeRefusal};
use testkit::Rng;

use crate::images::{Built, Shape, random_chain, read_all};

fn options() -> ResizeOptions {
    ResizeOptions::new().shrink(true)
}

#[test]
fn the_top_of_any_chain_grows_and_shrinks() {
    let mut rng = Rng::announced(0x512e);
    let mut refused = 0;
    for _ in 0..12 {
        let mut built = random_chain(&mut rng);
        let sizes: Vec<u64> = (0..built.layers.len() - 1)
            .map(|layer| built.open_layer(layer).virtual_size())
            .collect();
        for _ in 0..3 {
            let present = built.model.active().len() as u64;
            let size = (1 + rng.below(present / 256)) * 512;
            let mut chain = built.open_writable();
            match chain.resize(size, options()) {
                Ok(()) => built.model.active_mut().resize(size as usize),
                Err(Error::Image { source: cow_engine::Error::Resize(refusal), .. }) => {
                    let longer = matches!(refusal, ResizeRefusal::LongerBacking { .. });
                    assert!(longer && size > present, "{refusal}");
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
            built.model.active().assert_at(0, &read_all(&chain));
            chain.close().unwrap();
            built.assert_shows_model();
        }
        for (layer, size) in sizes.into_iter().enumerate() {
            assert_eq!(built.open_layer(layer).virtual_size(), size, "a layer below has changed");
        }
    }
    assert!(refused < 12, "{refused} of 36 refused");
}

#[test]
fn raw_disks_have_no_metadata_to_prepare() {
    let mut built = Built::on_raw(&[7; 70_000]);
    let mut chain = built.open_writable();
    assert!(chain.plan_resize(1 << 20, options()).unwrap().is_none());
    let ahead = |how| ResizeOptions::new().preallocation(how);
    let refused = chain.resize(1 << 20, ahead(Preallocation::Metadata));
    assert!(matches!(refused, Err(Error::RawPreallocation { .. })), "{refused:?}");
    let refused = chain.resize(4096, ResizeOptions::new());
    assert!(matches!(refused, Err(Error::Image { .. })), "{refused:?}");
    assert_eq!(chain.virtual_size(), 70_144);
    for (size, options) in [
        (1 << 20, ahead(Preallocation::Falloc)),
        (3 << 19, ahead(Preallocation::Full)),
        (100_000, options()),
        (1 << 20, options()),
    ] {
        chain.resize(size, options).unwrap();
        built.model.active_mut().resize((size as usize).next_multiple_of(512));
        built.model.active().assert_at(0, &read_all(&chain));
    }
    chain.close().unwrap();
    built.assert_shows_model();
}

#[test]
fn a_chain_that_is_only_read_keeps_its_size() {
    let built = Built::on_qcow2(Shape::of(1 << 20));
    let mut chain = built.open();
    assert!(matches!(chain.resize(2 << 20, options()), Err(Error::ReadOnly)));
    assert!(matches!(chain.plan_resize(2 << 20, options()), Err(Error::ReadOnly)));
    assert_eq!(chain.virtual_size(), 1 << 20);
}
