//! Images with their data in a file of its own: where bytes lie, what a raw file shows, when space
//! is given back.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage, StorageExt};
use cow_engine::{Backing, ClusterType, Error, RunKind, ZeroMode};
use testkit::{Call, CallSet, Fault, FaultStorage, Folder, Pattern, Qemu};

use crate::images::{bytes, l2_entry_at, poke, read, read_all, word};
use crate::kinds::{Data, Kind, Media};
use crate::power::assert_closed;
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;

fn outside(size: u64) -> Kind {
    Kind::standard(size, 16).with_data(Data::Outside)
}

fn raw(size: u64) -> Kind {
    Kind::standard(size, 16).with_data(Data::Raw)
}

fn data_bytes(media: &Media<MemoryStorage>) -> Vec<u8> {
    bytes(&**media.data.as_ref().unwrap())
}

#[test]
fn trap_63_guest_cluster_0_lies_at_host_offset_0() {
    for kind in [outside(1 << 20), raw(1 << 20), outside(1 << 20).lazy()] {
        let media = kind.memory();
        let image = kind.open(&media, None);
        image.write_at(0, &[1; 512]).unwrap();
        image.flush().unwrap();
        let entry = l2_entry_at(&*media.image, 0);
        assert_eq!(word(&*media.image, entry), 1 << 63);
        let plan = image.plan_read(0, 512).unwrap();
        assert!(matches!(plan.runs()[0].kind, RunKind::Data { host } if host.get() == 0));
        image.write_zeroes_at(0, CLUSTER, ZeroMode::Keep).unwrap();
        image.flush().unwrap();
        assert_eq!(word(&*media.image, entry), 1 << 63 | 1);
        assert_eq!(read(&image, 0, 512), [0; 512]);
        image.write_at(512, &[2; 512]).unwrap();
        image.flush().unwrap();
        assert_eq!(word(&*media.image, entry), 1 << 63);
        assert_eq!(read(&image, 0, 2048)[510..1026], [&[0; 2][..], &[2; 512], &[0; 2]].concat());
        image.discard_at(0, CLUSTER).unwrap();
        image.close().unwrap();
        assert_eq!(word(&*media.image, entry), 1);
        assert_closed(&bytes(&*media.image));
    }
}

#[test]
fn guest_cluster_0_has_subclusters_too() {
    let kind = Kind::extended(1 << 20, 16).with_data(Data::Outside);
    let media = kind.memory();
    let backing: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![7; 1 << 20]));
    let image = kind.open(&media, Some(backing));
    image.write_at(2048, &[1; 100]).unwrap();
    image.write_zeroes_at(6144, 2048, ZeroMode::Unmap).unwrap();
    image.flush().unwrap();
    let entry = word(&*media.image, 40);
    let table = word(&*media.image, entry) & 0x00ff_ffff_ffff_fe00;
    assert_eq!(word(&*media.image, table), 1 << 63);
    assert_eq!(word(&*media.image, table + 8), 8 << 32 | 2);
    let mut expected = vec![7; CLUSTER as usize];
    expected[2048..2148].fill(1);
    expected[6144..8192].fill(0);
    assert!(read(&image, 0, CLUSTER as usize) == expected);
}

