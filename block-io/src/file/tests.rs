//! Files against the host.

use std::io::Write as _;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::{StorageExt as _, conformance};

/// Beside the build, not in `/tmp`, which may be a file system without direct I/O or holes.
fn folder() -> TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

fn writable() -> OpenOptions {
    OpenOptions::new().write(true).create(Create::New)
}

/// Makes files with different names in one folder.
fn maker(folder: &TempDir, options: OpenOptions) -> impl Fn() -> FileStorage {
    let count = core::cell::Cell::new(0);
    let path = folder.path().to_owned();
    move || {
        count.set(count.get() + 1);
        options.open(path.join(format!("file-{}", count.get()))).unwrap()
    }
}

#[test]
fn buffered_files_conform() {
    let folder = folder();
    conformance::all(maker(&folder, writable()));
}

#[test]
fn direct_files_conform() {
    let folder = folder();
    let make = maker(&folder, writable().direct(true));
    assert!(make().alignment().request() > 1, "a direct file must have an alignment");
    conformance::all(make);
}

#[test]
fn direct_files_conform_under_the_widest_alignment() {
    let folder = folder();
    let make = maker(&folder, writable().direct(true));
    conformance::all(|| {
        let mut storage = make();
        storage.direct = Some(Direct::with_alignment(Alignment::new(4096, 4096).unwrap()));
        storage
    });
}

#[test]
fn files_conform_where_the_host_knows_no_fallocate() {
    let folder = folder();
    for direct in [false, true] {
        let make = maker(&folder, writable().create(Create::Truncate).direct(direct));
        conformance::all(|| {
            let storage = make();
            storage.refused.refuse_all();
            storage
        });
    }
}

#[test]
fn read_only_files_refuse_changes() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, b"bytes").unwrap();
    conformance::read_only(&OpenOptions::new().open(&path).unwrap());
    conformance::read_only(&OpenOptions::new().direct(true).open(&path).unwrap());
}

#[test]
fn an_open_file_tells_by_itself_how_it_may_be_used() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"bytes").unwrap();
    let storage = FileStorage::from_file(file).unwrap();
    assert!(!storage.is_read_only());
    assert_eq!(storage.len().unwrap(), 5);

    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, b"bytes").unwrap();
    conformance::read_only(&FileStorage::from_file(File::open(&path).unwrap()).unwrap());
    let write_only = File::options().write(true).open(&path).unwrap();
    let appending = File::options().read(true).append(true).open(&path).unwrap();
    for file in [write_only, appending] {
        assert_eq!(FileStorage::from_file(file).unwrap_err().raw_os_error(), Some(9));
    }
}

