//! A new image and what is done to it: after every history the contents are those of plain bytes,
//! and nothing is wrong with the image, not even a leak.

mod shape;
mod world;

use shape::Shape;
use world::World;

use crate::input::Input;

/// Operations of one input.
const OPERATIONS_MAX: usize = 48;

/// Takes six bytes for the image, then eight for each operation.
///
/// # Panics
/// Contents differ from the model, an operation fails, or the image is not sound.
pub fn operations(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new(&Shape::take(&mut input));
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.reopen();
    world.compare(0..world.model.len());
    world.sound();
}
