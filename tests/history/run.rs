//! The histories themselves, one after the other until the steps are used up.

use qimg::chain::Format;
use testkit::Rng;

use super::world::World;

/// Steps of all histories of a test, unless the environment says otherwise.
const STEPS: u64 = 140;
/// Steps of one history, at most.
const STEPS_OF_ONE: u64 = 60;

fn run(base: Format, seed: u64) {
    let mut rng = Rng::announced(seed);
    let steps = std::env::var("QIMG_HISTORY_STEPS");
    let mut left =
        steps.map_or(STEPS, |text| text.parse().expect("QIMG_HISTORY_STEPS is a number"));
    while left > 0 {
        let steps = left.min(STEPS_OF_ONE);
        let mut world = World::new(rng.fork(), base);
        (0..steps).for_each(|_| world.step());
        world.finish();
        left -= steps;
    }
}

#[test]
fn on_a_raw_base() {
    run(Format::Raw, 0x4157_0001);
}

#[test]
fn on_a_qcow2_base() {
    run(Format::Qcow2, 0x4157_0002);
}