#[test]
fn trap_65_a_raw_file_shows_what_the_guest_sees() {
    let kind = raw((1 << 20) + 512);
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(1000, &Pattern::new(1).bytes(1000, 300_000)).unwrap();
    image.write_zeroes_at(CLUSTER, CLUSTER, ZeroMode::Keep).unwrap();
    image.write_zeroes_at(2 * CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
    image.write_zeroes_at(3 * CLUSTER + 100, 7000, ZeroMode::Unmap).unwrap();
    image.discard_at(0, CLUSTER).unwrap();
    image.write_at(CLUSTER + 5000, &[9; 100]).unwrap();
    // The last cluster has one sector.
    image.write_at(1 << 20, &[8; 512]).unwrap();
    image.write_zeroes_at(1 << 20, 512, ZeroMode::Keep).unwrap();
    image.write_at((1 << 20) + 5, &[6; 500]).unwrap();
    assert!(read_all(&image) == data_bytes(&media), "before any flush");
    image.close().unwrap();
    assert!(read_all(&kind.open(&media, None)) == data_bytes(&media));
    // Every entry of such an image exists from the beginning.
    let entries = (0..=16).map(|cluster| l2_entry_at(&*media.image, cluster << 16));
    assert!(entries.map(|at| word(&*media.image, at)).all(|entry| entry != 0));
}

#[test]
fn the_data_file_ends_where_the_disk_ends() {
    let backing: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![7; 1 << 20]));
    for (kind, backing) in [
        (outside(100 << 10), None),
        (outside(100 << 10), Some(Arc::clone(&backing))),
        (Kind::extended(100 << 10, 16).with_data(Data::Outside), Some(backing)),
        (raw(100 << 10), None),
    ] {
        let media = kind.memory();
        let image = kind.open(&media, backing);
        image.write_at(CLUSTER, &[1; 512]).unwrap();
        image.write_zeroes_at(CLUSTER, 36 << 10, ZeroMode::Keep).unwrap();
        image.write_at((100 << 10) - 700, &[2; 700]).unwrap();
        assert_eq!(media.data.as_ref().unwrap().len().unwrap(), 100 << 10, "{kind:?}");
        image.discard_at(0, 100 << 10).unwrap();
        image.close().unwrap();
        assert_eq!(media.data.as_ref().unwrap().len().unwrap(), 100 << 10, "{kind:?}");
    }
}

#[test]
fn zeros_outside_a_raw_file_touch_no_data_and_nothing_old_comes_back() {
    let kind = outside(1 << 20);
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
    image.write_zeroes_at(0, 2 * CLUSTER, ZeroMode::Keep).unwrap();
    image.flush().unwrap();
    assert_eq!(data_bytes(&media)[..8], [1; 8], "metadata says zeros");
    // A part of each, after a new session has forgotten everything.
    image.close().unwrap();
    let image = kind.open(&media, None);
    for at in [512, CLUSTER + 4096] {
        image.write_at(at, &[2; 512]).unwrap();
    }
    let mut expected = vec![0; 1 << 20];
    expected[512..1024].fill(2);
    expected[CLUSTER as usize + 4096..][..512].fill(2);
    assert!(read_all(&image) == expected, "old bytes came back");
}

