//! The allocator of an image.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use refcount::HostRun;
use shuttle::thread;

use crate::Image;
use crate::image::Writer;
use crate::models::explore::{SOME, explore};
use crate::models::kinds::Kind;
use crate::models::stepping::Stepping;

/// Host clusters, a bit for each that somebody owns.
struct Clusters {
    image: Image,
    owned: Mutex<Vec<bool>>,
    /// References to the open cluster that compressed blobs were given.
    blobs: AtomicU64,
}

impl Clusters {
    fn new() -> Self {
        let kind = Kind::standard(16 * 512, 9);
        let media = kind.memory().wrapped(|file| Stepping::new(file));
        let image = kind.open(&media, None);
        Self { image, owned: Mutex::new(vec![false; 1024]), blobs: AtomicU64::new(0) }
    }

    fn writer(&self) -> &Writer {
        self.image.writer().unwrap()
    }

    fn own(&self, run: HostRun) {
        let mut owned = self.owned.lock().unwrap();
        for cluster in run.clusters() {
            let taken = std::mem::replace(&mut owned[cluster.get() as usize], true);
            assert!(!taken, "cluster {cluster} has two owners");
        }
    }

    fn disown(&self, run: HostRun) {
        let mut owned = self.owned.lock().unwrap();
        run.clusters().for_each(|cluster| owned[cluster.get() as usize] = false);
    }

    fn reserve(&self, wanted: u64) -> HostRun {
        let Writer { allocator, map, .. } = self.writer();
        let run = allocator.reserve(map, wanted).unwrap().run;
        self.own(run);
        thread::yield_now();
        run
    }

    fn release(&self, run: HostRun) {
        let Writer { allocator, map, .. } = self.writer();
        self.disown(run);
        allocator.release(map, run).unwrap();
    }
}

#[test]
fn no_cluster_has_two_owners() {
    explore(SOME, || {
        let clusters = Clusters::new();
        thread::scope(|scope| {
            for wanted in 1..=3 {
                let clusters = &clusters;
                scope.spawn(move || {
                    let kept = clusters.reserve(wanted);
                    let passing = clusters.reserve(2);
                    clusters.release(passing);
                    let last = clusters.reserve(wanted);
                    clusters.release(kept);
                    clusters.release(last);
                });
            }
            scope.spawn(|| clusters.image.flush().unwrap());
        });
        let Writer { allocator, .. } = clusters.writer();
        for cluster in 8..32 {
            assert_eq!(allocator.count(qcow2_format::HostCluster::new(cluster)).unwrap(), 0);
        }
    });
}

#[test]
fn trap_95_blobs_share_only_clusters_that_are_theirs() {
    explore(SOME, || {
        let clusters = Clusters::new();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let Writer { allocator, map, .. } = clusters.writer();
                    for _ in 0..3 {
                        let host = allocator.reserve_bytes(map, 100).unwrap();
                        clusters.blobs.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        let run = allocator.byte_run(host, 100);
                        for cluster in run.clusters() {
                            let owned = clusters.owned.lock().unwrap();
                            assert!(!owned[cluster.get() as usize], "a blob in foreign data");
                        }
                        allocator.release(map, run).unwrap();
                    }
                });
            }
            scope.spawn(|| {
                let runs = [clusters.reserve(1), clusters.reserve(2)];
                runs.into_iter().for_each(|run| clusters.release(run));
            });
        });
        assert_eq!(clusters.blobs.load(Ordering::Relaxed), 6);
    });
}
