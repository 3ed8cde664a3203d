//! Power cuts at any instant: what was flushed is there, every other sector is old or new, and the
//! worst that counts can say is a leak.

use std::sync::{Arc, Mutex};

use block_io::MemoryStorage;
use cow_engine::{Backing, Image, ZeroMode};
use qcow2_format::Version;
use testkit::stamps::{SECTOR, ZERO, disk, sectors, stamps};
use testkit::{Diary, Folder, Qemu, Rng, census};

use crate::images;
use crate::kinds::{Data, Kind, Media};
use crate::power::{Left, Lost, Power, PowerLog, assert_closed, complaint, none_lost};
use crate::test_backing::TestBacking;

/// Stamp of what lies below; larger than any write's.
pub(crate) const BELOW: u64 = 1 << 40;

/// A history that was played, and what is needed to judge what a cut leaves of it.
pub(crate) struct History {
    kind: Kind,
    log: PowerLog,
    diary: Diary,
    backing: Option<Arc<dyn Backing>>,
}

impl History {
    /// What is wrong with what a cut has left.
    fn judge(&self, left: &Left) -> Result<(), String> {
        let census = census::take(&images::bytes(&*left.media.image));
        if let Some(text) = complaint(&census) {
            return Err(text);
        }
        if census.dirty && !self.kind.lazy_refcounts {
            return Err("marked dirty".to_owned());
        }
        let image = left.media.open_read_only(self.backing.clone());
        let image = image.map_err(|error| error.to_string())?;
        let mut found = vec![0; image.virtual_size() as usize];
        image.read_at(0, &mut found).map_err(|error| error.to_string())?;
        self.judge_bytes(left.position, &found)?;
        match &left.media.data {
            Some(data) if self.kind.data == Data::Raw => {
                let raw = images::bytes(&**data);
                if raw.len() as u64 != self.kind.size {
                    return Err(format!("the raw file has {:#x} bytes", raw.len()));
                }
                self.judge_bytes(left.position, &raw).map_err(|text| format!("raw file: {text}"))
            }
            _ => Ok(()),
        }
    }

    /// Each sector shows what was flushed, or something newer.
    fn judge_bytes(&self, cut: usize, found: &[u8]) -> Result<(), String> {
        self.diary.judge(cut, &stamps(found, 0)?)
    }

    /// Judges many states; returns how many there were and the first complaint.
    pub(crate) fn complaint(&self, states_max: usize) -> (usize, Option<String>) {
        self.log.check(states_max, |left| self.judge(left))
    }

    #[track_caller]
    pub(crate) fn assert_survives(&self, states_max: usize) -> usize {
        let (count, complaint) = self.complaint(states_max);
        assert!(complaint.is_none(), "{}", complaint.unwrap_or_default());
        count
    }

    /// The real tool judges a few states, too. What is dirty must be repaired by it first, which
    /// must not change what the guest sees.
    pub(crate) fn ask_qemu(&self, every: usize) {
        let folder = Folder::new();
        let mut number = 0;
        let (_, failure) = self.log.check(6, |left| {
            number += 1;
            if number % every != 0 {
                return Ok(());
            }
            let image = folder.write("image.qcow2", &images::bytes(&*left.media.image));
            let mut node = format!("driver=qcow2,file.filename={}", image.display());
            if let Some(data) = &left.media.data {
                let path = folder.write("disk.data", &images::bytes(&**data));
                node.push_str(&format!(",data-file.filename={}", path.display()));
            }
            let census = census::take(&images::bytes(&*left.media.image));
            if census.dirty {
                Qemu::img(["check", "-r", "all", "--image-opts", &node]);
            }
            let output = Qemu::img(["check", "--image-opts", &node]);
            let repaired = if census.dirty { Some(0) } else { None };
            if !matches!(output.code, Some(0 | 3))
                || repaired.is_some_and(|code| output.code != Some(code))
            {
                return Err(format!("{}\n{}", output.stdout, output.stderr));
            }
            if census.dirty && self.backing.is_none() {
                let raw = folder.path("seen.raw");
                let arguments = ["convert", "-O", "raw", "--image-opts", &node];
                Qemu::img(arguments.into_iter().chain(raw.to_str())).success();
                return self.judge_bytes(left.position, &std::fs::read(raw).unwrap());
            }
            Ok(())
        });
        assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    }
}

/// Plays on files whose power can be cut.
pub(crate) struct Player {
    kind: Kind,
    power: Power,
    pub(crate) image: Image,
    backing: Option<Arc<dyn Backing>>,
    diary: Diary,
    stamp: u64,
}

