//! What requests of a queue do.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{AlignedBuffer, Error, Storage as _};

#[test]
fn many_requests_are_under_way_at_once() {
    let folder = folder();
    let file = Arc::new(writable().open(folder.path().join("file")).unwrap());
    let mut queue = Queue::new(8).unwrap();
    let bytes = pattern(100 * 4096);
    for (number, piece) in bytes.chunks(4096).enumerate() {
        queue.write(number as u64, &file, number as u64 * 4096, Buffer::from(piece));
    }
    assert_eq!((queue.len(), queue.room()), (100, 0));
    let mut seen = [false; 100];
    while let Some(completion) = queue.wait().unwrap() {
        assert_eq!(completion.result.unwrap(), 4096);
        assert!(!std::mem::replace(&mut seen[completion.token as usize], true));
    }
    assert!(seen.iter().all(|seen| *seen) && queue.is_empty() && queue.room() == 8);
    queue.sync(7, &file);
    let synced = queue.wait().unwrap().unwrap();
    assert_eq!((synced.token, synced.result.unwrap(), synced.buffers.len()), (7, 0, 0));

    // A guest's buffer, filled from places in any order.
    let mut whole = buffer(bytes.len());
    let mut tickets = Vec::new();
    while whole.len() > 4096 {
        let piece = whole.split_off(whole.len() - 4096);
        tickets.push(queue.read(whole.len() as u64, &file, whole.len() as u64, piece));
    }
    tickets.push(queue.read(0, &file, 0, whole));
    let mut pieces = Vec::new();
    while let Some(completion) = queue.wait().unwrap() {
        assert!(tickets.contains(&completion.ticket));
        assert_eq!(*completion.result.as_ref().unwrap(), 4096);
        pieces.push((completion.token, completion.into_buffer().unwrap()));
    }
    pieces.sort_by_key(|piece| piece.0);
    let mut pieces = pieces.into_iter().map(|piece| piece.1);
    let mut whole = pieces.next().unwrap();
    pieces.for_each(|piece| whole.join(piece).unwrap());
    assert!(*whole == *bytes);
}

#[test]
fn reads_end_where_the_file_ends() {
    let folder = folder();
    for direct in [false, true] {
        let name = format!("file-{direct}");
        let file = Arc::new(writable().direct(direct).open(folder.path().join(name)).unwrap());
        file.write_at(0, &pattern(10_000)).unwrap();
        let mut queue = Queue::new(4).unwrap();
        for (offset, expected) in [(0, 10_000), (8192, 1808), (12_288, 0), (1 << 40, 0)] {
            let aligned = Buffer::zeroed(file.alignment(), 16 << 10);
            queue.read(1, &file, offset, aligned);
            let completion = queue.wait().unwrap().unwrap();
            assert_eq!(*completion.result.as_ref().unwrap(), expected, "at {offset}");
            let bytes = completion.into_buffer().unwrap();
            let from = (offset as usize).min(10_000);
            assert!(bytes[..expected] == pattern(10_000)[from..from + expected]);
        }
    }
}

#[test]
fn partial_answers_are_continued() {
    let (reader, mut writer) = pipe();
    let mut queue = Queue::new(4).unwrap();
    let mut first = buffer(9000);
    let parts = [first.split_off(8000), first.split_off(10), first.split_off(10)];
    let [d, c, b] = parts;
    queue.read_vectored(1, &reader, 0, vec![first, b, buffer(0), c, d]);
    assert!(queue.poll().unwrap().is_none());
    let bytes = pattern(9000);
    for piece in bytes.chunks(700) {
        assert!(queue.poll().unwrap().is_none(), "a read that is not full is not over");
        send(&mut writer, piece);
    }
    let completion = queue.wait().unwrap().unwrap();
    assert_eq!(*completion.result.as_ref().unwrap(), 9000);
    assert!(completion.buffers.iter().flat_map(|part| part.iter()).eq(&bytes));

    // The other side is gone: that is the end.
    queue.read(2, &reader, 0, buffer(100));
    assert!(queue.poll().unwrap().is_none());
    send(&mut writer, b"rest");
    drop(writer);
    let completion = queue.wait().unwrap().unwrap();
    assert_eq!(*completion.result.as_ref().unwrap(), 4);
    assert_eq!(completion.buffers[0][..6], *b"rest\xcc\xcc");
}

#[test]
fn writes_into_a_full_pipe_go_on_when_there_is_room() {
    let (reader, writer) = pipe();
    let writer = Arc::new(writer);
    let mut queue = Queue::new(4).unwrap();
    let bytes = pattern(1 << 20);
    let (a, b) = bytes.split_at(12_345);
    queue.write_vectored(1, &writer, 0, vec![Buffer::from(a), Buffer::from(b)]);
    assert!(queue.poll().unwrap().is_none(), "a pipe does not hold a megabyte");
    let mut back = vec![0; 1 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::Read::read_exact(&mut &*reader, &mut back).unwrap());
        let completion = queue.wait().unwrap().unwrap();
        assert_eq!(completion.result.unwrap(), 1 << 20);
    });
    assert!(back == bytes);
}