#[test]
fn only_files_and_devices_open() {
    let folder = folder();
    let error = OpenOptions::new().open(folder.path()).unwrap_err();
    assert_eq!(error.host_text().as_deref(), Some("Is a directory"));
    let error = OpenOptions::new().open("/dev/null").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open '/dev/null': neither a regular file nor a block device"
    );
    // A pipe without a writer must not hang.
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let error = OpenOptions::new().open(&pipe).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let error = OpenOptions::new().open(folder.path().join("missing")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn creation_does_what_was_asked() {
    let folder = folder();
    let path = folder.path().join("file");
    let open = |create| OpenOptions::new().write(true).create(create).open(&path);
    let len = |create| open(create).map(|storage| storage.len().unwrap());
    assert_eq!(len(Create::Never).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    open(Create::New).unwrap().write_at(0, b"bytes").unwrap();
    assert_eq!(len(Create::New).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(len(Create::IfMissing).unwrap(), 5);
    assert_eq!(len(Create::Never).unwrap(), 5);
    assert_eq!(len(Create::Truncate).unwrap(), 0);
    let error = OpenOptions::new().create(Create::IfMissing).open(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_file_in_use_is_not_cut() {
    let folder = folder();
    let path = folder.path().join("file");
    let holder = writable().open(&path).unwrap();
    holder.write_at(0, b"bytes").unwrap();
    holder.lock(Lock::qcow2_writer()).unwrap();
    let error = writable().create(Create::Truncate).open(&path).unwrap_err();
    assert_eq!(error.to_string(), "Failed to get \"write\" lock");
    assert_eq!(holder.len().unwrap(), 5);
}

#[test]
fn handles_on_one_file_share_its_identity() {
    let folder = folder();
    let path = folder.path().join("file");
    let first = writable().open(&path).unwrap();
    std::fs::hard_link(&path, folder.path().join("link")).unwrap();
    let second = OpenOptions::new().open(folder.path().join("link")).unwrap();
    let other = writable().open(folder.path().join("other")).unwrap();
    assert_eq!(first.identity().unwrap(), second.identity().unwrap());
    assert_ne!(first.identity().unwrap(), other.identity().unwrap());
}

#[test]
fn the_time_of_the_last_change_is_told_to_the_nanosecond() {
    let folder = folder();
    let path = folder.path().join("file");
    let storage = writable().open(&path).unwrap();
    let host = std::fs::File::options().write(true).open(&path).unwrap();
    for (nanoseconds, time) in [(1_500_000_001, 1_500_000_001), (0, 0)] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(time);
        host.set_modified(time).unwrap();
        assert_eq!(storage.modified().unwrap(), Some(nanoseconds));
    }
    storage.write_at(0, b"x").unwrap();
    assert!(storage.modified().unwrap() > Some(1_000_000_000_000_000_000));
}

#[test]
fn holes_are_found() {
    let folder = folder();
    let storage = writable().open(folder.path().join("file")).unwrap();
    storage.set_len(1 << 30).unwrap();
    storage.write_at(1 << 20, &[7; 65536]).unwrap();
    let extent = |offset| storage.extent_at(offset).unwrap();
    assert_eq!(extent(0), Some(Extent::hole(1 << 20)));
    assert_eq!(extent(5), Some(Extent::hole((1 << 20) - 5)));
    assert_eq!(extent(1 << 20), Some(Extent::data(65536)));
    assert_eq!(extent((1 << 20) + 65535), Some(Extent::data(1)));
    assert_eq!(extent(2 << 20), Some(Extent::hole((1 << 30) - (2 << 20))));
    assert!(storage.punch_hole(1 << 20, 32768).unwrap());
    assert_eq!(extent(0), Some(Extent::hole((1 << 20) + 32768)));
    assert!(storage.allocated_bytes().unwrap() < 1 << 20);
}

#[test]
fn zeroing_keeps_space_and_allocation_takes_it() {
    let folder = folder();
    let storage = writable().open(folder.path().join("file")).unwrap();
    storage.allocate(0, 1 << 20).unwrap();
    assert!(storage.allocated_bytes().unwrap() >= 1 << 20);
    storage.write_zeroes_at(0, 2 << 20).unwrap();
    assert!(storage.allocated_bytes().unwrap() >= 2 << 20);
}

fn check_copy(source: &FileStorage, target: &FileStorage) {
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    source.write_at(0, &bytes).unwrap();
    source.copy_range(1001, target, 333, 2_500_000).unwrap();
    assert_eq!(target.len().unwrap(), 2_500_333);
    let mut back = vec![0; 2_500_000];
    target.read_exact_at(333, &mut back).unwrap();
    assert!(back == bytes[1001..2_501_001]);

    let error = source.copy_range(2_999_990, target, 0, 100).unwrap_err();
    assert!(matches!(error, Error::ShortRead { .. }), "{error:?}");
    source.copy_range(0, source, 3_000_000, 5).unwrap();
    let overlapping = source.copy_range(0, source, 4, 5).unwrap_err();
    assert_eq!(overlapping.raw_os_error(), Some(22));
}

#[test]
fn ranges_are_copied_between_files() {
    let folder = folder();
    let open = |name: &str, direct| writable().direct(direct).open(folder.path().join(name));
    check_copy(&open("a", false).unwrap(), &open("b", false).unwrap());
    check_copy(&open("c", true).unwrap(), &open("d", true).unwrap());
}

#[test]
fn ranges_are_copied_between_file_systems() {
    let folder = folder();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let source = writable().open(folder.path().join("file")).unwrap();
    check_copy(&source, &writable().open(elsewhere.path().join("file")).unwrap());
}

fn open_twice(path: &Path) -> (FileStorage, FileStorage) {
    let options = writable().create(Create::IfMissing).locking(Locking::On);
    (options.open(path).unwrap(), options.open(path).unwrap())
}

#[test]
fn roles_exclude_each_other_as_in_qemu() {
    let folder = folder();
    let (a, b) = open_twice(&folder.path().join("file"));
    let write = "Failed to get \"write\" lock";
    let shared_write = "Failed to get shared \"write\" lock";
    let cases = [
        (Lock::qcow2_writer(), Lock::qcow2_writer(), Some(write)),
        (Lock::qcow2_writer(), Lock::qcow2_reader(), Some(shared_write)),
        (Lock::qcow2_writer(), Lock::info(), Some(shared_write)),
        (Lock::qcow2_writer(), Lock::shared_reader(), None),
        (Lock::qcow2_writer(), Lock::raw_reader(), None),
        (Lock::qcow2_reader(), Lock::qcow2_writer(), Some(write)),
        (Lock::qcow2_reader(), Lock::qcow2_reader(), None),
        (Lock::info(), Lock::qcow2_writer(), Some(write)),
        (Lock::backing(), Lock::qcow2_writer(), None),
        (Lock::raw_writer(), Lock::raw_writer(), None),
        (Lock::raw_writer(), Lock::qcow2_reader(), Some(shared_write)),
        (
            Lock::data_file_writer(),
            Lock::data_file_reader(),
            Some("Failed to get shared \"resize\" lock"),
        ),
        (Lock::creating(), Lock::creating(), Some("Failed to get \"resize\" lock")),
    ];
    for (first, second, refusal) in cases {
        a.lock(first).unwrap();
        let answer = b.lock(second).map_err(|error| error.to_string());
        assert_eq!(answer.err().as_deref(), refusal, "{first:?} then {second:?}");
        a.lock(Lock::none()).unwrap();
        b.lock(Lock::none()).unwrap();
    }
}

#[test]
fn a_refused_change_keeps_the_locks_held_before() {
    let folder = folder();
    let path = folder.path().join("file");
    let (a, b) = open_twice(&path);
    a.lock(Lock::qcow2_reader()).unwrap();
    b.lock(Lock::qcow2_reader()).unwrap();
    assert!(matches!(b.lock(Lock::qcow2_writer()), Err(Error::Locked { byte: 201, .. })));
    // B still forbids writing, and did not keep "I write", which would stop a third reader.
    let third = OpenOptions::new().open(&path).unwrap();
    third.lock(Lock::qcow2_reader()).unwrap();
    drop((a, third));
    let (c, _) = open_twice(&path);
    assert!(matches!(c.lock(Lock::qcow2_writer()), Err(Error::Locked { byte: 201, .. })));
    drop(b);
    c.lock(Lock::qcow2_writer()).unwrap();
}

#[test]
fn locks_can_be_left_to_others() {
    let folder = folder();
    let path = folder.path().join("file");
    let (a, _) = open_twice(&path);
    a.lock(Lock::qcow2_writer()).unwrap();
    let silent = OpenOptions::new().write(true).locking(Locking::Off).open(&path).unwrap();
    silent.lock(Lock::qcow2_writer()).unwrap();
}

#[test]
fn locks_end_with_the_storage_even_if_the_descriptor_lives_on() {
    let folder = folder();
    let path = folder.path().join("file");
    let (a, b) = open_twice(&path);
    a.lock(Lock::qcow2_writer()).unwrap();
    let inherited = a.as_fd().try_clone_to_owned().unwrap();
    drop(a);
    b.lock(Lock::qcow2_writer()).unwrap();
    drop(inherited);
}