impl Player {
    /// A new image, over so many sectors.
    pub(crate) fn new(kind: Kind, below_sectors: usize) -> Self {
        Self::on(kind, &kind.memory(), below_sectors, none_lost)
    }

    /// An image that exists; some syncs may be lost.
    pub(crate) fn on(
        kind: Kind,
        start: &Media<MemoryStorage>,
        below_sectors: usize,
        lost: Lost,
    ) -> Self {
        let power = Power::on(start, lost);
        let backing = (below_sectors > 0).then(|| {
            let below = disk(BELOW, below_sectors).bytes().to_vec();
            Arc::new(TestBacking::new(below)) as Arc<dyn Backing>
        });
        let image = kind.open(power.media(), backing.clone());
        let count = image.virtual_size() as usize / SECTOR;
        let mut start = vec![ZERO; count];
        start[..below_sectors.min(count)].fill(BELOW);
        Self { kind, power, image, backing, diary: Diary::new(start), stamp: 0 }
    }

    /// Says what the disk shows at the beginning.
    pub(crate) fn start_with(&mut self, start: Vec<u64>) {
        self.diary = Diary::new(start);
    }

    pub(crate) fn write(&mut self, first: usize, count: usize) {
        self.stamp += 1;
        let change = self.diary.begin(self.power.position(), first, count, self.stamp);
        let bytes = sectors(self.stamp, first, count);
        self.image.write_at((first * SECTOR) as u64, &bytes).unwrap();
        self.diary.end(change);
    }

    pub(crate) fn zero(&mut self, first: usize, count: usize, mode: ZeroMode) {
        let change = self.diary.begin(self.power.position(), first, count, ZERO);
        let len = (count * SECTOR) as u64;
        self.image.write_zeroes_at((first * SECTOR) as u64, len, mode).unwrap();
        self.diary.end(change);
    }

    /// Gives whole clusters up, where the version can say "zeros" about them.
    pub(crate) fn discard(&mut self, first: usize, count: usize) {
        let per_cluster = self.per_cluster();
        let (first, end) = (first.next_multiple_of(per_cluster), first + count);
        let at_end = end == self.diary.size();
        let end = if at_end { end } else { end / per_cluster * per_cluster };
        let says_zeros = self.image.dialect().has_zero_flag() || self.backing.is_none();
        if first >= end || !says_zeros {
            return;
        }
        let change = self.diary.begin(self.power.position(), first, end - first, ZERO);
        let len = ((end - first) * SECTOR) as u64;
        self.image.discard_at((first * SECTOR) as u64, len).unwrap();
        self.diary.end(change);
    }

    /// A compressed write of a whole cluster, where one is allowed.
    pub(crate) fn compress(&mut self, first: usize) {
        let count = self.per_cluster();
        if self.kind.data != Data::Inside || first + count > self.diary.size() {
            return;
        }
        self.stamp += 1;
        let change = self.diary.begin(self.power.position(), first, count, self.stamp);
        let bytes = sectors(self.stamp, first, count);
        let mut compressor = self.image.compressor().unwrap();
        let result =
            self.image.write_compressed_at(&mut compressor, (first * SECTOR) as u64, &bytes);
        match result {
            Ok(()) => self.diary.end(change),
            Err(_) => self.diary.refused(change),
        }
    }

    pub(crate) fn flush(&mut self) {
        let begun = self.diary.flushing();
        self.image.flush().unwrap();
        self.diary.flushed(begun, self.power.position());
    }

    pub(crate) fn per_cluster(&self) -> usize {
        self.kind.cluster_bytes() as usize / SECTOR
    }

    pub(crate) fn finish(self) -> History {
        let Self { kind, power, image, backing, mut diary, .. } = self;
        let begun = diary.flushing();
        image.close().unwrap();
        diary.flushed(begun, power.position());
        assert_closed(&images::bytes(&*power.media().image));
        History { kind, log: power.log(), diary, backing }
    }
}

/// Every kind of change once, with flushes between.
pub(crate) fn script(player: &mut Player) {
    let per_cluster = player.per_cluster();
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
        let mut player = Player::new(Kind::standard(128 << 10, cluster_bits), below);
        script(&mut player);
        let history = player.finish();
        let count = history.assert_survives(250);
        assert!(count > 70, "{count} states");
        history.ask_qemu(8);
    }
}

