//! Power cuts while a disk is resized: it has its old size with its old bytes or the new size with
//! the right ones, and whatever was cut off stays away when it grows again.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, Image, OpenOptions, Preallocation, ResizeOptions, ZeroMode};
use testkit::{CrashLog, CrashPlan, CrashState, CrashStorage, Folder, ModelDisk, Pattern, Qemu};

use crate::census;
use crate::images::{self, memory, read_all};
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
    crash: Arc<CrashStorage>,
    backing: Option<Arc<dyn Backing>>,
    image: Image,
    model: ModelDisk,
    deeds: Vec<Deed>,
}

struct History {
    log: CrashLog,
    backing: Option<Arc<dyn Backing>>,
    deeds: Vec<Deed>,
    /// To which every state is grown in the end.
    size_max: u64,
}

impl Player {
    fn new(size: u64, cluster_bits: u32, below: usize) -> Self {
        let crash = Arc::new(CrashStorage::on((*memory(size, cluster_bits)).clone()));
        let bytes = Pattern::new(99).bytes(0, below);
        let model = ModelDisk::from_bytes(bytes.clone()).overlay(size as usize);
        let backing = (below > 0).then(|| Arc::new(TestBacking::new(bytes)) as Arc<dyn Backing>);
        let image = images::open_over(&crash, backing.clone());
        Self { crash, backing, image, model, deeds: Vec::new() }
    }

    fn done(&mut self, before: ModelDisk) {
        let after = self.model.clone();
        self.deeds.push(Deed { end: self.crash.position(), before, after });
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
        let Self { crash, backing, image, model, deeds } = self;
        model.assert_at(0, &read_all(&image));
        image.close().unwrap();
        census::assert_clean(&images::bytes(&*crash));
        History { log: crash.log(), backing, deeds, size_max }
    }
}

impl History {
    fn judge(&self, state: &CrashState, medium: MemoryStorage) -> Result<(), String> {
        let left = images::bytes(&medium);
        let census = census::take(&left);
        if !census.losses.is_empty() {
            return Err(format!("CE-2, RC-1: {:?}", census.losses));
        }
        let options = OpenOptions::new().backing(self.backing.clone());
        let storage: Arc<dyn Storage> = Arc::new(medium);
        let opened = Image::open(Arc::clone(&storage), options);
        let mut image = opened.map_err(|error| error.to_string())?;
        let found = read_all(&image);
        self.judge_bytes(state, &found)?;
        let options = ResizeOptions::new();
        image.resize(self.size_max, options).map_err(|error| error.to_string())?;
        let grown = read_all(&image);
        if grown[..found.len()] != found {
            return Err("growth changed the bytes that were there".to_owned());
        }
        if let Some(at) = grown[found.len()..].iter().position(|&byte| byte != 0) {
            return Err(format!("something came back at {:#x}", found.len() + at));
        }
        image.close().map_err(|error| error.to_string())?;
        let losses = census::take(&images::bytes(&*storage)).losses;
        if losses.is_empty() { Ok(()) } else { Err(format!("after growth: {losses:?}")) }
    }

    fn judge_bytes(&self, state: &CrashState, found: &[u8]) -> Result<(), String> {
        let Some(deed) = self.deeds.iter().find(|deed| deed.end > state.cut) else {
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
        let mut complaint = None;
        let plan = CrashPlan { states_max, ..CrashPlan::default() };
        let count = self.log.check_states(&plan, |state, medium| {
            if complaint.is_none() {
                complaint =
                    self.judge(state, medium).err().map(|text| format!("{state:?}: {text}"));
            }
        });
        assert_eq!(complaint, None);
        self.ask_qemu();
        count
    }

    /// The real tool finds nothing worse than leaks in a few states.
    fn ask_qemu(&self) {
        let folder = Folder::new();
        let mut number = 0;
        let plan = CrashPlan { states_max: 3, ..CrashPlan::default() };
        self.log.check_states(&plan, |_, medium| {
            number += 1;
            if number % 8 == 0 {
                let path = folder.write("image.qcow2", &images::bytes(&medium));
                let output = Qemu::img(["check", "-f", "qcow2", path.to_str().unwrap()]);
                assert!(matches!(output.code, Some(0 | 3)), "{}\n{}", output.stdout, output.stderr);
            }
        });
    }
}

#[test]
fn growth_moves_the_l1_table() {
    let mut player = Player::new(48 << 10, 9, 0);
    player.write(100, 3000).write(40 << 10, 8 << 10);
    player.resize((300 << 10) + 512, Preallocation::Off).write(299 << 10, 1024);
    player.resize(600 << 10, Preallocation::Off);
    assert!(player.finish(900 << 10).assert_survives(60) > 70);
}

#[test]
fn growth_hides_a_longer_backing_file() {
    let mut player = Player::new((48 << 10) + 512, 10, 200 << 10);
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
        let mut player = Player::new(300 << 10, 9, below);
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
        let mut player = Player::new(64 << 10, 12, 0);
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
        let mut player = Player::new(20 << 10, 9, 30 << 10);
        // Some holes to fill first, with bytes in them that nobody must see.
        player.write(0, 20 << 10).zero(3 << 10, 9 << 10);
        player.resize(70 << 10, how).write(60 << 10, 5000).resize(200 << 10, how);
        assert!(player.finish(260 << 10).assert_survives(60) > 150);
    }
}

#[test]
fn a_table_of_more_clusters_than_a_block_counts() {
    let mut player = Player::new(48 << 10, 9, 0);
    player.write(100, 3000);
    // The L1 table needs 300 clusters of 512 bytes.
    player.resize(300 * 64 * 32768, Preallocation::Off);
    let image = player.image;
    let mut found = [1; 8192];
    image.read_at(299 * 64 * 32768, &mut found).unwrap();
    assert_eq!(found, [0; 8192]);
    image.close().unwrap();
    let (log, mut sizes) = (player.crash.log(), std::collections::BTreeSet::new());
    let plan = CrashPlan { states_max: 5, ..CrashPlan::default() };
    let count = log.check_states(&plan, |_, medium| {
        census::assert_no_loss(&images::bytes(&medium));
        let image = images::open(&Arc::new(medium));
        sizes.insert(image.virtual_size());
        let bytes = images::read(&image, 0, 48 << 10);
        assert!(bytes[3100..].iter().all(|&byte| byte == 0));
    });
    assert_eq!(sizes, [48 << 10, 300 * 64 * 32768].into());
    assert!(count > 15, "{count}");
}