#[test]
fn more_buffers_than_the_host_takes_at_once() {
    let folder = folder();
    let file = Arc::new(writable().open(folder.path().join("file")).unwrap());
    let mut queue = Queue::new(4).unwrap();
    let bytes = pattern(3000);
    let one_by_one = bytes.chunks(1).map(Buffer::from).collect();
    queue.write_vectored(1, &file, 5, one_by_one);
    assert_eq!(queue.wait().unwrap().unwrap().result.unwrap(), 3000);
    let buffers = (0..3000).map(|_| buffer(1)).collect();
    queue.read_vectored(1, &file, 5, buffers);
    let completion = queue.wait().unwrap().unwrap();
    assert!(completion.buffers.iter().flat_map(|part| part.iter()).eq(&bytes));
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let folder = folder();
    let path = folder.path().join("file");
    let file = Arc::new(writable().direct(true).open(&path).unwrap());
    file.set_len(1 << 20).unwrap();
    let unit = file.alignment().request() as usize;
    let read_only = Arc::new(OpenOptions::new().open(&path).unwrap());
    let aligned = |len| Buffer::zeroed(file.alignment(), len);
    let mut queue = Queue::new(4).unwrap();
    queue.read(0, &file, 1, aligned(unit));
    queue.read(1, &file, 0, aligned(unit - 1));
    let mut odd = aligned(2 * unit);
    queue.write(2, &file, 0, odd.split_off(unit - 1).split_off(0));
    queue.write(3, &read_only, 0, aligned(unit));
    queue.write(4, &read_only, 0, aligned(0));
    queue.read(5, &read_only, i64::MAX as u64, aligned(unit));
    queue.write(6, &file, u64::MAX, aligned(unit));
    for token in 0..7 {
        let completion = queue.wait().unwrap().unwrap();
        assert_eq!((completion.token, completion.buffers.len()), (token, 1));
        let error = completion.result.unwrap_err();
        let as_expected = match token {
            0..=2 => matches!(error, Error::Misaligned { .. }),
            3 | 4 => matches!(error, Error::ReadOnly { .. }),
            _ => matches!(error, Error::OutOfRange { .. }),
        };
        assert!(as_expected, "request {token}: {error:?}");
    }
    let (_, writer) = pipe();
    let writer = Arc::new(writer);
    queue.write(7, &writer, 0, buffer(10)); // Nobody can read it any more.
    assert_eq!(errno(&queue.wait().unwrap().unwrap().result), Some(libc::EPIPE));
    assert_eq!(Queue::new(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(Queue::new(5000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn empty_requests_are_over_at_once() {
    let folder = folder();
    let file = Arc::new(writable().open(folder.path().join("file")).unwrap());
    let mut queue = Queue::new(1).unwrap();
    queue.write(1, &file, 1000, buffer(0));
    queue.read_vectored(2, &file, 1000, Vec::new());
    for token in [1, 2] {
        let completion = queue.poll().unwrap().unwrap();
        assert_eq!((completion.token, completion.result.unwrap()), (token, 0));
    }
    assert!(queue.wait().unwrap().is_none());
    assert_eq!(file.len().unwrap(), 0);
}

/// A block that is written in part is written back whole; a file that grows meanwhile by a write of
/// a queue must not be cut behind it.
#[test]
fn writes_of_a_queue_keep_the_end_where_it_is() {
    let folder = folder();
    let file = writable().direct(true).open(folder.path().join("file")).unwrap();
    let unit = u64::from(file.alignment().request());
    file.outsider_begins();
    file.write_at(0, b"ten bytes.").unwrap();
    assert_eq!(file.len().unwrap(), unit, "cut although the end may move");
    file.outsider_is_done();
    file.write_at(unit, b"ten bytes.").unwrap();
    assert_eq!(file.len().unwrap(), unit + 10);

    let file = Arc::new(file);
    let mut queue = Queue::new(8).unwrap();
    for round in 1..50u64 {
        let mut bytes = AlignedBuffer::zeroed(file.alignment(), 4096);
        bytes.fill(round as u8);
        queue.write(round, &file, (2 * round + 1) * 4096, Buffer::from(bytes));
        queue.submit().unwrap();
        file.write_at(2 * round * 4096, &[round as u8; 10]).unwrap();
        file.write_at(3, &[round as u8]).unwrap();
    }
    while let Some(completion) = queue.wait().unwrap() {
        assert_eq!(completion.result.unwrap(), 4096);
    }
    let mut back = vec![0; 100 * 4096];
    assert_eq!(file.read_at(0, &mut back).unwrap(), 100 * 4096);
    for round in 1..50 {
        let (part, whole) = back[round * 8192..][..8192].split_at(4096);
        assert_eq!(part[..11], [[round as u8; 10].as_slice(), &[0]].concat(), "{round}");
        assert!(whole.iter().all(|&byte| byte == round as u8), "{round}");
    }
}

/// The same, when the write of the queue is over before the block is back.
#[test]
fn what_a_queue_has_written_behind_the_end_stays() {
    let folder = folder();
    let file = Arc::new(writable().direct(true).open(folder.path().join("file")).unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                file.write_at(file.len().unwrap(), b"x").unwrap();
            }
        });
        let mut queue = Queue::new(1).unwrap();
        let cut = (1..=200u64).find(|round| {
            let bytes = Buffer::zeroed(file.alignment(), 4096);
            queue.write(*round, &file, round << 20, bytes);
            let completion = queue.wait().unwrap().unwrap();
            assert_eq!(completion.result.unwrap(), 4096);
            file.len().unwrap() < (round << 20) + 4096
        });
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(cut, None, "cut after a write that was complete");
    });
}
