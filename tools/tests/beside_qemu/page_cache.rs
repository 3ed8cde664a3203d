//! Flags about the page cache and about rings: what the host is asked for, and that the bytes are the
//! same whatever it is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use testkit::{Folder, Qemu};

/// `O_DIRECT` on the processors this is built for, as the kernel shows flags.
const DIRECT: u32 =
    if cfg!(any(target_arch = "aarch64", target_arch = "arm")) { 0o200_000 } else { 0o40_000 };

/// How the image of a running program is open: around the page cache, and beside a ring.
fn open_files(args: &[&str], image: &str) -> (bool, bool) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qimg-io"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    stdin.write_all(b"write -P 7 64k 300k\n").expect("the program listens");
    let mut line = String::new();
    stdout.read_line(&mut line).expect("the program answers");
    assert!(line.contains("wrote 307200/307200 bytes at offset 65536"), "{args:?}: {line}");

    let (mut direct, mut ring) = (None, false);
    let process = format!("/proc/{}", child.id());
    for file in std::fs::read_dir(format!("{process}/fd")).expect("its files").flatten() {
        let Ok(target) = std::fs::read_link(file.path()) else { continue };
        ring |= target.to_string_lossy() == "anon_inode:[io_uring]";
        if target.as_os_str() == image {
            let name = file.file_name();
            let info = format!("{process}/fdinfo/{}", name.to_string_lossy());
            let info = std::fs::read_to_string(info).expect("what the kernel says");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.expect("flags").trim(), 8).expect("octal");
            direct = Some(flags & DIRECT != 0);
        }
    }
    drop(stdin);
    assert!(child.wait().expect("the program ends").success(), "{args:?}");
    (direct.expect("the image is open"), ring)
}

#[test]
fn flags_reach_the_host() {
    let folder = Folder::new();
    let image = folder.path("image.qcow2").display().to_string();
    let image = image.as_str();
    let tree = |more: &str| format!("driver=qcow2,file.filename={image},{more}");
    let (through, around) = (tree("cache.direct=off"), tree("file.cache.direct=on"));
    let (threads, ring) = (tree("file.aio=threads"), tree("file.aio=io_uring,cache.direct=on"));
    let has_ring = cfg!(feature = "io-uring");
    let mut table = vec![
        (vec!["-f", "qcow2", image], (false, false)),
        (vec!["-f", "qcow2", "-n", image], (true, false)),
        (vec!["-f", "qcow2", "-t", "none", image], (true, false)),
        (vec!["-f", "qcow2", "-t", "directsync", image], (true, false)),
        (vec!["-f", "qcow2", "-t", "writeback", "-i", "threads", image], (false, false)),
        (vec!["--image-opts", &through], (false, false)),
        (vec!["--image-opts", &around], (true, false)),
        (vec!["--image-opts", &threads], (false, false)),
    ];
    if has_ring {
        table.push((vec!["-f", "qcow2", "-i", "io_uring", image], (false, true)));
        table.push((vec!["-f", "qcow2", "-n", "-i", "io_uring", image], (true, true)));
        table.push((vec!["--image-opts", &ring], (true, true)));
    }
    for (args, expected) in table {
        Qemu::img(["create", "-q", "-f", "qcow2", image, "1M"]).success();
        assert_eq!(open_files(&args, image), expected, "{args:?}");
        Qemu::check(image.as_ref());
        let read = "read -P 7 64k 300k";
        let pattern =
            Qemu::io(["-f", "qcow2", "-c", "read -P 0 0 64k", "-c", read, image]).success();
        assert!(!pattern.stdout.contains("failed"), "{args:?}: {}", pattern.stdout);
    }
}

#[test]
fn a_build_without_rings_says_so() {
    let said = crate::pair::qimg_io(&["-i", "io_uring", "-c", "length", "/dev/null/none"]);
    let words = "aio=io_uring needs a build of qimg-tools with the feature io-uring";
    assert_eq!(said.stderr.contains(words), !cfg!(feature = "io-uring"), "{}", said.stderr);
    assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 1), "{}", said.stderr);
}
