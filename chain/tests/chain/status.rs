//! Block status: byte by byte what `qemu-img map` says.

use std::path::Path;

use chain::{Chain, Format, OpenOptions, Status};
use testkit::{Folder, Pattern, Qemu, Rng};

use crate::images::{Built, Shape, random_chain, read_all};
use crate::operation::Operation;

/// Everything that is known, run after run.
fn ours(chain: &Chain) -> Vec<(u64, Status)> {
    let (mut at, size) = (0, chain.virtual_size());
    let mut runs = Vec::new();
    while at < size {
        let status = chain.status_at(at, size - at).unwrap();
        assert!(status.len > 0 && status.len <= size - at, "{status:?} at {at}");
        runs.push((at, status));
        at += status.len;
    }
    runs
}

/// What `qemu-img map` says, in our words.
fn theirs(built: &Built, layer: usize) -> Vec<(u64, Status)> {
    let (path, format) = &built.layers[layer];
    mapped(format.name(), path)
}

fn mapped(format: &str, path: &Path) -> Vec<(u64, Status)> {
    let map = Qemu::map_json(format, path);
    map.as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let status = Status {
                len: entry["length"].as_u64().unwrap(),
                depth: entry["depth"].as_u64().unwrap() as usize,
                present: entry["present"].as_bool().unwrap(),
                zero: entry["zero"].as_bool().unwrap(),
                data: entry["data"].as_bool().unwrap(),
                compressed: entry["compressed"].as_bool().unwrap(),
                host_offset: entry["offset"].as_u64(),
            };
            (entry["start"].as_u64().unwrap(), status)
        })
        .collect()
}

/// A run cut to a part of itself.
fn part((start, status): (u64, Status), from: u64, to: u64) -> Status {
    let host_offset = status.host_offset.map(|host| host + (from - start));
    Status { len: to - from, host_offset, ..status }
}

/// Both say the same of every byte, however they cut their runs.
#[track_caller]
fn assert_equal(ours: &[(u64, Status)], theirs: &[(u64, Status)]) {
    let end = |runs: &[(u64, Status)]| runs.last().map_or(0, |(start, last)| start + last.len);
    assert_eq!(end(ours), end(theirs), "both cover the disk");
    let (mut a, mut b, mut at) = (0, 0, 0);
    while a < ours.len() {
        let to = (ours[a].0 + ours[a].1.len).min(theirs[b].0 + theirs[b].1.len);
        let (mine, other) = (part(ours[a], at, to), part(theirs[b], at, to));
        assert_eq!(mine, other, "guest {at}..{to}, in {:?} and {:?}", ours[a], theirs[b]);
        at = to;
        a += usize::from(ours[a].0 + ours[a].1.len == to);
        b += usize::from(theirs[b].0 + theirs[b].1.len == to);
    }
}

#[track_caller]
fn assert_as_mapped(built: &Built) {
    for layer in 0..built.layers.len() {
        assert_equal(&ours(&built.open_layer(layer)), &theirs(built, layer));
    }
}

#[test]
fn random_chains_are_mapped_as_the_real_tool_maps_them() {
    let mut rng = Rng::announced(0xc4a1_0004);
    for number in 0..14 {
        let built = random_chain(&mut rng);
        eprintln!("chain {number}: {:?}", built.layers);
        assert_as_mapped(&built);
        // Any part of a range gets the answer of the whole.
        let chain = built.open();
        let whole = ours(&chain);
        for _ in 0..200 {
            let at = rng.below(chain.virtual_size());
            let len = rng.within(1..chain.virtual_size() - at + 1);
            let status = chain.status_at(at, len).unwrap();
            assert!(status.len > 0 && status.len <= len, "{status:?} for {len} at {at}");
            let found = whole.iter().rfind(|(start, _)| *start <= at).unwrap();
            let to = at + status.len.min(found.0 + found.1.len - at);
            assert_eq!(part((at, status), at, to), part(*found, at, to), "at {at}");
        }
    }
}

#[test]
fn a_shorter_backing_file_leaves_zeros_to_the_layer_above_it() {
    let mut built = Built::on_raw(&Pattern::new(1).bytes(0, 300_000));
    built.push(Shape::of(100_352));
    built.push(Shape::of(200_192));
    built.push(Shape::of(400_384));
    assert_as_mapped(&built);
    let chain = built.open();
    let at = |offset| chain.status_at(offset, 1).unwrap();
    assert_eq!((at(0).depth, at(0).data, at(0).host_offset), (3, true, Some(0)));
    assert_eq!((at(150_000).depth, at(150_000).zero, at(150_000).data), (1, true, false));
    assert_eq!((at(250_000).depth, at(250_000).zero, at(250_000).present), (0, true, false));
}

#[test]
fn nothing_allocated_anywhere() {
    let mut built = Built::on_qcow2(Shape::of(1 << 20));
    assert_as_mapped(&built);
    built.push(Shape::of(2 << 20)).push(Shape::of(3 << 20));
    assert_as_mapped(&built);
}

