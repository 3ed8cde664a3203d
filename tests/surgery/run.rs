//! The histories themselves, one after the other until the steps are used up.

use qimg::chain::Format;
use testkit::Rng;

use super::world::World;

/// Steps of all histories of a test, unless the environment says otherwise.
const STEPS: u64 = 60;
/// Steps of one history, at most.
const STEPS_OF_ONE: u64 = 20;

fn run(base: Format, seed: u64) {
    let mut rng = Rng::announced(seed);
    let mut left = testkit::number_from("QIMG_SURGERY_STEPS").unwrap_or(STEPS);
    while left > 0 {
        let steps = left.min(STEPS_OF_ONE);
        let mut world = World::new(rng.fork(), base);
        world.assert_sound();
        (0..steps).for_each(|_| world.step());
        left -= steps;
    }
}

#[test]
fn on_a_raw_base() {
    run(Format::Raw, 0x5375_0001);
}

#[test]
fn on_a_qcow2_base() {
    run(Format::Qcow2, 0x5375_0002);
}
