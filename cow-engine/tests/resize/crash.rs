//! Power cuts while a disk is resized: it has its old size with its old bytes or the new size with
//! the right ones, and whatever was cut off stays away when it grows again.

use std::sync::Arc;

use cow_engine::{Backing, Error, Image, Preallocation, ResizeOptions, ZeroMode};
use testkit::{Folder, ModelDisk, Pattern, Qemu};

use crate::census;
use crate::images::{self, read_all};
use crate::kinds::{Data, Kind};
use crate::power::{Left, Power, PowerLog, assert_closed, complaint, none_lost};
use crate::test_backing::TestBacking;

const SECTOR: usize = 512;

/// Something that was done, and what the disk was before and after.
struct Deed {
    /// Length of the log when it was over.
    end: usize,
    before: ModelDisk,
    after: ModelDisk,
}

struct Player {
    kind: Kind,
    power: Power,
    backing: Option<Arc<dyn Backing>>,
    image: Image,
    model: ModelDisk,
    deeds: Vec<Deed>,
}

struct History {
    kind: Kind,
    log: PowerLog,
    backing: Option<Arc<dyn Backing>>,
    deeds: Vec<Deed>,
    /// To which every state is grown in the end.
    size_max: u64,
}

impl Player {
    fn new(kind: Kind, below: usize) -> Self {
        let power = Power::on(&kind.memory(), none_lost);
        let bytes = Pattern::new(99).bytes(0, below);
        let model = ModelDisk::from_bytes(bytes.clone()).overlay(kind.size as usize);
        let backing = (below > 0).then(|| Arc::new(TestBacking::new(bytes)) as Arc<dyn Backing>);
        let image = kind.open(power.media(), backing.clone());
        Self { kind, power, backing, image, model, deeds: Vec::new() }
    }

    fn done(&mut self, before: ModelDisk) {
        let after = self.model.clone();
        self.deeds.push(Deed { end: self.power.position(), before, after });
    }

    fn write(&mut self, offset: u64, len: usize) -> &mut Self {
        let before = self.model.clone();
        let bytes = Pattern::new(self.deeds.len() as u64 + 1).bytes(offset, len);
        self.image.write_at(offset, &bytes).unwrap();
        self.image.flush().unwrap();
        self.model.write(offset, &bytes);
        self.done(before);
        self
    }

    fn compress(&mut self, offset: u64) -> &mut Self {
        let before = self.model.clone();
        let bytes =
            vec![self.deeds.len() as u8 | 0x80; 1 << self.image.geometry().cluster_bits().get()];
        let mut compressor = self.image.compressor().unwrap();
        self.image.write_compressed_at(&mut compressor, offset, &bytes).unwrap();
        self.image.flush().unwrap();
        self.model.write(offset, &bytes);
        self.done(before);
        self
    }

    fn zero(&mut self, offset: u64, len: u64) -> &mut Self {
        let before = self.model.clone();
        self.image.write_zeroes_at(offset, len, ZeroMode::Unmap).unwrap();
        self.image.flush().unwrap();
        self.model.zero(offset, len as usize);
        self.done(before);
        self
    }

    fn resize(&mut self, size: u64, how: Preallocation) -> &mut Self {
        let before = self.model.clone();
        let options = ResizeOptions::new().shrink(true).preallocation(how);
        self.image.resize(size, options).unwrap();
        self.model.resize(size as usize);
        self.done(before);
        self
    }

    fn finish(self, size_max: u64) -> History {
        let Self { kind, power, backing, image, model, deeds } = self;
        model.assert_at(0, &read_all(&image));
        image.close().unwrap();
        assert_closed(&images::bytes(&*power.media().image));
        History { kind, log: power.log(), backing, deeds, size_max }
    }
}

