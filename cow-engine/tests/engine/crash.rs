//! Power cuts at any instant: what was flushed is there, every other sector is old or new, and the
//! worst that counts can say is a leak.

use std::sync::{Arc, Mutex};

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, Image, OpenOptions, ZeroMode};
use testkit::{CrashLog, CrashPlan, CrashState, CrashStorage, Folder, Qemu, Rng};

use crate::census;
use crate::images::{self, memory, options};
use crate::stamps::{SECTOR, ZERO, disk, sectors, stamps};
use crate::test_backing::TestBacking;

/// Stamp of what lies below; larger than any write's.
const BELOW: u64 = 1 << 40;

/// One writer's deeds: nobody else writes its sectors, so their order is known.
#[derive(Default)]
struct Diary {
    writes: Vec<Entry>,
    /// Length of the log when a flush returned, and how many writes had ended before it began.
    flushes: Vec<(usize, usize)>,
}

struct Entry {
    /// Length of the log before the write began.
    begun: usize,
    first: usize,
    count: usize,
    stamp: u64,
}

impl Diary {
    fn note(&mut self, begun: usize, first: usize, count: usize, stamp: u64) {
        self.writes.push(Entry { begun, first, count, stamp });
    }

    /// For each sector that is written here, the stamps it may have after a cut.
    fn possible(&self, cut: usize, start: &[u64]) -> Vec<Vec<u64>> {
        let kept = self.flushes.iter().filter(|(end, _)| *end <= cut).map(|(_, writes)| *writes);
        let kept = kept.max().unwrap_or(0);
        let mut possible: Vec<Vec<u64>> = start.iter().map(|stamp| vec![*stamp]).collect();
        for (number, entry) in self.writes.iter().enumerate() {
            for stamps in &mut possible[entry.first..entry.first + entry.count] {
                if number < kept {
                    stamps.clear();
                }
                if number < kept || entry.begun <= cut {
                    stamps.push(entry.stamp);
                }
            }
        }
        possible
    }
}

/// A history that was played, and what is needed to judge what a cut leaves of it.
struct History {
    log: CrashLog,
    /// Each writer's diary; a sector is written by one of them only.
    diaries: Vec<Diary>,
    start: Vec<u64>,
    backing: Option<Arc<dyn Backing>>,
}

impl History {
    /// What is wrong with what a cut has left.
    fn judge(&self, state: &CrashState, medium: MemoryStorage) -> Result<(), String> {
        let left = images::bytes(&medium);
        let census = census::take(&left);
        if !census.losses.is_empty() {
            return Err(format!("CE-2, RC-1: {:?}", census.losses));
        }
        let options = OpenOptions::new().read_only(true).backing(self.backing.clone());
        let image = Image::open(Arc::new(medium), options).map_err(|error| error.to_string())?;
        let mut found = vec![0; self.start.len() * SECTOR];
        image.read_at(0, &mut found).map_err(|error| error.to_string())?;
        let found = stamps(&found, 0)?;
        let possible: Vec<_> =
            self.diaries.iter().map(|diary| diary.possible(state.cut, &self.start)).collect();
        for (sector, stamp) in found.into_iter().enumerate() {
            // Whoever does not write a sector only knows what it began with.
            let untouched = vec![self.start[sector]];
            let owner = possible.iter().find(|stamps| stamps[sector] != untouched);
            let stamps = owner.map_or(&untouched, |stamps| &stamps[sector]);
            if !stamps.contains(&stamp) {
                let text = format!("CE-1: sector {sector} is {stamp:#x}, allowed are {stamps:x?}");
                return Err(text);
            }
        }
        Ok(())
    }

    /// Judges many states; returns how many there were and the first complaint.
    fn complaint(&self, plan: &CrashPlan) -> (usize, Option<String>) {
        let mut complaint = None;
        let count = self.log.check_states(plan, |state, medium| {
            if complaint.is_none() {
                complaint =
                    self.judge(state, medium).err().map(|text| format!("{state:?}: {text}"));
            }
        });
        (count, complaint)
    }

    #[track_caller]
    fn assert_survives(&self, states_max: usize) -> usize {
        let plan = CrashPlan { states_max, ..CrashPlan::default() };
        let (count, complaint) = self.complaint(&plan);
        assert_eq!(complaint, None);
        count
    }

