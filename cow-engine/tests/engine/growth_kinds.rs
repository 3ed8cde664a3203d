//! Growth of the refcount table under everything else: widest counts on the smallest clusters fill
//! a table with 2 MiB.

use block_io::{MemoryStorage, Storage};
use testkit::{CallSet, Fault, FaultStorage, Rng};

use crate::census;
use crate::contention::fight_from;
use crate::crash::{BELOW, Player, random_history};
use crate::images::{self, word};
use crate::kinds::{Kind, Media};
use crate::power::{complaint, none_lost};
use crate::stamps::{SECTOR, ZERO, sectors};

/// What the first table can count, in bytes of the file.
const CAPACITY: u64 = 64 * 64 * 512;

fn kind() -> Kind {
    Kind::standard(5 << 19, 9).width(6)
}

/// An image with room for `room` bytes before its table has to grow, and the stamps that its guest
/// sees.
fn nearly_full(kind: Kind, room: u64) -> (Media<MemoryStorage>, Vec<u64>) {
    let media = kind.memory();
    let image = kind.open(&media, None);
    let mut start = vec![ZERO; kind.size as usize / SECTOR];
    let mut first = 0;
    loop {
        let left = CAPACITY.saturating_sub(media.image.len().unwrap() + room) as usize / SECTOR;
        let count = (left / 2).clamp(1, 512);
        if left < 4 {
            break;
        }
        image.write_at((first * SECTOR) as u64, &sectors(BELOW, first, count)).unwrap();
        start[first..first + count].fill(BELOW);
        first += count;
    }
    image.close().unwrap();
    census::assert_clean(&images::bytes(&*media.image));
    assert_eq!(word(&*media.image, 56) >> 32, 1, "the first table still serves");
    (media, start)
}

fn has_grown<S: Storage>(image: &S) -> bool {
    word(image, 56) >> 32 > 1
}

#[test]
fn power_cuts_around_growth() {
    let mut rng = Rng::announced(0x6707);
    for kind in [kind(), kind().lazy()] {
        for room in [2 << 10, 7 << 10] {
            let (media, start) = nearly_full(kind, room);
            let mut player = Player::on(kind, &media, 0, none_lost);
            player.start_with(start.clone());
            // Enough for the rest of the table, and then anything.
            let first = start.iter().rposition(|stamp| *stamp == BELOW).unwrap() + 90;
            for number in 0..14 {
                player.write(first + number * 3, 2);
                if number % 5 == 4 {
                    player.flush();
                }
            }
            random_history(&mut player, &mut rng, 8);
            let history = player.finish();
            assert!(history.assert_survives(8) > 30, "{kind:?}");
        }
    }
}

#[test]
fn threads_around_growth() {
    let mut rng = Rng::announced(0x7607);
    for kind in [kind(), kind().lazy()] {
        let (media, start) = nearly_full(kind, 4 << 10);
        let first = start.iter().rposition(|stamp| *stamp == BELOW).unwrap() + 60;
        let image = kind.open(&media, None);
        // Growth in the middle of a fight.
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let image = &image;
                scope.spawn(move || {
                    for number in 0..40 {
                        let at = first + (number * 4 + thread) * 5;
                        image.write_at((at * SECTOR) as u64, &sectors(7, at, 3)).unwrap();
                        if number % 9 == thread {
                            image.flush().unwrap();
                        }
                    }
                });
            }
        });
        assert!(has_grown(&*media.image));
        image.close().unwrap();
        census::assert_clean(&images::bytes(&*media.image));
        let mut now = start;
        for at in (0..160).map(|number| first + number * 5) {
            now[at..at + 3].fill(7);
        }
        fight_from(kind, &media, &now, 0, &mut rng, 150);
    }
}

#[test]
fn compressed_writes_around_growth() {
    for kind in [kind(), kind().lazy()] {
        let (media, start) = nearly_full(kind, 4 << 10);
        let first = start.iter().rposition(|stamp| *stamp == BELOW).unwrap() as u64 + 60;
        let image = kind.open(&media, None);
        // Two blobs and a bit in each cluster: some straddle.
        for number in 0..100 {
            image.write_blob((first + number) * 512, &[number as u8; 200]).unwrap();
            if number % 30 == 7 {
                image.flush().unwrap();
            }
        }
        assert!(has_grown(&*media.image));
        for number in (0..100).step_by(2) {
            image.discard_at((first + number) * 512, 512).unwrap();
        }
        image.close().unwrap();
        census::assert_clean(&images::bytes(&*media.image));
        images::check_clean(&*media.image);
    }
}

#[test]
fn a_lazy_image_grows_and_fails_at_any_call() {
    for kind in [kind(), kind().lazy()] {
        let (start, before) = nearly_full(kind, 3 << 10);
        let first = before.iter().rposition(|stamp| *stamp == BELOW).unwrap() + 90;
        for nth in 1.. {
            let media = start.wrapped(|file| FaultStorage::new((**file).clone()));
            let image = kind.open(&media, None);
            // Whole calls only: half of the header update would be a torn sector.
            media.image.arm(Fault::nth(nth, CallSet::CHANGES_AND_SYNCS));
            let done = (0..12).try_for_each(|number| {
                let at = first + number * 3;
                image.write_at((at * SECTOR) as u64, &sectors(9, at, 2))?;
                if number % 5 == 4 { image.flush() } else { Ok(()) }
            });
            let closed = image.close();
            let fired = media.image.fired() > 0;
            media.image.heal();
            let census = census::take(&images::bytes(media.image.inner()));
            assert_eq!(complaint(&census), None, "call {nth} of {kind:?}");
            let image = media.open_read_only(None).unwrap();
            let found = images::read_all(&image);
            let found = crate::stamps::stamps(&found, 0).unwrap();
            for (sector, stamp) in found.into_iter().enumerate() {
                let new = sector >= first && (sector - first) % 3 < 2 && sector < first + 36;
                let right = stamp == before[sector] || new && stamp == 9;
                assert!(right, "call {nth}: sector {sector} is {stamp:#x}");
                assert!(done.is_err() || closed.is_err() || !new || stamp == 9);
            }
            if !fired {
                assert!(has_grown(media.image.inner()) && nth > 15, "{nth}");
                break;
            }
        }
    }
}