impl History {
    fn judge(&self, left: &Left) -> Result<(), String> {
        let words = |error: Error| error.to_string();
        complaint(&census::take(&images::bytes(&*left.media.image))).map_or(Ok(()), Err)?;
        let opened = left.media.open_read_only(self.backing.clone()).map_err(words)?;
        let found = read_all(&opened);
        self.judge_bytes(left, &found)?;
        let mut image = match self.kind.try_open(&left.media, self.backing.clone()) {
            // With counts that are not there nobody writes before a repair.
            Err(Error::MarkedDirty) => return Ok(()),
            opened => opened.map_err(words)?,
        };
        image.resize(self.size_max, ResizeOptions::new()).map_err(words)?;
        let grown = read_all(&image);
        if grown[..found.len()] != found {
            return Err("growth changed the bytes that were there".to_owned());
        }
        if let Some(at) = grown[found.len()..].iter().position(|&byte| byte != 0) {
            return Err(format!("something came back at {:#x}", found.len() + at));
        }
        image.close().map_err(words)?;
        let after = census::take(&images::bytes(&*left.media.image));
        complaint(&after).map_or(Ok(()), |text| Err(format!("after growth: {text}")))
    }

    fn judge_bytes(&self, left: &Left, found: &[u8]) -> Result<(), String> {
        let Some(deed) = self.deeds.iter().find(|deed| deed.end > left.position) else {
            let last = self.deeds.last().unwrap().after.bytes();
            return if found == last { Ok(()) } else { Err("what was done is not there".into()) };
        };
        let (before, after) = (deed.before.bytes(), deed.after.bytes());
        if before.len() != after.len() {
            // All or nothing.
            let right = found == before || found == after;
            return if right { Ok(()) } else { Err(format!("{} bytes, wrong ones", found.len())) };
        }
        let same = |at: usize, disk: &[u8]| found[at..at + SECTOR] == disk[at..at + SECTOR];
        let wrong =
            (0..before.len()).step_by(SECTOR).find(|&at| !same(at, before) && !same(at, after));
        match wrong {
            _ if found.len() != before.len() => Err("another size".into()),
            Some(at) => Err(format!("sector at {at:#x} is neither old nor new")),
            None => Ok(()),
        }
    }

    #[track_caller]
    fn assert_survives(&self, states_max: usize) -> usize {
        let folder = Folder::new();
        let mut number = 0;
        let (count, complaint) = self.log.check(states_max, |left| {
            number += 1;
            if number % 40 == 0 {
                ask_qemu(&folder, left);
            }
            self.judge(left)
        });
        assert_eq!(complaint, None);
        count
    }
}

/// The real tool finds nothing worse than leaks, unless the image says that counts are missing.
fn ask_qemu(folder: &Folder, left: &Left) {
    let bytes = images::bytes(&*left.media.image);
    if left.media.data.is_some() || census::take(&bytes).dirty {
        return;
    }
    let path = folder.write("image.qcow2", &bytes);
    let output = Qemu::img(["check", "-f", "qcow2", path.to_str().unwrap()]);
    assert!(matches!(output.code, Some(0 | 3)), "{}\n{}", output.stdout, output.stderr);
}

#[test]
fn growth_moves_the_l1_table() {
    let mut player = Player::new(Kind::standard(48 << 10, 9), 0);
    player.write(100, 3000).write(40 << 10, 8 << 10);
    player.resize((300 << 10) + 512, Preallocation::Off).write(299 << 10, 1024);
    player.resize(600 << 10, Preallocation::Off);
    assert!(player.finish(900 << 10).assert_survives(60) > 70);
}

#[test]
fn growth_hides_a_longer_backing_file() {
    let mut player = Player::new(Kind::standard((48 << 10) + 512, 10), 200 << 10);
    player.write(5 << 10, 2000);
    player.resize(100 << 10, Preallocation::Off);
    player.write(90 << 10, 700);
    player.resize((150 << 10) + 1536, Preallocation::Metadata);
    player.resize(300 << 10, Preallocation::Off);
    assert!(player.finish(400 << 10).assert_survives(60) > 200);
}

#[test]
fn shrinking_gives_everything_up() {
    for below in [0, 70 << 10] {
        let mut player = Player::new(Kind::standard(300 << 10, 9), below);
        player.write(0, 290 << 10).zero(20 << 10, 30 << 10).zero(99 << 10, 3 << 10);
        player.compress(100 << 10).compress((100 << 10) + 512).compress(20 << 10);
        player.resize((100 << 10) + 512, Preallocation::Off);
        player.write(90 << 10, 10 << 10);
        player.resize((20 << 10) + 1536, Preallocation::Off);
        player.resize(250 << 10, Preallocation::Off);
        player.write(200 << 10, 3 << 10);
        player.resize(512, Preallocation::Off);
        assert!(player.finish(300 << 10).assert_survives(60) > 250);
    }
}