#[test]
fn space_is_given_back_after_the_flush_and_never_before() {
    let kind = outside(1 << 20);
    let media = kind.memory();
    let data = Arc::clone(media.data.as_ref().unwrap());
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 4 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    image.discard_at(0, CLUSTER).unwrap();
    image.write_zeroes_at(CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
    image.write_zeroes_at(2 * CLUSTER, CLUSTER, ZeroMode::Keep).unwrap();
    assert_eq!(data.allocated_bytes().unwrap(), 4 * CLUSTER, "not before it is safe");
    image.flush().unwrap();
    assert_eq!(data.allocated_bytes().unwrap(), 2 * CLUSTER);
    assert_eq!(data_bytes(&media)[..2 * CLUSTER as usize], [0; 2 * CLUSTER as usize]);
    assert_eq!(data_bytes(&media)[2 * CLUSTER as usize], 1, "kept");
}

#[test]
fn a_cluster_in_use_again_is_not_punched() {
    let kind = outside(1 << 20);
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 3 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    image.discard_at(0, 3 * CLUSTER).unwrap();
    image.write_at(CLUSTER + 512, &[2; 512]).unwrap();
    // Decided, not published yet.
    let pending = image.begin_write(2 * CLUSTER, 512).unwrap();
    image.execute(pending.plan(), &[3; 512]).unwrap();
    image.flush().unwrap();
    pending.publish().unwrap();
    image.flush().unwrap();
    let mut expected = vec![0; 1 << 20];
    expected[CLUSTER as usize + 512..][..512].fill(2);
    expected[2 * CLUSTER as usize..][..512].fill(3);
    assert!(read_all(&image) == expected);
    image.close().unwrap();
    assert!(read_all(&kind.open(&media, None)) == expected);
}

#[test]
fn entries_without_copied_are_written_in_their_place() {
    let sub = 2048;
    for kind in [outside(1 << 20), Kind::extended(1 << 20, 16).with_data(Data::Outside)] {
        let media = kind.memory();
        let image = kind.open(&media, None);
        image.write_at(CLUSTER, &[1; 3 * 2048]).unwrap();
        image.write_zeroes_at(CLUSTER + sub, sub, ZeroMode::Keep).unwrap();
        image.close().unwrap();
        let table = word(&*media.image, word(&*media.image, 40)) & 0x00ff_ffff_ffff_fe00;
        let at = table + if kind.extended_l2 { 16 } else { 8 };
        poke(&*media.image, at, |entry| entry & !(1 << 63));
        let image = kind.open(&media, None);
        // Zeros, data, and nothing so far.
        for at in [CLUSTER + sub, CLUSTER + 2 * sub, CLUSTER + 9 * sub] {
            image.write_at(at + 10, &[2; 50]).unwrap();
        }
        let mut expected = [&[1; 2048][..], &[0; 2048], &[1; 2048]].concat();
        expected.resize(CLUSTER as usize, 0);
        for at in [sub, 2 * sub, 9 * sub] {
            expected[at as usize + 10..][..50].fill(2);
        }
        assert!(read(&image, CLUSTER, CLUSTER as usize) == expected, "{kind:?}");
        image.close().unwrap();
        assert!(read(&kind.open(&media, None), CLUSTER, CLUSTER as usize) == expected);
    }
}

#[test]
fn data_elsewhere_and_compressed_data_are_damage() {
    let kind = outside(1 << 20);
    for (entry, what) in [(1 << 63 | 3 << 16, "lies at another offset"), (1 << 62, "compressed")] {
        let media = kind.memory();
        let image = kind.open(&media, None);
        image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
        image.close().unwrap();
        poke(&*media.image, l2_entry_at(&*media.image, CLUSTER), |_| entry);
        let image = kind.open(&media, None);
        let error = image.read_at(CLUSTER, &mut [0; 512]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(image.write_at(0, &[1; 512]).is_err(), "nothing is written after damage was found");
    }
}

#[test]
fn compressed_writes_are_refused() {
    let kind = outside(1 << 20);
    let media = kind.memory();
    let image = kind.open(&media, None);
    let mut compressor = image.compressor().unwrap();
    let error = image.write_compressed_at(&mut compressor, 0, &[1; CLUSTER as usize]).unwrap_err();
    assert!(matches!(error, Error::Plan { .. }), "{error}");
    image.close().unwrap();
    assert_eq!(bytes(&*media.image), bytes(&*kind.memory().image), "nothing has changed");
}

#[test]
fn an_empty_write_is_an_empty_plan_in_a_raw_file_too() {
    let kind = raw(1 << 20);
    let image = kind.open(&kind.memory(), None);
    for at in [0, 512, 1 << 20] {
        assert!(image.begin_write(at, 0).unwrap().plan().runs().is_empty());
    }
}

/// Space that is not given back is no reason to give the image up.
#[test]
fn a_hole_that_cannot_be_punched_is_no_failure() {
    let kind = outside(1 << 20);
    let media = kind.memory().wrapped(|file| FaultStorage::new((**file).clone()));
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 4 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    let data = media.data.as_ref().unwrap();
    data.arm(Fault::nth(1, CallSet::of(&[Call::PunchHole])).lasting());
    image.discard_at(0, CLUSTER).unwrap();
    image.discard_at(2 * CLUSTER, CLUSTER).unwrap();
    image.flush().unwrap();
    assert_eq!(data.fired(), 2);
    let mut expected = vec![0; CLUSTER as usize];
    assert!(read(&image, 0, CLUSTER as usize) == expected);
    // What stayed in the file does not come back.
    image.write_at(512, &[2; 512]).unwrap();
    image.close().unwrap();
    expected[512..1024].fill(2);
    assert!(read(&kind.open(&media, None), 0, CLUSTER as usize) == expected);
}

/// The entry only says zeros when the raw file has them.
#[test]
fn zeros_that_a_raw_file_does_not_take_are_not_claimed() {
    let kind = raw(1 << 20);
    let media = kind.memory().wrapped(|file| FaultStorage::new((**file).clone()));
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
    let data = media.data.as_ref().unwrap();
    for (at, mode) in [(0, ZeroMode::Keep), (CLUSTER, ZeroMode::Unmap)] {
        let calls = CallSet::of(&[Call::WriteZeroes, Call::PunchHole]);
        data.arm(Fault::nth(1, calls).lasting());
        let error = image.write_zeroes_at(at, CLUSTER, mode).unwrap_err();
        assert!(matches!(error, Error::Storage { .. }), "{error}");
        data.heal();
        assert_eq!(read(&image, at, 512), [1; 512]);
        assert_eq!(bytes(data.inner())[at as usize], 1);
        image.write_zeroes_at(at, CLUSTER, mode).unwrap();
    }
    assert!(read_all(&image) == bytes(data.inner()));
}

/// What the real tool makes is served, and what we make of it is what it makes.
#[test]
fn beside_the_real_tool() {
    for (raw, extended) in [(false, false), (true, false), (false, true), (true, true)] {
        let folder = Folder::new();
        let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
        let options = format!(
            "data_file={},data_file_raw={},extended_l2={}",
            path("theirs.data"),
            if raw { "on" } else { "off" },
            if extended { "on" } else { "off" },
        );
        Qemu::img(["create", "-q", "-f", "qcow2", "-o", &options, &path("theirs.qcow2"), "1M"])
            .success();
        let load = |name: &str| {
            Arc::new(MemoryStorage::from(&std::fs::read(folder.path(name)).unwrap()[..]))
        };
        let kind = Kind { extended_l2: extended, ..outside(1 << 20) };
        let media = Media { image: load("theirs.qcow2"), data: Some(load("theirs.data")) };
        let image = kind.open(&media, None);
        image.write_at(1000, &[1; 200_000]).unwrap();
        image.write_zeroes_at(CLUSTER, CLUSTER, ZeroMode::Keep).unwrap();
        image.write_zeroes_at(2 * CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
        image.write_at(CLUSTER + 3000, &[2; 3000]).unwrap();
        image.discard_at(5 * CLUSTER, CLUSTER).unwrap();
        image.write_zeroes_at(6 * CLUSTER + 2048, 2048, ZeroMode::Keep).unwrap();
        image.close().unwrap();
        let name = path("theirs.qcow2");
        let commands = [
            "write -P 1 1000 200000",
            "write -z 64k 64k",
            "write -z -u 128k 64k",
            "write -P 2 68536 3000",
            "discard 320k 64k",
            "write -z 395264 2048",
        ];
        let mut words = vec!["-f", "qcow2", &name];
        words.extend(commands.iter().flat_map(|command| ["-c", command]));
        Qemu::io(words).success();
        let theirs = load("theirs.qcow2");
        let entry_bytes = if extended { 16 } else { 8 };
        let table = |image: &MemoryStorage| word(image, word(image, 40)) & 0x00ff_ffff_ffff_fe00;
        let words = |image: &MemoryStorage| -> Vec<u64> {
            let table = table(image);
            (0..16 * entry_bytes / 8).map(|number| word(image, table + number * 8)).collect()
        };
        assert_eq!(words(&media.image), words(&theirs), "raw {raw}, extended {extended}");
        if raw {
            let (ours, theirs) = (data_bytes(&media), bytes(&*load("theirs.data")));
            assert!(ours == theirs, "the raw files differ");
        }
        let ours = folder.write("ours.qcow2", &bytes(&*media.image));
        let data = folder.write("ours.data", &data_bytes(&media));
        let node = format!(
            "driver=qcow2,file.filename={},data-file.filename={}",
            ours.display(),
            data.display()
        );
        Qemu::img(["check", "--image-opts", &node]).success();
        Qemu::img([
            "compare",
            "--image-opts",
            &node,
            &format!("driver=qcow2,file.filename={name}"),
        ])
        .success();
    }
}

#[test]
fn the_type_of_a_cluster_is_told_as_inside() {
    let kind = outside(1 << 20);
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 512]).unwrap();
    assert!(
        matches!(image.explain(0).unwrap().cluster, Ok(ClusterType::Normal { host }) if host.get() == 0)
    );
    assert_eq!(image.explain(0).unwrap().refcount, None, "nothing is counted there");
    let mut found = [0; 512];
    image.data_storage().read_exact_at(0, &mut found).unwrap();
    assert_eq!(found, [1; 512]);
}
