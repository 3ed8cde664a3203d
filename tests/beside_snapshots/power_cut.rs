//! Power cuts while the disk is written: at any instant the snapshots show what they keep, the
//! disk old or new sectors, and the worst that a check finds is a leak.

use std::sync::Arc;

use qimg::check::{CheckOptions, Outcome, check, repair_dirty};
use qimg::engine::{Image, OpenOptions, ZeroMode};
use qimg::format::IncompatibleFeatures;
use qimg::io::{MemoryStorage, Storage};
use testkit::{CrashPlan, CrashState, CrashStorage, Folder, Qemu, Rng};

use super::image::{Shape, as_snapshot, seen_in, snapshot};

const SECTOR: usize = 512;

/// Small images of which much is shared: data, tables, compressed clusters.
const SHAPES: [Shape; 3] = [
    Shape { options: "cluster_size=512", cluster: 512, size: 80 << 10 },
    Shape { options: "cluster_size=1k,compat=0.10", cluster: 1024, size: 160 << 10 },
    Shape { options: "cluster_size=16k,extended_l2=on", cluster: 16384, size: 1 << 20 },
];

/// An image with two snapshots, and what those show.
struct Start {
    bytes: Vec<u8>,
    disk: Vec<u64>,
    snapshots: Vec<Vec<u8>>,
}

fn start(shape: Shape) -> Start {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    shape.create(&path);
    let io = |commands: &[String]| {
        let words = commands.iter().flat_map(|command| ["-c", command.as_str()]);
        let words = ["-f", "qcow2"].into_iter().chain(words).chain([path.to_str().unwrap()]);
        let said = Qemu::io(words).success();
        assert_eq!(said.stdout.matches("wrote ").count(), commands.len(), "{said:?}");
    };
    let (cluster, size) = (shape.cluster, shape.size);
    let last = (size - 1) / cluster * cluster;
    io(&[
        format!("write -P 1 0 {}", 8 * cluster),
        format!("write -c -P 2 {} {cluster}", 9 * cluster),
        format!("write -c -P 3 {} {cluster}", 10 * cluster),
        format!("write -P 4 {last} {}", size - last),
    ]);
    snapshot("-c", "one", &path);
    io(&[format!("write -P 5 0 {}", 2 * cluster)]);
    snapshot("-c", "two", &path);
    io(&[format!("write -P 6 {cluster} {}", 3 * cluster)]);
    let snapshots = ["one", "two"].map(|name| seen_in(name, &path, &folder)).into();
    let bytes = std::fs::read(&path).unwrap();
    let image = read_only(Arc::new(MemoryStorage::from(&bytes[..])));
    let disk = stamps(&read_all(&image)).unwrap();
    Start { bytes, disk, snapshots }
}

fn read_only(storage: Arc<dyn Storage>) -> Image {
    Image::open(storage, OpenOptions::new().read_only(true)).unwrap()
}

fn read_all(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0xaa; image.virtual_size() as usize];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

/// The word that fills each sector.
fn stamps(bytes: &[u8]) -> Result<Vec<u64>, String> {
    let sector = |(number, sector): (usize, &[u8])| {
        let stamp = u64::from_be_bytes(sector[..8].try_into().unwrap());
        let whole = sector.chunks(8).all(|word| word == stamp.to_be_bytes());
        if whole { Ok(stamp) } else { Err(format!("sector {number} is neither old nor new")) }
    };
    bytes.chunks(SECTOR).enumerate().map(sector).collect()
}

/// What was done to the disk, and when.
#[derive(Default)]
struct Diary {
    /// Length of the log before it began, the sectors, what fills them then.
    changes: Vec<(usize, core::ops::Range<usize>, u64)>,
    /// Length of the log after a flush, and the changes before it.
    flushes: Vec<(usize, usize)>,
}

impl Diary {
    /// Whether a sector may hold this after a cut.
    fn allows(&self, cut: usize, sector: usize, start: u64, found: u64) -> bool {
        let kept = self.flushes.iter().filter(|(end, _)| *end <= cut).map(|(_, changes)| *changes);
        let kept = kept.max().unwrap_or(0);
        let mut allowed = vec![start];
        for (number, (begun, sectors, stamp)) in self.changes.iter().enumerate() {
            if sectors.contains(&sector) && (number < kept || *begun <= cut) {
                if number < kept {
                    allowed.clear();
                }
                allowed.push(*stamp);
            }
        }
        allowed.contains(&found)
    }
}