#[test]
fn the_rest_of_a_large_cluster_is_cut_too() {
    for compressed in [false, true] {
        let mut player = Player::new(Kind::standard(64 << 10, 12), 0);
        if compressed {
            player.compress(4096);
        } else {
            player.write(0, 60 << 10);
        }
        player.resize(4096 + 1024, Preallocation::Off).resize(64 << 10, Preallocation::Off);
        assert!(player.finish(128 << 10).assert_survives(100) > 50);
    }
}

#[test]
fn clusters_are_mapped_ahead() {
    for how in [Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full] {
        let mut player = Player::new(Kind::standard(20 << 10, 9), 30 << 10);
        // Some holes to fill first, with bytes in them that nobody must see.
        player.write(0, 20 << 10).zero(3 << 10, 9 << 10);
        player.resize(70 << 10, how).write(60 << 10, 5000).resize(200 << 10, how);
        assert!(player.finish(260 << 10).assert_survives(60) > 150);
    }
}

#[test]
fn a_table_of_more_clusters_than_a_block_counts() {
    let mut player = Player::new(Kind::standard(48 << 10, 9), 0);
    player.write(100, 3000);
    // The L1 table needs 300 clusters of 512 bytes.
    player.resize(300 * 64 * 32768, Preallocation::Off);
    let image = player.image;
    let mut found = [1; 8192];
    image.read_at(299 * 64 * 32768, &mut found).unwrap();
    assert_eq!(found, [0; 8192]);
    image.close().unwrap();
    let mut sizes = std::collections::BTreeSet::new();
    let (count, complaint) = player.power.log().check(5, |left| {
        complaint(&census::take(&images::bytes(&*left.media.image))).map_or(Ok(()), Err)?;
        let image = player.kind.open(&left.media, None);
        sizes.insert(image.virtual_size());
        let bytes = images::read(&image, 0, 48 << 10);
        let zeros = bytes[3100..].iter().all(|&byte| byte == 0);
        if zeros { Ok(()) } else { Err("other bytes".to_owned()) }
    });
    assert_eq!(complaint, None);
    assert_eq!(sizes, [48 << 10, 300 * 64 * 32768].into());
    assert!(count > 15, "{count}");
}

/// Grows and shrinks over a longer layer, mapped ahead and not, into the middle of a cluster.
fn there_and_back(kind: Kind, below: usize) {
    let cluster = kind.cluster_bytes();
    let mut player = Player::new(kind, below);
    player.write(cluster / 2, cluster as usize * 2);
    player.resize(kind.size * 2 + 512, Preallocation::Off);
    player.write(kind.size + cluster, cluster as usize);
    player.resize(kind.size * 3, Preallocation::Metadata);
    player.write(kind.size * 3 - 1024, 1024).zero(0, cluster * 2);
    player.resize(cluster + 1536, Preallocation::Off);
    player.resize(kind.size, Preallocation::Falloc);
    let count = player.finish(kind.size * 4).assert_survives(12);
    assert!(count > 70, "{count}");
}

#[test]
fn subclusters_there_and_back() {
    for below in [0, 100 << 10] {
        there_and_back(Kind::extended((48 << 10) + 2048, 14), below);
    }
}

#[test]
fn a_data_file_there_and_back() {
    let small = Kind::standard((20 << 10) + 512, 12);
    there_and_back(small.with_data(Data::Outside), 50 << 10);
    there_and_back(small.with_data(Data::Raw), 0);
    there_and_back(Kind::extended((48 << 10) + 2048, 14).with_data(Data::Outside), 0);
}

#[test]
fn lazy_counts_there_and_back() {
    there_and_back(Kind::standard((20 << 10) + 512, 12).lazy(), 50 << 10);
    there_and_back(Kind::standard((5 << 10) + 512, 9).lazy().width(6), 0);
}
