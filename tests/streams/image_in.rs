//! Images from pipes: what is placed is what a reader of the file sees, or there is an error.

use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;
use qimg::chain::{Chain, Format, OpenOptions, Policy};
use qimg::convert::{
    IncomingImage, Spill, StreamError, StreamInOptions, StreamOptions, stream_out,
};
use qimg::create::{CreateOptions, Qcow2Options, create};
use qimg::engine::BackingReference;
use testkit::{Folder, Qemu};

use crate::world::{LayerPlan, World, layers, shapes};

/// Room for everything in these tests.
const PLENTY: u64 = 1 << 30;

fn incoming(bytes: &[u8], limit: u64) -> Result<IncomingImage, StreamError> {
    let spill = Spill::new(limit, tempfile::tempfile);
    IncomingImage::open(Cursor::new(bytes.to_vec()), spill)
}

/// What comes out of the pipe as raw bytes.
fn raw(bytes: &[u8], limit: u64) -> Result<Vec<u8>, StreamError> {
    let mut out = Vec::new();
    incoming(bytes, limit)?.write_raw(&mut out, &mut |_| {})?;
    Ok(out)
}

/// What comes out of the pipe in a new image.
fn placed(
    bytes: &[u8],
    limit: u64,
    folder: &Folder,
    shape: Qcow2Options,
) -> Result<(), StreamError> {
    let incoming = incoming(bytes, limit)?;
    let path = folder.path("placed.qcow2");
    let new = CreateOptions::new(Format::Qcow2, incoming.virtual_size());
    create(&path, &CreateOptions { qcow2: shape, ..new }).unwrap();
    let target = Chain::open(&path, &OpenOptions::new().format(Format::Qcow2)).unwrap();
    incoming.copy_to(&target, &StreamInOptions::new(), None, &mut |_| {})?;
    target.close().unwrap();
    Qemu::check(&path);
    Ok(())
}

