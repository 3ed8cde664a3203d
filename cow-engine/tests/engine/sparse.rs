//! Disks with more tables than the cache holds, written here and there: nothing is lost on the way
//! out of memory and back.

use std::collections::BTreeMap;

use cow_engine::ZeroMode;
use testkit::Rng;

use crate::images;
use crate::kinds::{Data, Kind};
use crate::power::{assert_closed, complaint};
use crate::stamps::SECTOR;

/// Writes, zeroes and discards single sectors and whole clusters far apart, and compares.
fn scatter(kind: Kind, rng: &mut Rng, steps: usize) {
    eprintln!("{kind:?}");
    let media = kind.memory();
    let mut image = kind.open(&media, None);
    // What is not here is zeros.
    let mut expected: BTreeMap<u64, u8> = BTreeMap::new();
    let per_cluster = kind.cluster_bytes() / SECTOR as u64;
    for step in 0..steps {
        let sector = match rng.below(3) {
            0 if !expected.is_empty() => {
                *expected.keys().nth(rng.below(expected.len() as u64) as usize).unwrap()
            }
            _ => rng.below(kind.size / SECTOR as u64),
        };
        let cluster = sector - sector % per_cluster;
        let at = |sector: u64| sector * SECTOR as u64;
        match rng.below(16) {
            0 => {
                image.discard_at(at(cluster), kind.cluster_bytes()).unwrap();
                expected.retain(|sector, _| !(cluster..cluster + per_cluster).contains(sector));
            }
            1 => {
                let mode = *rng.pick(&[ZeroMode::Keep, ZeroMode::Unmap]);
                image.write_zeroes_at(at(sector), SECTOR as u64, mode).unwrap();
                expected.remove(&sector);
            }
            2 => {
                let mode = *rng.pick(&[ZeroMode::Keep, ZeroMode::Unmap]);
                image.write_zeroes_at(at(cluster), kind.cluster_bytes(), mode).unwrap();
                expected.retain(|sector, _| !(cluster..cluster + per_cluster).contains(sector));
            }
            3..6 => {
                let byte = expected.get(&sector).copied().unwrap_or(0);
                assert_eq!(images::read(&image, at(sector), SECTOR), [byte; SECTOR]);
            }
            _ => {
                let byte = step as u8 | 1;
                image.write_at(at(sector), &[byte; SECTOR]).unwrap();
                expected.insert(sector, byte);
            }
        }
        if step == steps / 2 {
            image.close().unwrap();
            assert_closed(&images::bytes(&*media.image));
            image = kind.open(&media, None);
        }
    }
    image.flush().unwrap();
    let census = crate::census::take(&images::bytes(&*media.image));
    assert_eq!(complaint(&census), None);
    drop(image);
    assert_closed(&images::bytes(&*media.image));
    let image = kind.open(&media, None);
    for (sector, byte) in &expected {
        let at = sector * SECTOR as u64;
        assert_eq!(images::read(&image, at, SECTOR), [*byte; SECTOR], "sector {sector}");
        // Its neighbour behind it, too.
        let next = expected.get(&(sector + 1)).copied().unwrap_or(0);
        if at + 2 * (SECTOR as u64) <= kind.size {
            assert_eq!(images::read(&image, at + SECTOR as u64, SECTOR), [next; SECTOR]);
        }
    }
}

#[test]
fn scattered_over_many_tables() {
    let mut rng = Rng::announced(0x5ca7);
    // A slice of an extended table maps 4 MiB here: far more slices than the 64 that stay.
    let extended = Kind::extended(2 << 30, 14);
    scatter(extended, &mut rng, 700);
    scatter(extended.lazy(), &mut rng, 700);
    scatter(extended.with_data(Data::Outside), &mut rng, 500);
    let standard = Kind::standard(64 << 20, 9);
    scatter(standard.lazy(), &mut rng, 900);
    scatter(standard.with_data(Data::Outside).lazy(), &mut rng, 700);
}
