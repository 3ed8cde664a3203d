//! Deep chains: no recursion, and no time or memory out of proportion.

use std::time::{Duration, Instant};

use chain::{Chain, Format, OpenOptions};
use testkit::{Pattern, Rng};

use crate::images::{Built, Shape, read_all};
use crate::operation::Operation;

const LAYERS: usize = 400;
const SIZE: u64 = 4 << 20;

fn deep() -> Built {
    let mut built = Built::on_raw(&Pattern::new(1).bytes(0, SIZE as usize));
    for layer in 1..LAYERS {
        built.push(Shape { ours: true, cluster_bits: 12, ..Shape::of(SIZE) });
        if layer % 7 == 0 {
            let offset = layer as u64 * 9973 % (SIZE - 9000);
            built.change(true, &[Operation::write(offset, 9000, layer as u64)]);
        }
    }
    built
}

/// A stack of a quarter megabyte would not survive one frame per layer with a buffer in it.
fn on_a_small_stack<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(256 << 10);
        builder.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

#[test]
fn four_hundred_layers_are_opened_read_and_written() {
    let mut built = deep();
    let begun = Instant::now();
    let top = built.top().to_owned();
    let model = built.model.active_mut();
    on_a_small_stack(|| {
        let chain = Chain::open(&top, &OpenOptions::new().format(Format::Qcow2)).unwrap();
        assert_eq!(chain.depth(), LAYERS);
        model.assert_at(0, &read_all(&chain));
        let mut rng = Rng::announced(0xc4a1_0005);
        for _ in 0..200 {
            let operation = Operation::anywhere(&mut rng, SIZE, 4096);
            operation.on_chain(&chain);
            operation.on_model(model);
            let offset = rng.below(SIZE - 4096);
            let mut bytes = [0; 4096];
            chain.read_at(offset, &mut bytes).unwrap();
            model.assert_at(offset, &bytes);
        }
        let mut at = 0;
        while at < SIZE {
            let status = chain.status_at(at, SIZE - at).unwrap();
            assert!(status.data || status.zero, "{status:?}");
            at += status.len;
        }
        model.assert_at(0, &read_all(&chain));
        chain.close().unwrap();
    });
    // Milliseconds on an idle machine; a cost that grows with the square of the depth shows.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    testkit::Qemu::check(&top);
}
