//! One history of requests, played on files of which one call fails, or more: what the image may
//! show during it and afterwards.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use block_io::MemoryStorage;
use cow_engine::{Backing, Error, Image, ZeroMode};
use qcow2_format::Version;
use testkit::{Arrives, Call, CallSet, Fault, FaultStorage, Pattern, census};

use crate::images;
use crate::kinds::{Data, Kind, Media};
use crate::power::complaint;
use crate::test_backing::TestBacking;

pub(crate) const SIZE: u64 = 140 << 10;
const SECTOR: usize = 512;

#[derive(Clone, Copy)]
enum Step {
    Write(u64, u64),
    Zero(u64, u64, ZeroMode),
    Discard(u64, u64),
    /// A compressed write of the cluster that holds this byte.
    Blob(u64),
    Flush,
}

/// Every kind of change, small clusters: new L2 tables and refcount blocks on the way.
const HISTORY: &[Step] = &[
    Step::Write(100, 700),
    Step::Write(0x8000 - 300, 900),
    Step::Flush,
    Step::Write(200, 4000),
    Step::Blob(0x2000),
    Step::Zero(0x300, 0x900, ZeroMode::Keep),
    Step::Write(0x2000, 100),
    Step::Flush,
    Step::Write(0x400, 300),
    Step::Zero(0x8000 - 512, 1024, ZeroMode::Unmap),
    Step::Write(40 << 10, 30 << 10),
    Step::Zero(50 << 10, 10 << 10, ZeroMode::Unmap),
    Step::Blob(0x1_8000),
    Step::Flush,
    Step::Discard(0x1_0000, 0x9000),
    Step::Flush,
    Step::Write(70 << 10, 65 << 10),
    Step::Write(300, 3000),
    Step::Flush,
];

/// A way in which calls fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    calls: CallSet,
    errno: i32,
    arrives: Arrives,
    until: Until,
}

/// How long calls go on failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// One call fails.
    NextCall,
    /// All calls of the set, until the request has failed; then the host is well again.
    NextRequest,
    /// All calls of the set, until the image is closed.
    End,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

const fn way(
    name: &'static str,
    calls: CallSet,
    errno: i32,
    arrives: Arrives,
    until: Until,
) -> Way {
    Way { name, calls, errno, arrives, until }
}

/// Every way in which calls fail here.
pub(crate) const WAYS: [Way; 11] = {
    use Arrives::{AllButSector, Everything, Half, Nothing};
    use Until::{End, NextCall, NextRequest};
    let all = CallSet::ALL;
    let changes = CallSet::CHANGES;
    let both = CallSet::CHANGES_AND_SYNCS;
    let syncs = CallSet::of(&[Call::Sync]);
    let reads = CallSet::of(&[Call::Read]);
    [
        way("any call, once", all, EIO, Nothing, NextCall),
        way("half of a change, once", both, EIO, Half, NextCall),
        way("no space, for one request", changes, ENOSPC, Nothing, NextRequest),
        way("syncs, for one request", syncs, EIO, Nothing, NextRequest),
        way("no space, for good", changes, ENOSPC, Nothing, End),
        way("changes and syncs, for good", both, EIO, Nothing, End),
        way("no space, once", changes, ENOSPC, Nothing, NextCall),
        way("no space for the last sector, once", changes, ENOSPC, AllButSector, NextCall),
        way("only the answer, once", both, EIO, Everything, NextCall),
        way("no space for the second half, for good", changes, ENOSPC, Half, End),
        way("reads, for good", reads, EIO, Nothing, End),
    ]
};

impl Way {
    fn fault(&self, nth: u64) -> Fault {
        let mut fault = Fault::nth(nth, self.calls).arriving(self.arrives);
        if self.errno == ENOSPC {
            fault = fault.no_space();
        }
        if self.until == Until::NextCall { fault } else { fault.lasting() }
    }
}

/// How often each kind of call was the first to fail.
pub(crate) type Tally = BTreeMap<Call, u64>;

type Sector = Rc<[u8]>;

/// What each sector may show. After a failure there is more than one possibility.
#[derive(Clone)]
struct Shown(Vec<Vec<Sector>>);

impl Shown {
    fn new(bytes: &[u8]) -> Self {
        Self(bytes.chunks(SECTOR).map(|sector| vec![Sector::from(sector)]).collect())
    }