#[test]
fn zeros_with_and_without_host_clusters() {
    for (version_2, backing) in [(false, true), (false, false), (true, true), (true, false)] {
        let shape = Shape { version_2, ..Shape::of(1 << 20) };
        let mut built = match backing {
            true => {
                let mut built = Built::on_raw(&[7; 1 << 20]);
                built.push(shape);
                built
            }
            false => Built::on_qcow2(shape),
        };
        let operations = [
            Operation::write(0, 300_000, 1),
            Operation::zero(0, 65536, false),
            Operation::zero(131_072, 65536, true),
            Operation::zero(524_288, 131_072, false),
        ];
        built.change(!version_2, &operations);
        assert_as_mapped(&built);
    }
}

#[test]
fn holes_of_raw_files() {
    let mut content = vec![0; 300_001];
    content[8192..20_000].fill(1);
    content[262_144..].fill(2);
    let mut built = Built::on_raw(&content);
    assert_as_mapped(&built);
    built.push(Shape::of(500_224));
    assert_as_mapped(&built);
    // Ends in a hole, in the middle of a sector.
    let mut built = Built::on_raw(&[vec![1; 4096], vec![0; 96_000]].concat());
    built.push(Shape { cluster_bits: 9, ..Shape::of(96_256) });
    assert_as_mapped(&built);
    assert_as_mapped(&Built::on_raw(&[]));
}

#[test]
fn compressed_clusters_have_no_offset() {
    let mut built = Built::on_qcow2(Shape::of(1 << 20));
    built.change(false, &[Operation::compressed(65536, 131_072, 1)]);
    built.push(Shape::of(1 << 20));
    assert_as_mapped(&built);
    let status = built.open().status_at(65536, 65536).unwrap();
    assert_eq!((status.depth, status.compressed, status.host_offset), (1, true, None));
}

/// Where metadata is preallocated, data clusters lie in holes, and the host is asked for them.
#[test]
fn preallocated_images_have_data_in_holes() {
    let folder = Folder::new();
    for options in ["preallocation=metadata", "preallocation=falloc,cluster_size=4k"] {
        let path = folder.path("image.qcow2");
        let name = path.to_str().unwrap();
        Qemu::img(["create", "-f", "qcow2", "-o", options, name, "3M"]).success();
        Qemu::io(["-f", "qcow2", "-c", "write 100k 10k", "-c", "write 2M 1M", name]).success();
        let options = OpenOptions::new().format(Format::Qcow2).read_only(true);
        let chain = Chain::open(&path, &options).unwrap();
        assert_equal(&ours(&chain), &mapped("qcow2", &path));
    }
}

/// The same below two overlays, where the index remembers the place and the host is still asked.
#[test]
fn preallocated_images_below_others_have_data_in_holes() {
    let folder = Folder::new();
    let names = ["base.qcow2", "middle.qcow2", "top.qcow2"].map(|name| folder.path(name));
    let [base, middle, top] = names.each_ref().map(|path| path.to_str().unwrap());
    let options = "preallocation=metadata,cluster_size=4k";
    Qemu::img(["create", "-f", "qcow2", "-o", options, base, "9M"]).success();
    Qemu::io(["-f", "qcow2", "-c", "write 100k 10k", "-c", "write 2M 1M", base]).success();
    for (name, below) in [(middle, base), (top, middle)] {
        Qemu::img(["create", "-f", "qcow2", "-b", below, "-F", "qcow2", name]).success();
        Qemu::io(["-f", "qcow2", "-c", "write 300k 70k", name]).success();
    }
    let options = OpenOptions::new().format(Format::Qcow2).read_only(true);
    let chain = Chain::open(Path::new(top), &options).unwrap();
    // The second time from memory.
    for _ in 0..2 {
        assert_equal(&ours(&chain), &mapped("qcow2", Path::new(top)));
    }
    assert!((1..10_000).contains(&chain.index_bytes()), "{} bytes", chain.index_bytes());
}

/// CH-6, with real files: holes of raw bases, images of the real tools.
#[test]
fn with_the_index_and_without_it_all_is_the_same() {
    let mut rng = Rng::announced(0xc4a1_000a);
    for _ in 0..6 {
        let built = random_chain(&mut rng);
        let (path, format) = built.layers.last().unwrap();
        let options = OpenOptions::new().format(*format).read_only(true);
        let indexed = Chain::open(path, &options).unwrap();
        let walked = Chain::open(path, &options.chain_index_bytes(0)).unwrap();
        assert_equal(&ours(&indexed), &ours(&walked));
        assert!(read_all(&indexed) == read_all(&walked));
        assert_eq!(walked.index_bytes(), 0);
    }
}

/// The question about the top alone.
#[test]
fn the_top_alone_knows_only_its_own() {
    let mut built = Built::on_raw(&[7; 1 << 20]);
    built.push(Shape::of(1 << 20)).change(true, &[Operation::write(65536, 65536, 1)]);
    let chain = built.open();
    let first = chain.top_status_at(0, 1 << 20).unwrap();
    assert_eq!((first.len, first.present, first.data), (65536, false, false));
    let second = chain.top_status_at(65536, 1 << 20 >> 1).unwrap();
    assert_eq!((second.len, second.present, second.data, second.depth), (65536, true, true, 0));
    assert_eq!(built.open_layer(0).top_status_at(0, 512).unwrap().host_offset, Some(0));
    assert_eq!(chain.layer(1).unwrap().format(), Format::Raw);
    assert!(chain.layer(2).is_none());
}
