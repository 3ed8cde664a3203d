//! No lock is held across data I/O: while the host takes its time over guest data of one request,
//! everything that has nothing to do with its clusters goes on, in every kind of image.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use block_io::MemoryStorage;
use cow_engine::{Image, RunKind, WriteRun, ZeroMode};
use testkit::{Call, CallSet, HoldStorage};

use crate::images;
use crate::kinds::{Data, Kind, Media};
use crate::power::assert_closed;

const READS: CallSet = CallSet::of(&[Call::Read]);
const WRITES: CallSet = CallSet::of(&[Call::Write]);

/// Longer than anything here takes by far.
const PATIENCE: Duration = Duration::from_secs(20);

type Held = HoldStorage<MemoryStorage>;

/// Eight clusters each.
fn kinds() -> Vec<Kind> {
    let standard = Kind::standard(8 << 12, 12);
    let extended = Kind::extended(8 << 14, 14);
    vec![
        standard,
        standard.lazy(),
        Kind { l2_cache_bytes: 1 << 20, ..standard },
        extended,
        extended.lazy(),
        standard.with_data(Data::Outside),
        extended.with_data(Data::Outside),
        standard.with_data(Data::Raw),
    ]
}

/// An image whose first four clusters are data, and flushed.
struct HalfFull {
    kind: Kind,
    media: Media<Held>,
    image: Image,
}

impl HalfFull {
    fn new(kind: Kind) -> Self {
        let media = kind.memory().wrapped(|file| HoldStorage::new((**file).clone()));
        let image = kind.open(&media, None);
        image.write_at(0, &vec![1; 4 * kind.cluster_bytes() as usize]).unwrap();
        image.flush().unwrap();
        Self { kind, media, image }
    }

    fn at(&self, cluster: u64) -> u64 {
        cluster * self.kind.cluster_bytes()
    }

    fn data(&self) -> &Held {
        self.media.data.as_ref().unwrap_or(&self.media.image)
    }

    /// Host bytes that the next first write of a cluster goes to.
    fn next_place(&self, cluster: u64) -> Range<u64> {
        let len = self.kind.cluster_bytes();
        if self.kind.data == Data::Raw {
            // Everything has its place from the beginning.
            return self.at(cluster)..self.at(cluster) + len;
        }
        let pending = self.image.begin_write(self.at(cluster), len).unwrap();
        match pending.plan().runs().first() {
            Some(WriteRun::Allocate(run)) => run.host().get()..run.host().get() + len,
            run => panic!("{run:?}"),
        }
    }

    /// Host bytes of a cluster.
    fn place(&self, cluster: u64) -> Range<u64> {
        let len = self.kind.cluster_bytes();
        match self.image.first_run(self.at(cluster), len).unwrap().unwrap().kind {
            RunKind::Data { host } => host.get()..host.get() + len,
            kind => panic!("{kind:?}"),
        }
    }

    /// While calls of a kind wait at a place, which `slow` makes, all that touches no cluster but 1, 2,
    /// 3 and 5 to 7 is done.
    fn goes_on(&self, calls: CallSet, place: Range<u64>, slow: impl FnOnce(&Image) + Send) {
        self.data().hold_range(calls, place);
        thread::scope(|scope| {
            let slow = scope.spawn(|| slow(&self.image));
            self.data().wait_for(1);
            let (tell, told) = mpsc::channel();
            scope.spawn(move || {
                self.everything_else();
                tell.send(()).unwrap();
            });
            let outcome = told.recv_timeout(PATIENCE);
            let is_slow = !slow.is_finished();
            // A failure must not become a hang.
            self.data().release();
            assert!(outcome.is_ok(), "somebody waits for data of others: {:?}", self.kind);
            assert!(is_slow, "nothing was held");
        });
    }

    fn everything_else(&self) {
        let (image, len) = (&self.image, self.kind.cluster_bytes());
        // Reads, overwrites, first writes, zeros, discards.
        assert_eq!(images::read(image, self.at(1), 512), [1; 512]);
        image.write_at(self.at(1), &[2; 512]).unwrap();
        image.write_at(self.at(5), &[3; 512]).unwrap();
        image.write_zeroes_at(self.at(2), len, ZeroMode::Unmap).unwrap();
        image.discard_at(self.at(3), len).unwrap();
        if self.kind.data == Data::Inside {
            let mut compressor = image.compressor().unwrap();
            let bytes = vec![4; len as usize];
            image.write_compressed_at(&mut compressor, self.at(6), &bytes).unwrap();
            assert_eq!(images::read(image, self.at(6), 512), [4; 512]);
        }
        image.flush().unwrap();
        image.write_at(self.at(7), &vec![5; len as usize]).unwrap();
        image.flush().unwrap();
        assert_eq!(images::read(image, self.at(5), 512), [3; 512]);
    }

    fn finish(self, zero: u8, four: u8) {
        assert_eq!(images::read(&self.image, 0, 512), [zero; 512]);
        assert_eq!(images::read(&self.image, self.at(4), 512), [four; 512]);
        self.image.close().unwrap();
        assert_closed(&images::bytes(self.media.image.inner()));
    }
}

#[test]
fn while_a_first_write_is_slow() {
    for kind in kinds() {
        let image = HalfFull::new(kind);
        let at = image.at(4);
        image.goes_on(WRITES, image.next_place(4), |image| image.write_at(at, &[9; 512]).unwrap());
        image.finish(1, 9);
    }
}

#[test]
fn while_an_overwrite_is_slow() {
    for kind in kinds() {
        let image = HalfFull::new(kind);
        image.goes_on(WRITES, image.place(0), |image| image.write_at(0, &[9; 512]).unwrap());
        image.finish(9, 0);
    }
}

#[test]
fn while_a_read_is_slow() {
    for kind in kinds() {
        let image = HalfFull::new(kind);
        image.goes_on(READS, image.place(0), |image| {
            assert_eq!(images::read(image, 0, 512), [1; 512]);
        });
        image.finish(1, 0);
    }
}

#[test]
fn while_a_compressed_write_is_slow() {
    for kind in kinds().into_iter().filter(|kind| kind.data == Data::Inside) {
        let image = HalfFull::new(kind);
        let (at, bytes) = (image.at(4), vec![9; kind.cluster_bytes() as usize]);
        let place = image.next_place(4);
        // The first blob alone: the next ones are packed behind it.
        image.goes_on(WRITES, place.start..place.start + 1, |image| {
            let mut compressor = image.compressor().unwrap();
            image.write_compressed_at(&mut compressor, at, &bytes).unwrap();
        });
        image.finish(1, 9);
    }
}

#[test]
fn while_a_compressed_cluster_is_read_slowly() {
    for kind in kinds().into_iter().filter(|kind| kind.data == Data::Inside) {
        let image = HalfFull::new(kind);
        let (at, bytes) = (image.at(4), vec![9; kind.cluster_bytes() as usize]);
        let place = image.next_place(4);
        let mut compressor = image.image.compressor().unwrap();
        image.image.write_compressed_at(&mut compressor, at, &bytes).unwrap();
        image.goes_on(READS, place.start..place.start + 1, |image| {
            assert_eq!(images::read(image, at, 512), [9; 512]);
        });
        image.finish(1, 9);
    }
}
