//! What comes out of a pipe is a clean image that shows what its sources show.

use std::cell::Cell;
use std::io::{self, Write};

use proptest::prelude::*;
use qimg::chain::{Chain, Format, OpenOptions};
use qimg::convert::{StreamError, StreamOptions, plan_stream, stream_out};
use qimg::create::Qcow2Options;
use qimg::engine::BackingReference;
use testkit::Qemu;

use crate::world::{World, layers, shapes};

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn images_are_clean_and_show_the_same(
        layers in layers(),
        raw_base in any::<bool>(),
        qcow2 in shapes(),
        everything in prop::bool::weighted(0.2),
        readers in 1_usize..4,
    ) {
        let world = World::new(&layers, raw_base);
        let options =
            StreamOptions { qcow2, everything, readers, ..StreamOptions::new(Format::Qcow2) };
        judge(&world, &options);
    }

    #[test]
    fn overlays_hold_what_the_top_holds(
        mut layers in layers(),
        qcow2 in shapes(),
        everything in prop::bool::weighted(0.2),
    ) {
        layers.push(layers[0].clone());
        let world = World::new(&layers, true);
        let (below, format) = world.below().unwrap();
        let below_options = OpenOptions::new().format(*format).read_only(true);
        let size = Chain::open(below, &below_options).unwrap().virtual_size();
        let backing = BackingReference {
            name: below.file_name().unwrap().to_str().unwrap().to_owned(),
            format: Some(format.to_string()),
        };
        let qcow2 = Qcow2Options { backing: Some(backing), ..qcow2 };
        let target_backing = Some(size);
        let new = StreamOptions::new(Format::Qcow2);
        judge(&world, &StreamOptions { qcow2, everything, target_backing, ..new });
    }

    #[test]
    fn raw_bytes_are_those_of_the_guest(layers in layers(), raw_base in any::<bool>()) {
        let world = World::new(&layers, raw_base);
        let chain = world.open();
        let mut expected = vec![0; chain.virtual_size() as usize];
        chain.read_at(0, &mut expected).unwrap();
        let mut bytes = Vec::new();
        let options = StreamOptions::new(Format::Raw);
        let report = stream_out(&[chain], &options, &mut bytes, &|_| {}).unwrap();
        prop_assert!(bytes == expected);
        prop_assert_eq!(report.written, expected.len() as u64);
    }
}

/// Writes the image and shows it to the real tools.
fn judge(world: &World, options: &StreamOptions) {
    let chains = [world.open()];
    let layout = plan_stream(&chains, options).unwrap();
    let behind = Cell::new(0);
    let mut bytes = Vec::new();
    let report = stream_out(&chains, options, &mut bytes, &|now| {
        assert!(now >= behind.replace(now), "progress goes back");
    })
    .unwrap();
    assert_eq!(behind.get(), chains[0].virtual_size());
    assert_eq!(bytes.len() as u64, layout.file_bytes(), "{layout}");
    assert_eq!(report.written, layout.file_bytes());
    let image = world.folder.write("out.qcow2", &bytes);
    Qemu::check(&image);
    let (top, format) = world.names.last().unwrap();
    Qemu::assert_same((format.name(), top), ("qcow2", &image));
    let checked = qimg::io::OpenOptions::new().open(&image).unwrap();
    let report = qimg::check::check(&checked, qimg::check::CheckOptions::default()).unwrap();
    assert_eq!(report.outcome(), qimg::check::Outcome::Consistent);
}

/// An output that takes so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.len().min(self.0) {
            0 => Err(io::Error::from(io::ErrorKind::StorageFull)),
            taken => {
                self.0 -= taken;
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_is_full_ends_the_copy_with_an_address() {
    let layer = crate::world::LayerPlan {
        size: 8 << 20,
        qcow2: Qcow2Options::default(),
        changes: vec![crate::world::Change::Write { at: 0, len: 8 << 20, byte: 3 }],
    };
    let world = World::new(&[layer], false);
    for format in [Format::Raw, Format::Qcow2] {
        for room in [0, 1000, 3 << 20, 7 << 20] {
            let options = StreamOptions::new(format);
            let stopped = stream_out(&[world.open()], &options, &mut Full(room), &|_| {});
            let Err(StreamError::Output { offset, .. }) = stopped else {
                unreachable!("{format} of 8 MiB goes into {room} bytes: {stopped:?}")
            };
            assert!(offset <= room as u64, "{offset} of {room}");
        }
    }
}