    /// The real tool judges a few states, too.
    fn ask_qemu(&self, every: usize) {
        let folder = Folder::new();
        let mut number = 0;
        self.log.check_states(&CrashPlan { states_max: 6, ..CrashPlan::default() }, |_, medium| {
            number += 1;
            if number % every == 0 {
                let path = folder.write("image.qcow2", &images::bytes(&medium));
                let output = Qemu::img(["check", "-f", "qcow2", path.to_str().unwrap()]);
                assert!(matches!(output.code, Some(0 | 3)), "{}\n{}", output.stdout, output.stderr);
            }
        });
    }
}

/// Plays on `disk`, which is a crash storage or a broken wrapper around one.
struct Player {
    crash: Arc<CrashStorage>,
    image: Image,
    backing: Option<Arc<dyn Backing>>,
    diary: Diary,
    start: Vec<u64>,
    stamp: u64,
}

impl Player {
    fn new(
        start: MemoryStorage,
        below_sectors: usize,
        wrap: impl FnOnce(Arc<CrashStorage>) -> Arc<dyn Storage>,
    ) -> Self {
        let crash = Arc::new(CrashStorage::on(start));
        let backing = (below_sectors > 0).then(|| {
            let below = disk(BELOW, below_sectors).bytes().to_vec();
            Arc::new(TestBacking::new(below)) as Arc<dyn Backing>
        });
        let options = OpenOptions::new().backing(backing.clone());
        let image = Image::open(wrap(Arc::clone(&crash)), options).unwrap();
        let count = image.virtual_size() as usize / SECTOR;
        let mut start = vec![ZERO; count];
        start[..below_sectors.min(count)].fill(BELOW);
        Self { crash, image, backing, diary: Diary::default(), start, stamp: 0 }
    }

    fn write(&mut self, first: usize, count: usize) {
        self.stamp += 1;
        self.diary.note(self.crash.position(), first, count, self.stamp);
        let bytes = sectors(self.stamp, first, count);
        self.image.write_at((first * SECTOR) as u64, &bytes).unwrap();
    }

    fn zero(&mut self, first: usize, count: usize, mode: ZeroMode) {
        self.diary.note(self.crash.position(), first, count, ZERO);
        let len = (count * SECTOR) as u64;
        self.image.write_zeroes_at((first * SECTOR) as u64, len, mode).unwrap();
    }

    /// Gives whole clusters up, where the version can say "zeros" about them.
    fn discard(&mut self, first: usize, count: usize) {
        let per_cluster = self.image.geometry().cluster_bytes() as usize / SECTOR;
        let (first, end) = (first.next_multiple_of(per_cluster), first + count);
        let end = if end == self.start.len() { end } else { end / per_cluster * per_cluster };
        let says_zeros = self.image.dialect().has_zero_flag() || self.backing.is_none();
        if first >= end || !says_zeros {
            return;
        }
        self.diary.note(self.crash.position(), first, end - first, ZERO);
        let len = ((end - first) * SECTOR) as u64;
        self.image.discard_at((first * SECTOR) as u64, len).unwrap();
    }

    /// A compressed write of a whole cluster, where one is allowed.
    fn compress(&mut self, first: usize) {
        let count = self.image.geometry().cluster_bytes() as usize / SECTOR;
        self.stamp += 1;
        let begun = self.crash.position();
        let bytes = sectors(self.stamp, first, count);
        let mut compressor = self.image.compressor().unwrap();
        let result =
            self.image.write_compressed_at(&mut compressor, (first * SECTOR) as u64, &bytes);
        if result.is_ok() {
            self.diary.note(begun, first, count, self.stamp);
        }
    }

    fn flush(&mut self) {
        let ended = self.diary.writes.len();
        self.image.flush().unwrap();
        self.diary.flushes.push((self.crash.position(), ended));
    }

    fn finish(self) -> History {
        let Self { crash, image, backing, diary, start, .. } = self;
        image.close().unwrap();
        History { log: crash.log(), diaries: vec![diary], start, backing }
    }
}

fn as_it_is(crash: Arc<CrashStorage>) -> Arc<dyn Storage> {
    crash
}

/// Every kind of change once, with flushes between.
fn script(player: &mut Player) {
    let per_cluster = player.image.geometry().cluster_bytes() as usize / SECTOR;
    player.write(1, 2);
    player.flush();
    player.write(2 * per_cluster, per_cluster);
    player.write(3, 1);
    player.zero(2 * per_cluster, per_cluster, ZeroMode::Unmap);
    player.flush();
    player.write(4 * per_cluster + 1, per_cluster);
    player.compress(8 * per_cluster);
    player.flush();
    player.zero(4 * per_cluster, 2 * per_cluster, ZeroMode::Keep);
    player.write(8 * per_cluster, 1);
    player.flush();
    player.write(4 * per_cluster, 1);
    player.write(10 * per_cluster, 2 * per_cluster + 1);
    player.flush();
    player.discard(0, 3 * per_cluster);
    player.flush();
    player.write(6 * per_cluster, per_cluster);
    player.flush();
    player.write(2 * per_cluster, 1);
}