    /// Adds what a write makes of a sector from `skip` on, to what it may show or in its place.
    fn write(&mut self, sector: usize, skip: usize, bytes: &[u8], fails: bool) {
        let possible = &mut self.0[sector];
        let changed: Vec<Sector> = possible
            .iter()
            .map(|old| {
                let mut new = old.to_vec();
                new[skip..skip + bytes.len()].copy_from_slice(bytes);
                Sector::from(new)
            })
            .collect();
        if !fails {
            possible.clear();
        }
        self.add(sector, &changed);
    }

    fn add(&mut self, sector: usize, more: &[Sector]) {
        let possible = &mut self.0[sector];
        for one in more {
            if !possible.contains(one) {
                possible.push(Sector::clone(one));
            }
        }
    }

    #[track_caller]
    fn assert_found(&self, found: &[u8]) {
        assert_eq!(found.len().div_ceil(SECTOR), self.0.len());
        for (number, (sector, possible)) in found.chunks(SECTOR).zip(&self.0).enumerate() {
            if possible.iter().any(|known| **known == *sector) {
                continue;
            }
            // A sector written in part may mix old and new bytes.
            for (index, byte) in sector.iter().enumerate() {
                let known = possible.iter().any(|known| known[index] == *byte);
                let at = number * SECTOR + index;
                assert!(known, "offset {at:#x}: {byte:#x} was never there");
            }
        }
    }
}

/// What an image may show: every byte is one of those that were written there.
struct Possible {
    now: Shown,
    /// Everything the guest may have seen since the last flush that succeeded.
    since_flush: Shown,
}

impl Possible {
    fn new(start: &[u8]) -> Self {
        let now = Shown::new(start);
        Self { since_flush: now.clone(), now }
    }

    /// A change that succeeded, or that failed and may have happened in part.
    fn apply(&mut self, result: &Result<(), Error>, offset: u64, bytes: &[u8]) {
        use Error::{Allocated, Plan};
        if matches!(result, Err(Plan { .. } | Allocated { .. })) {
            // Refused before it began.
            return;
        }
        let (mut at, mut rest) = (offset as usize, bytes);
        while !rest.is_empty() {
            let (sector, skip) = (at / SECTOR, at % SECTOR);
            let (part, behind) = rest.split_at(rest.len().min(SECTOR - skip));
            self.now.write(sector, skip, part, result.is_err());
            self.since_flush.add(sector, &self.now.0[sector]);
            at += part.len();
            rest = behind;
        }
    }

    fn flushed(&mut self) {
        self.since_flush = self.now.clone();
    }
}

fn step(image: &Image, possible: &mut Possible, step: Step, number: usize) -> Result<(), Error> {
    let cluster = image.geometry().cluster_bytes();
    match step {
        Step::Write(offset, len) => {
            let bytes = Pattern::new(number as u64).bytes(offset, len as usize);
            let result = image.write_at(offset, &bytes);
            possible.apply(&result, offset, &bytes);
            result
        }
        Step::Zero(offset, len, mode) => {
            let result = image.write_zeroes_at(offset, len, mode);
            possible.apply(&result, offset, &vec![0; len as usize]);
            result
        }
        Step::Discard(offset, len) => {
            let result = image.discard_at(offset, len);
            let (start, end) =
                (offset.next_multiple_of(cluster), (offset + len) / cluster * cluster);
            // Version 2 cannot hide what lies below, and keeps what it has.
            if image.header().version() == Version::V3 {
                possible.apply(&result, start, &vec![0; end.saturating_sub(start) as usize]);
            }
            result
        }
        Step::Blob(offset) => {
            let offset = image.geometry().cluster_start(offset);
            let bytes = vec![number as u8; cluster as usize];
            let mut compressor = image.compressor()?;
            let result = image.write_compressed_at(&mut compressor, offset, &bytes);
            possible.apply(&result, offset, &bytes);
            result
        }
        Step::Flush => {
            let result = image.flush();
            if result.is_ok() {
                possible.flushed();
            }
            result
        }
    }
}

fn read_all(image: &Image) -> Vec<u8> {
    images::read(image, 0, image.virtual_size() as usize)
}

type Files = Media<FaultStorage<MemoryStorage>>;

fn heal(media: &Files) {
    std::iter::once(&media.image).chain(&media.data).for_each(|file| file.heal());
}

fn backing(kind: Kind) -> (Vec<u8>, Option<Arc<dyn Backing>>) {
    if kind.data == Data::Raw {
        return (vec![0; SIZE as usize], None);
    }
    let mut bytes = Pattern::new(77).bytes(0, 60_000);
    let backing = Arc::new(TestBacking::new(bytes.clone()));
    bytes.resize(SIZE as usize, 0);
    (bytes, Some(backing))
}