/// Changes the disk at random; returns what was done.
fn play(image: &Image, crash: &CrashStorage, rng: &mut Rng) -> Diary {
    let mut diary = Diary::default();
    let cluster = image.geometry().cluster_bytes() as usize / SECTOR;
    let sectors = image.virtual_size() as usize / SECTOR;
    for number in 1..=40_u64 {
        // Close to what is shared, most of the time.
        let near = if rng.one_in(4) { sectors } else { 12 * cluster };
        let first = rng.below(near as u64) as usize;
        let whole = rng.one_in(2);
        let first = if whole { first - first % cluster } else { first };
        let len = if whole { cluster } else { 1 + rng.below(2 * cluster as u64) as usize };
        let range = first..(first + len).min(sectors);
        let (at, bytes) = ((first * SECTOR) as u64, (range.len() * SECTOR) as u64);
        let begun = crash.position();
        let stamp = match rng.below(9) {
            0 => image.write_zeroes_at(at, bytes, ZeroMode::Keep).map(|()| 0).unwrap(),
            1 => image.write_zeroes_at(at, bytes, ZeroMode::Unmap).map(|()| 0).unwrap(),
            2 if whole => image.discard_at(at, bytes).map(|()| 0).unwrap(),
            3 if whole => {
                let stamp = 0x1000 + number;
                let content = stamp.to_be_bytes().repeat(bytes as usize / 8);
                let mut compressor = image.compressor().unwrap();
                if image.write_compressed_at(&mut compressor, at, &content).is_err() {
                    continue;
                }
                stamp
            }
            4 => {
                let changes = diary.changes.len();
                image.flush().unwrap();
                diary.flushes.push((crash.position(), changes));
                continue;
            }
            _ => {
                let stamp = 0x1000 + number;
                image.write_at(at, &stamp.to_be_bytes().repeat(bytes as usize / 8)).unwrap();
                stamp
            }
        };
        diary.changes.push((begun, range, stamp));
    }
    diary
}

/// What is wrong with what a cut has left.
fn judge(
    start: &Start,
    diary: &Diary,
    state: &CrashState,
    medium: &MemoryStorage,
) -> Result<(), String> {
    // Counts that wait may be too low, if the image says so; a repair must then change nothing that
    // anybody sees.
    let dirty = read_only(Arc::new(medium.clone())).header().requires(IncompatibleFeatures::DIRTY);
    let medium = &medium.clone();
    if dirty {
        repair_dirty(medium).map_err(|error| error.to_string())?;
    }
    let report = check(medium, CheckOptions::default()).map_err(|error| error.to_string())?;
    if !matches!(report.outcome(), Outcome::Consistent | Outcome::Leaks) {
        return Err(format!("{:?}", report.findings));
    }
    let bytes = medium.to_vec();
    for (index, expected) in start.snapshots.iter().enumerate() {
        if read_all(&read_only(as_snapshot(&bytes, index))) != *expected {
            return Err(format!("snapshot {index} has changed"));
        }
    }
    let disk = stamps(&read_all(&read_only(Arc::new(medium.clone()))))?;
    for (sector, (&found, &old)) in disk.iter().zip(&start.disk).enumerate() {
        if !diary.allows(state.cut, sector, old, found) {
            return Err(format!("sector {sector} is {found:#x}"));
        }
    }
    Ok(())
}

fn survive(options: &OpenOptions, rng: &mut Rng) -> usize {
    let mut states = 0;
    for (shape, rounds) in SHAPES.into_iter().zip([4, 3, 2]) {
        let start = start(shape);
        for _ in 0..rounds {
            let crash = Arc::new(CrashStorage::on(MemoryStorage::from(&start.bytes[..])));
            let storage: Arc<dyn Storage> = Arc::<CrashStorage>::clone(&crash);
            let image = Image::open(storage, options.clone()).unwrap();
            let diary = play(&image, &crash, rng);
            image.close().unwrap();
            let plan = CrashPlan { states_max: 30, ..CrashPlan::default() };
            states += crash.log().check_states(&plan, |state, medium| {
                let verdict = judge(&start, &diary, state, &medium);
                assert_eq!(verdict, Ok(()), "{shape:?}, {state:?}");
            });
        }
    }
    states
}

#[test]
fn snapshots_survive_power_cuts() {
    let mut rng = Rng::announced(0x5bad);
    let states = survive(&OpenOptions::new(), &mut rng);
    assert!(states > 800, "{states} states");
}

#[test]
fn snapshots_survive_power_cuts_while_counts_wait() {
    let mut rng = Rng::announced(0x5bad1);
    let states = survive(&OpenOptions::new().lazy_refcounts(true), &mut rng);
    assert!(states > 500, "{states} states");
}