#[test]
fn a_scripted_history() {
    for (cluster_bits, below) in [(9, 40), (12, 90), (12, 0)] {
        let mut player = Player::new((*memory(128 << 10, cluster_bits)).clone(), below, as_it_is);
        script(&mut player);
        let history = player.finish();
        let count = history.assert_survives(250);
        assert!(count > 70, "{count} states");
        history.ask_qemu(8);
    }
}

fn random_history(player: &mut Player, rng: &mut Rng, steps: usize) {
    let count = player.start.len();
    let per_cluster = player.image.geometry().cluster_bytes() as usize / SECTOR;
    for _ in 0..steps {
        let mut first = rng.below(count as u64) as usize;
        let mut len = 1 + rng.below(2 * per_cluster as u64 + 2) as usize;
        if rng.one_in(2) {
            first -= first % per_cluster;
            len = len.next_multiple_of(per_cluster);
        }
        len = len.min(count - first);
        match rng.below(12) {
            0..5 => player.write(first, len),
            5 => player.zero(first, len, ZeroMode::Keep),
            6 => player.zero(first, len, ZeroMode::Unmap),
            7 => player.discard(first, len),
            8 => player.compress(first - first % per_cluster),
            9 => drop(player.image.begin_write((first * SECTOR) as u64, SECTOR as u64).unwrap()),
            _ => player.flush(),
        }
    }
}

#[test]
fn random_histories() {
    let mut rng = Rng::announced(0xc4a5);
    let mut count = 0;
    for round in 0..16 {
        let (cluster_bits, size) = [(9, 48 << 10), (11, 64 << 10)][round % 2];
        let below = [0, 50][round / 2 % 2];
        let mut player = Player::new((*memory(size, cluster_bits)).clone(), below, as_it_is);
        random_history(&mut player, &mut rng, 50);
        let history = player.finish();
        count += history.assert_survives(60);
        history.ask_qemu(30);
    }
    assert!(count > 3000, "{count} states");
}

#[test]
fn version_2_over_a_layer() {
    let mut rng = Rng::announced(0xc2);
    let storage = MemoryStorage::new();
    cow_engine::create(&storage, &options(48 << 10, 9, qcow2_format::Version::V2)).unwrap();
    let mut player = Player::new(storage, 60, as_it_is);
    random_history(&mut player, &mut rng, 50);
    assert!(player.finish().assert_survives(100) > 300);
}

#[test]
fn trap_97_an_image_full_of_compressed_clusters() {
    let mut rng = Rng::announced(0x97);
    let storage = memory(64 << 10, 11);
    let image = images::open(&storage);
    let mut compressor = image.compressor().unwrap();
    for cluster in 0..32 {
        let bytes = sectors(BELOW, cluster * 4, 4);
        image.write_compressed_at(&mut compressor, cluster as u64 * 2048, &bytes).unwrap();
    }
    image.close().unwrap();
    let mut player = Player::new((*storage).clone(), 0, as_it_is);
    player.start.fill(BELOW);
    random_history(&mut player, &mut rng, 60);
    assert!(player.finish().assert_survives(100) > 300);
}

#[test]
fn growth_of_the_refcount_table() {
    let mut player = Player::new(crate::faults::nearly_full(), 0, as_it_is);
    // Contents are judged elsewhere; here it is about the counts.
    let first = 12 << 11;
    player.start.truncate(0);
    let before = player.crash.position();
    for number in 0..12 {
        player.image.write_at((first + number) * 512, &sectors(7, number as usize, 1)).unwrap();
        if number == 8 {
            player.image.flush().unwrap();
        }
    }
    assert!(player.crash.position() > before);
    let history = player.finish();
    assert!(history.assert_survives(6) > 20);
}