/// Plays the history on files that may fail, and judges what is left. Returns what has failed
/// first, if anything has.
fn scenario(kind: Kind, media: &Files, way: Way, before: &[u8]) -> Option<Call> {
    let first_fired =
        || std::iter::once(&media.image).chain(&media.data).find_map(|file| file.first_fired());
    let (start, backing) = backing(kind);
    let mut possible = Possible::new(&start);
    let image = match kind.try_open(media, backing.clone()) {
        Ok(image) => image,
        Err(error) => {
            assert!(matches!(error, Error::Storage { .. }), "{error}");
            assert!(images::bytes(media.image.inner()) == before, "CE-6: the file has changed");
            return first_fired();
        }
    };
    // Nobody expects anything of an image once it said so.
    let mut poisoned = false;
    for (number, &this) in HISTORY.iter().enumerate() {
        let result = step(&image, &mut possible, this, number + 1);
        assert!(!poisoned || result.is_err(), "CE-5: poisoned images accept nothing");
        if let Err(error) = &result {
            let expected = match error {
                Error::Poisoned(_) => poisoned && error.raw_os_error() == Some(way.errno),
                Error::Storage { .. } => !poisoned && first_fired().is_some(),
                // Something of the cluster was written before, in large ones by the history itself.
                Error::Allocated { .. } => matches!(this, Step::Blob(_)),
                Error::Plan { .. } => media.data.is_some() && matches!(this, Step::Blob(_)),
                _ => false,
            };
            assert!(expected, "{error}");
        }
        if first_fired().is_none() {
            assert!(result.is_ok() || matches!(this, Step::Blob(_)), "nothing has failed");
        } else if way.until != Until::End {
            heal(media);
            poisoned |= matches!(image.flush(), Err(Error::Poisoned(_)));
            possible.now.assert_found(&read_all(&image));
            if !poisoned {
                possible.flushed();
            }
        } else {
            // Whether it was given up is asked where it costs nothing.
            poisoned |= matches!(image.begin_write(0, 0), Err(Error::Poisoned(_)));
        }
    }
    let closed = image.close();
    assert!(closed.is_ok() || first_fired().is_some());
    assert!(closed.is_err() || !poisoned);
    let failed = first_fired();
    heal(media);
    let expected = if closed.is_ok() { &possible.now } else { &possible.since_flush };
    judge_left(kind, media, backing, expected, closed.is_ok());
    failed
}

/// Nothing is lost that was flushed; nothing at all, not even space, when it could be closed.
fn judge_left(
    kind: Kind,
    media: &Files,
    backing: Option<Arc<dyn Backing>>,
    expected: &Shown,
    clean: bool,
) {
    let census = census::take(media.image.inner());
    assert_eq!(complaint(&census), None);
    assert!(!census.dirty || kind.lazy_refcounts && !clean, "marked dirty");
    let leaks = census.leaks;
    assert!(!clean || leaks == 0, "{leaks} clusters leak though it could be closed");
    let found = read_all(&media.open_read_only(backing).unwrap());
    expected.assert_found(&found);
    if let (Data::Raw, Some(data)) = (kind.data, &media.data) {
        let raw = images::bytes(data.inner());
        expected.assert_found(&raw);
        let fired = std::iter::once(&media.image).chain(&media.data).any(|file| file.fired() > 0);
        // What failed may be there in part; only the guest is told of zeros by the entry.
        assert!(fired || raw == found, "the raw file shows something else");
    }
}

/// Fails one call after the other of the image file (0) or the data file (1), until a history
/// passes; returns which calls have failed.
pub(crate) fn fail_each_call_of(kind: Kind, file: usize, way: Way) -> Tally {
    let kind = Kind { size: SIZE, ..kind };
    let start = kind.memory();
    let before = images::bytes(&*start.image);
    let mut tally = Tally::new();
    for nth in 1.. {
        let media = start.wrapped(|file| FaultStorage::new((**file).clone()));
        let failing = if file == 0 { &media.image } else { media.data.as_ref().unwrap() };
        failing.arm(way.fault(nth));
        eprintln!("{}: call {nth} of file {file}: {kind:?}", way.name);
        match scenario(kind, &media, way, &before) {
            Some(call) => *tally.entry(call).or_default() += 1,
            None => break,
        }
    }
    tally
}