/// What a reader of the file sees, if anything.
fn seen(path: &Path) -> Option<Vec<u8>> {
    let policy = Policy::new().locking(false);
    let options = OpenOptions::new().format(Format::Qcow2).read_only(true).policy(policy);
    let chain = Chain::open(path, &options).ok()?;
    let size = usize::try_from(chain.virtual_size()).ok().filter(|size| *size < 64 << 20)?;
    let mut bytes = vec![0; size];
    chain.read_at(0, &mut bytes).ok()?;
    Some(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn our_images_come_through(layers in layers(), shape in shapes()) {
        let world = World::new(&layers[..1], false);
        let (path, _) = world.names.last().unwrap();
        let bytes = std::fs::read(path).unwrap();
        prop_assert!(raw(&bytes, PLENTY).unwrap() == seen(path).unwrap());
        placed(&bytes, PLENTY, &world.folder, shape).unwrap();
        Qemu::assert_same(("qcow2", path), ("qcow2", &world.folder.path("placed.qcow2")));
    }

    #[test]
    fn streams_of_our_own_need_room_for_tables_alone(
        layers in layers(),
        raw_base in any::<bool>(),
        qcow2 in shapes(),
    ) {
        let world = World::new(&layers, raw_base);
        let options = StreamOptions { qcow2, ..StreamOptions::new(Format::Qcow2) };
        let mut bytes = Vec::new();
        let chain = world.open();
        let mut expected = vec![0; chain.virtual_size() as usize];
        chain.read_at(0, &mut expected).unwrap();
        let chains = [chain];
        let layout = qimg::convert::plan_stream(&chains, &options).unwrap();
        stream_out(&chains, &options, &mut bytes, &|_| {}).unwrap();
        let data = layout.data_clusters() * layout.header().geometry().cluster_bytes();
        let tables = bytes.len() as u64 - data;
        prop_assert!(raw(&bytes, tables).unwrap() == expected);
        placed(&bytes, tables, &world.folder, Qcow2Options::default()).unwrap();
        prop_assert!(seen(&world.folder.path("placed.qcow2")).unwrap() == expected);
    }

    #[test]
    fn overlays_go_on_top_of_what_they_were_on(mut layers in layers(), shape in shapes()) {
        layers.push(layers[0].clone());
        let world = World::new(&layers, true);
        let (below, format) = world.below().unwrap();
        let size = Chain::open(below, &OpenOptions::new().format(*format).read_only(true))
            .unwrap()
            .virtual_size();
        let (top, _) = world.names.last().unwrap();
        let bytes = std::fs::read(top).unwrap();
        let refused = raw(&bytes, PLENTY).unwrap_err();
        let is_named = matches!(refused, StreamError::Backing { .. });
        prop_assert!(is_named, "{}", refused);
        let incoming = incoming(&bytes, PLENTY).unwrap();
        let path = world.folder.path("placed.qcow2");
        let backing = BackingReference {
            name: below.file_name().unwrap().to_str().unwrap().to_owned(),
            format: Some(format.to_string()),
        };
        let qcow2 = Qcow2Options { backing: Some(backing), ..shape };
        let new = CreateOptions::new(Format::Qcow2, incoming.virtual_size());
        create(&path, &CreateOptions { qcow2, ..new }).unwrap();
        let target = Chain::open(&path, &OpenOptions::new().format(Format::Qcow2)).unwrap();
        incoming.copy_to(&target, &StreamInOptions::new(), Some(size), &mut |_| {}).unwrap();
        target.close().unwrap();
        Qemu::check(&path);
        Qemu::assert_same(("qcow2", top), ("qcow2", &path));
    }

    #[test]
    fn images_cut_short_or_damaged_show_what_the_file_shows_or_fail(
        layers in layers(),
        cut in any::<prop::sample::Index>(),
        bits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        damaged in any::<bool>(),
    ) {
        let world = World::new(&layers[..1], false);
        let (path, _) = world.names.last().unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        if damaged {
            // Tables are what damage is interesting in, and they come first.
            let len = bytes.len().min(8 << 16);
            bits.iter().for_each(|(at, bit)| bytes[at.index(len)] ^= 1 << (bit % 8));
        } else {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let file = world.folder.write("damaged.qcow2", &bytes);
        // Nothing is written for a disk that damage has made huge.
        let small = incoming(&bytes, PLENTY).is_ok_and(|image| image.virtual_size() < 64 << 20);
        if small && let Ok(came) = raw(&bytes, PLENTY) {
            prop_assert!(Some(came) == seen(&file));
        }
        if small && placed(&bytes, PLENTY, &world.folder, Qcow2Options::default()).is_ok() {
            prop_assert!(seen(&world.folder.path("placed.qcow2")) == seen(&file));
        }
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..4096), magic: bool) {
        let mut bytes = bytes;
        if magic {
            bytes.splice(..bytes.len().min(8), *b"QFI\xfb\0\0\0\x03");
        }
        prop_assert!(raw(&bytes, PLENTY).is_err());
    }
}

/// Makes an image with the real tools, several L2 tables and compressed clusters included.
fn theirs(folder: &Folder, flags: &[&str]) -> std::path::PathBuf {
    let mut text = Vec::new();
    for index in 0..400_000_u64 {
        text.extend_from_slice(format!("{} ", index * index % 9973).as_bytes());
    }
    text.truncate(1_500_000);
    text.resize(1_600_000, 0);
    text.extend(
        (0..300_000_u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8),
    );
    let source = folder.write("source.raw", &text);
    let path = folder.path("theirs.qcow2");
    let (from, to) = (source.to_str().unwrap(), path.to_str().unwrap());
    let args = [&["convert", "-f", "raw", "-O", "qcow2"], flags, &[from, to]].concat();
    Qemu::img(args).success();
    path
}

#[test]
fn images_of_the_real_tools_come_through() {
    let folder = Folder::new();
    for flags in [
        &[][..],
        &["-o", "compat=0.10"],
        &["-o", "extended_l2=on"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "preallocation=full"],
        &["-c"],
        &["-c", "-o", "cluster_size=4k"],
        &["-c", "-o", "cluster_size=4k,compression_type=zstd"],
        &["-c", "-o", "cluster_size=2M"],
        &["-c", "-o", "cluster_size=512"],
        &["-c", "-W", "-m", "8", "-o", "cluster_size=4k"],
    ] {
        let path = theirs(&folder, flags);
        let bytes = std::fs::read(&path).unwrap();
        let expected = seen(&path).unwrap();
        assert!(raw(&bytes, PLENTY).unwrap() == expected, "{flags:?}");
        placed(&bytes, PLENTY, &folder, Qcow2Options::default()).unwrap();
        assert!(seen(&folder.path("placed.qcow2")).unwrap() == expected, "{flags:?}");
    }
}

#[test]
fn data_before_its_tables_waits_and_has_a_limit() {
    let folder = Folder::new();
    // Its L1 table moves to the end when it grows.
    let path = folder.path("grown.qcow2");
    let name = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", name, "4M"]).success();
    Qemu::io(["-f", "qcow2", "-c", "write -P 5 0 2M", name]).success();
    Qemu::img(["resize", "-q", "-f", "qcow2", name, "4G"]).success();
    let bytes = std::fs::read(&path).unwrap();
    let refused = placed(&bytes, 1 << 20, &folder, Qcow2Options::default()).unwrap_err();
    assert!(matches!(refused, StreamError::SpillFull { allowed: 0x10_0000 }), "{refused}");
    placed(&bytes, 4 << 20, &folder, Qcow2Options::default()).unwrap();
    Qemu::assert_same(("qcow2", &path), ("qcow2", &folder.path("placed.qcow2")));
}

#[test]
fn an_old_target_shows_nothing_of_what_it_had() {
    let layer = LayerPlan { size: 1 << 20, qcow2: Qcow2Options::default(), changes: Vec::new() };
    let world = World::new(&[layer], false);
    let bytes = std::fs::read(&world.names[0].0).unwrap();
    for sparse in [0, 4096] {
        let path = world.folder.write("old.raw", &[9; 2 << 20]);
        let target = Chain::open(&path, &OpenOptions::new().format(Format::Raw)).unwrap();
        let options = StreamInOptions {
            target_is_zero: false,
            grow: false,
            sparse,
            ..StreamInOptions::new()
        };
        let incoming = incoming(&bytes, PLENTY).unwrap();
        incoming.copy_to(&target, &options, None, &mut |_| {}).unwrap();
        let now = world.folder.read("old.raw");
        assert!(now[..1 << 20].iter().all(|byte| *byte == 0));
        assert!(now[1 << 20..].iter().all(|byte| *byte == 9));
    }
}