#[test]
fn several_writers_and_a_flusher() {
    const WRITERS: usize = 3;
    let mut rng = Rng::announced(0x3a);
    for round in 0..3 {
        let player = Player::new((*memory(96 << 10, 11)).clone(), 100, as_it_is);
        let (image, crash, count) = (&player.image, &player.crash, player.start.len());
        let rngs: Vec<Rng> = (0..WRITERS).map(|_| rng.fork()).collect();
        let diaries: Vec<Mutex<Diary>> = (0..WRITERS).map(|_| Mutex::default()).collect();
        std::thread::scope(|scope| {
            for (number, mut rng) in rngs.into_iter().enumerate() {
                let diary = &diaries[number];
                scope.spawn(move || {
                    let mut diary = diary.lock().unwrap();
                    for step in 0..30 {
                        // Groups of three sectors belong to one writer; clusters have four.
                        let group = rng.below((count / 3 / WRITERS) as u64) as usize;
                        let first = (group * WRITERS + number) * 3;
                        let begun = crash.position();
                        let at = (first * SECTOR) as u64;
                        match rng.below(8) {
                            0 => {
                                let ended = diary.writes.len();
                                image.flush().unwrap();
                                diary.flushes.push((crash.position(), ended));
                            }
                            1 => {
                                diary.note(begun, first, 3, ZERO);
                                let len = 3 * SECTOR as u64;
                                image.write_zeroes_at(at, len, ZeroMode::Unmap).unwrap();
                            }
                            _ => {
                                let stamp = (number * 1000 + step + 1) as u64;
                                diary.note(begun, first, 3, stamp);
                                image.write_at(at, &sectors(stamp, first, 3)).unwrap();
                            }
                        }
                    }
                });
            }
        });
        let diaries: Vec<Diary> =
            diaries.into_iter().map(|diary| diary.into_inner().unwrap()).collect();
        let mut history = player.finish();
        history.diaries = diaries;
        assert!(history.assert_survives(60) > 100, "round {round}");
    }
}

/// A storage that loses some syncs: what the engine orders with them is then in no order.
#[derive(Debug)]
struct LosesSyncs {
    inner: Arc<CrashStorage>,
    /// Which of the syncs seen so far are lost: those with this remainder.
    lost: fn(u64) -> bool,
    seen: Mutex<u64>,
}

macro_rules! pass_on {
    ($(fn $name:ident(&self $(, $arg:ident: $kind:ty)*) -> $answer:ty;)*) => {
        $(fn $name(&self $(, $arg: $kind)*) -> $answer {
            self.inner.$name($($arg),*)
        })*
    };
}

impl Storage for LosesSyncs {
    pass_on! {
        fn len(&self) -> block_io::Result<u64>;
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> block_io::Result<usize>;
        fn read_vectored_at(&self, offset: u64, bufs: &mut [std::io::IoSliceMut<'_>]) -> block_io::Result<usize>;
        fn write_at(&self, offset: u64, buf: &[u8]) -> block_io::Result<()>;
        fn write_vectored_at(&self, offset: u64, bufs: &[std::io::IoSlice<'_>]) -> block_io::Result<()>;
        fn write_zeroes_at(&self, offset: u64, len: u64) -> block_io::Result<()>;
        fn punch_hole(&self, offset: u64, len: u64) -> block_io::Result<bool>;
        fn allocate(&self, offset: u64, len: u64) -> block_io::Result<()>;
        fn set_len(&self, len: u64) -> block_io::Result<()>;
        fn extent_at(&self, offset: u64) -> block_io::Result<Option<block_io::Extent>>;
        fn allocated_bytes(&self) -> block_io::Result<u64>;
        fn alignment(&self) -> block_io::Alignment;
        fn identity(&self) -> block_io::Result<Option<block_io::FileId>>;
        fn is_read_only(&self) -> bool;
        fn lock(&self, lock: block_io::Lock) -> block_io::Result<()>;
    }

    fn sync(&self) -> block_io::Result<()> {
        let mut seen = self.seen.lock().unwrap();
        *seen += 1;
        if (self.lost)(*seen) { Ok(()) } else { self.inner.sync() }
    }
}

/// The tests above can fail: each barrier that is lost is noticed.
#[test]
fn a_lost_barrier_is_noticed() {
    type Lost = fn(u64) -> bool;
    let orders: [(&str, Lost); 4] = [
        ("all", |_| true),
        ("the one before entries", |seen| seen % 2 == 1),
        ("the one after entries", |seen| seen % 2 == 0),
        ("one of the later ones", |seen| seen == 5),
    ];
    for (what, lost) in orders {
        let wrap = |inner| Arc::new(LosesSyncs { inner, lost, seen: Mutex::default() }) as _;
        let mut player = Player::new((*memory(128 << 10, 12)).clone(), 90, wrap);
        script(&mut player);
        let (_, complaint) = player.finish().complaint(&CrashPlan::default());
        assert!(complaint.is_some(), "{what} lost, and nobody noticed");
    }
}
