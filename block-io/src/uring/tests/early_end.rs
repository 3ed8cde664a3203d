//! Requests that are cancelled, queues that are dropped, threads that panic: the kernel never uses
//! memory that is not its own.

use super::*;
use crate::Error;

/// A read of an empty pipe that the kernel has taken. Returns the memory around its buffer.
fn stuck_read(queue: &mut Queue, reader: &Arc<File>) -> (Buffer, Ticket) {
    let mut around = buffer(8192);
    let piece = around.split_off(4096);
    let ticket = queue.read(1, reader, 0, piece);
    assert!(queue.poll().unwrap().is_none());
    (around, ticket)
}

/// Nobody reads the pipe any more: what is sent stays in it, and memory stays as it was.
fn nobody_reads(reader: &File, mut writer: File, around: &Buffer) {
    send(&mut writer, b"too late");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(pipe_content(reader, writer), b"too late");
    assert!(around.iter().all(|&byte| byte == 0xcc));
}

#[test]
fn a_cancelled_request_gives_its_buffer_back_at_its_end() {
    let (reader, mut writer) = pipe();
    let mut queue = Queue::new(4).unwrap();
    let (mut around, ticket) = stuck_read(&mut queue, &reader);
    queue.cancel(ticket);
    queue.cancel(ticket);
    let completion = queue.wait().unwrap().unwrap();
    assert_eq!((completion.ticket, errno(&completion.result)), (ticket, CANCELED));
    around.join(completion.into_buffer().unwrap()).unwrap();
    // Its slot is used again: the old name means nothing any more.
    let (second, other) = stuck_read(&mut queue, &reader);
    queue.cancel(ticket);
    send(&mut writer, &[7; 4096]);
    let completion = queue.wait().unwrap().unwrap();
    assert_eq!((completion.ticket, completion.result.unwrap()), (other, 4096));
    assert_ne!(ticket, other);
    drop(second);
    assert!(queue.wait().unwrap().is_none());
    nobody_reads(&reader, writer, &around);
}

#[test]
fn a_cancelled_request_that_was_served_in_part_ends() {
    let (reader, mut writer) = pipe();
    let mut queue = Queue::new(4).unwrap();
    let (_around, ticket) = stuck_read(&mut queue, &reader);
    send(&mut writer, b"part");
    assert!(queue.poll().unwrap().is_none());
    queue.cancel(ticket);
    let completion = queue.wait().unwrap().unwrap();
    assert_eq!(errno(&completion.result), CANCELED);
    assert_eq!(completion.buffers[0][..5], *b"part\xcc");
}

#[test]
fn requests_that_wait_for_room_are_cancelled_without_the_kernel() {
    let (reader, writer) = pipe();
    let mut queue = Queue::new(2).unwrap();
    let tickets: Vec<Ticket> =
        (0..10).map(|token| queue.read(token, &reader, 0, buffer(16))).collect();
    assert!(queue.poll().unwrap().is_none());
    assert_eq!(Arc::strong_count(&reader), 11, "each request holds the file");
    queue.cancel(tickets[9]);
    let completion = queue.poll().unwrap().unwrap();
    assert_eq!((completion.token, errno(&completion.result)), (9, CANCELED));
    for ticket in tickets {
        queue.cancel(ticket);
    }
    let mut count = 0;
    while let Some(completion) = queue.wait().unwrap() {
        assert_eq!(errno(&completion.result), CANCELED);
        count += 1;
    }
    assert_eq!((count, Arc::strong_count(&reader)), (9, 1));
    nobody_reads(&reader, writer, &buffer(1));
}

#[test]
fn a_dropped_queue_waits_for_the_kernel() {
    let (reader, writer) = pipe();
    let mut queue = Queue::new(4).unwrap();
    let (around, _) = stuck_read(&mut queue, &reader);
    for token in 0..20 {
        queue.read(token, &reader, 0, buffer(100)); // More than fit, some of them waiting.
    }
    queue.submit().unwrap();
    drop(queue);
    assert_eq!(Arc::strong_count(&reader), 1);
    nobody_reads(&reader, writer, &around);
}

#[test]
fn a_thread_that_panics_waits_for_the_kernel() {
    let (reader, writer) = pipe();
    let theirs = Arc::clone(&reader);
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut queue = Queue::new(4).unwrap();
        let (around, _) = stuck_read(&mut queue, &theirs);
        sender.send(around).unwrap();
        panic!("a panic for this test");
    });
    let around = receiver.recv().unwrap();
    assert!(thread.join().is_err());
    assert_eq!(Arc::strong_count(&reader), 1);
    nobody_reads(&reader, writer, &around);
}

#[test]
fn requests_outlive_the_thread_that_made_them() {
    let (reader, writer) = pipe();
    let theirs = Arc::clone(&reader);
    let thread = std::thread::spawn(move || {
        let mut queue = Queue::new(4).unwrap();
        let (around, ticket) = stuck_read(&mut queue, &theirs);
        (queue, around, ticket)
    });
    let (mut queue, mut around, ticket) = thread.join().unwrap();
    queue.cancel(ticket);
    let completion = queue.wait().unwrap().unwrap();
    assert_eq!(errno(&completion.result), CANCELED);
    around.join(completion.into_buffer().unwrap()).unwrap();
    nobody_reads(&reader, writer, &around);
}

#[test]
fn a_file_stays_open_while_a_request_is_under_way() {
    let (reader, mut writer) = pipe();
    let mut queue = Queue::new(4).unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&*reader);
    // Not even in the kernel yet: another file must not get its number.
    queue.read(1, &reader, 0, buffer(5));
    drop(reader);
    let others: Vec<(Arc<File>, File)> = (0..5).map(|_| pipe()).collect();
    assert!(others.iter().all(|other| std::os::fd::AsRawFd::as_raw_fd(&*other.0) != descriptor));
    assert!(queue.poll().unwrap().is_none());
    send(&mut writer, b"hello");
    let completion = queue.wait().unwrap().unwrap();
    assert_eq!(completion.into_buffer().unwrap()[..], *b"hello");
    // Now it is closed.
    assert!(writer.write_all(b"x").is_err());
}

#[test]
fn a_ring_can_be_polled() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (reader, mut writer) = pipe();
    let mut queue = Queue::new(4).unwrap();
    let (_around, _) = stuck_read(&mut queue, &reader);
    let ready = |queue: &Queue, seconds| {
        let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut [PollFd::new(queue, PollFlags::IN)], Some(&timeout)).unwrap()
    };
    assert_eq!(ready(&queue, 0), 0);
    send(&mut writer, &[1; 4096]);
    assert_eq!(ready(&queue, 60), 1);
    assert_eq!(queue.poll().unwrap().unwrap().result.unwrap(), 4096);
}

#[test]
fn a_host_that_forbids_rings_is_told_from_others() {
    crate::conformance::without_io_uring(|| {
        let error = Queue::new(4).unwrap_err();
        assert!(matches!(error, Error::NoRing { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "io_uring is not available on this host: Operation not permitted (os error 1)"
        );
        let folder = folder();
        let file = Arc::new(writable().open(folder.path().join("file")).unwrap());
        let error = UringStorage::new(Arc::clone(&file)).unwrap_err();
        assert!(matches!(error, Error::NoRing { .. }), "{error:?}");
        // Nothing else broke.
        crate::Storage::write_at(&*file, 0, b"bytes").unwrap();
    });
    Queue::new(4).unwrap();
}