pub(crate) fn random_history(player: &mut Player, rng: &mut Rng, steps: usize) {
    let (count, per_cluster) = (player.diary.size(), player.per_cluster());
    for _ in 0..steps {
        let mut first = rng.below(count as u64) as usize;
        let mut len = 1 + rng.below(2 * per_cluster as u64 + 2) as usize;
        if per_cluster > 8 && rng.one_in(2) {
            // Subclusters one by one.
            len = 1 + rng.below(3) as usize;
        } else if rng.one_in(2) {
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
        let mut player = Player::new(Kind::standard(size, cluster_bits), below);
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
    let kind = Kind { version: Version::V2, ..Kind::standard(48 << 10, 9) };
    let mut player = Player::new(kind, 60);
    random_history(&mut player, &mut rng, 50);
    assert!(player.finish().assert_survives(100) > 300);
}

#[test]
fn trap_97_an_image_full_of_compressed_clusters() {
    let mut rng = Rng::announced(0x97);
    let kind = Kind::standard(64 << 10, 11);
    let media = kind.memory();
    let image = kind.open(&media, None);
    let mut compressor = image.compressor().unwrap();
    for cluster in 0..32 {
        let bytes = sectors(BELOW, cluster * 4, 4);
        image.write_compressed_at(&mut compressor, cluster as u64 * 2048, &bytes).unwrap();
    }
    image.close().unwrap();
    let mut player = Player::on(kind, &media, 0, none_lost);
    player.start_with(vec![BELOW; 64 << 1]);
    random_history(&mut player, &mut rng, 60);
    assert!(player.finish().assert_survives(100) > 300);
}

#[test]
fn several_writers_and_a_flusher() {
    const WRITERS: usize = 3;
    let mut rng = Rng::announced(0x3a);
    let (standard, extended) = (Kind::standard(96 << 10, 11), Kind::extended(6 << 14, 14));
    let outside = standard.with_data(Data::Outside);
    for kind in [standard, standard.lazy(), extended, extended.lazy(), outside, outside.lazy()] {
        let mut player = Player::new(kind, 100);
        let (image, power) = (&player.image, &player.power);
        let (count, per_cluster) = (player.diary.size() as u64, player.per_cluster());
        let diary = Mutex::new(std::mem::take(&mut player.diary));
        let rngs: Vec<Rng> = (0..WRITERS).map(|_| rng.fork()).collect();
        std::thread::scope(|scope| {
            for (number, mut rng) in rngs.into_iter().enumerate() {
                let diary = &diary;
                scope.spawn(move || {
                    for step in 0..30 {
                        // Few clusters: everybody writes to those of the others.
                        let first = rng.below(count - 2) as usize / per_cluster * per_cluster
                            + rng.below(3) as usize;
                        let sectors_here = 3.min(count as usize - first);
                        let at = (first * SECTOR) as u64;
                        let kind = rng.below(8);
                        if kind == 0 {
                            let begun = diary.lock().unwrap().flushing();
                            image.flush().unwrap();
                            diary.lock().unwrap().flushed(begun, power.position());
                            continue;
                        }
                        let stamp =
                            if kind == 1 { ZERO } else { (number * 1000 + step + 1) as u64 };
                        let change = diary.lock().unwrap().begin(
                            power.position(),
                            first,
                            sectors_here,
                            stamp,
                        );
                        let len = sectors_here * SECTOR;
                        match stamp {
                            ZERO => image.write_zeroes_at(at, len as u64, ZeroMode::Unmap).unwrap(),
                            _ => image.write_at(at, &sectors(stamp, first, sectors_here)).unwrap(),
                        }
                        diary.lock().unwrap().end(change);
                    }
                });
            }
        });
        player.diary = diary.into_inner().unwrap();
        let history = player.finish();
        assert!(history.assert_survives(60) > 100, "{kind:?}");
    }
}

/// The tests above can fail: each barrier that is lost is noticed.
#[test]
fn a_lost_barrier_is_noticed() {
    let orders: [(&str, Lost); 4] = [
        ("all", |_, _| true),
        ("the one before entries", |_, seen| seen % 2 == 1),
        ("the one after entries", |_, seen| seen % 2 == 0),
        ("one of the later ones", |_, seen| seen == 5),
    ];
    let kind = Kind::standard(128 << 10, 12);
    for (what, lost) in orders {
        let mut player = Player::on(kind, &kind.memory(), 90, lost);
        script(&mut player);
        let (_, complaint) = player.finish().complaint(256);
        assert!(complaint.is_some(), "{what} lost, and nobody noticed");
    }
}
