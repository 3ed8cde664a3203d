//! Chains: what one program writes about a backing file, the other must read as it was meant.

use testkit::{Pattern, Qemu, built_program, run};

use super::disk::Disk;

#[test]
fn the_format_of_a_backing_file_comes_back_from_either_program() {
    let base = Pattern::new(6).bytes(0, 300_000);
    for program in [Disk::img, Disk::qimg] {
        let disk = Disk::over("1M", &base);
        program(&disk, "create -q -f qcow2 -F raw -b base.raw").success();
        let theirs = Qemu::info_json("qcow2", &disk.path);
        assert_eq!(theirs["backing-filename"], "base.raw");
        assert_eq!(theirs["backing-filename-format"], "raw");
        let ours = disk.qimg("info -f qcow2 --output=json").success().json();
        assert_eq!(ours["backing-filename-format"], "raw");
        // The real tool rewrites the header, ours writes beside it.
        disk.img("rebase -u -F raw -b ./base.raw").success();
        disk.ours(&["write -P 1 0 512"]);
        assert_eq!(Qemu::info_json("qcow2", &disk.path)["backing-filename"], "./base.raw");
        let mut expected = base.clone();
        expected.resize(300_032, 0);
        expected[..512].fill(1);
        disk.assert_content(&expected);
    }
}

#[test]
fn bytes_beyond_the_end_of_a_shorter_backing_file_are_zeros() {
    // The base ends inside a sector, inside a cluster.
    let base = Pattern::new(7).bytes(0, 100_000);
    let disk = Disk::over("-F raw -b @base.raw 256k", &base);
    let mut expected = base;
    expected.resize(256 << 10, 0);
    disk.assert_content(&expected);
    // Copied with a write: not what lies behind the end of the file in somebody's buffer.
    disk.ours(&["write -P 1 99990 20", "write -P 2 180000 1"]);
    expected[99_990..100_010].fill(1);
    expected[180_000] = 2;
    disk.assert_content(&expected);
    disk.assert_sound();
}

#[test]
fn people_are_not_shown_a_map_of_what_has_no_place() {
    let disk = Disk::new("1M");
    disk.theirs(&["write -P 1 0 64k", "write -c -P 2 64k 64k"]);
    let (theirs, ours) = (disk.img("map").exits(1), disk.qimg("map").exits(1));
    assert_eq!(theirs.stdout, ours.stdout);
    let words = ["map", "--output=json", disk.name()];
    let theirs = Qemu::img(words).success().json();
    assert_eq!(run(&built_program("qimg"), words).success().json(), theirs);
}

#[test]
fn an_encrypted_image_is_refused_and_not_taken_for_a_plain_one() {
    let disk = Disk::new("1M");
    let before = disk.bytes();
    for method in [1_u8, 2] {
        disk.poke(35, &[method]);
        let poked = disk.bytes();
        for (program, words) in [
            ("qimg", vec!["convert", "-f", "qcow2", "-O", "raw", disk.name(), "/dev/null"]),
            ("qimg", vec!["map", "-f", "qcow2", disk.name()]),
            ("qimg-io", vec!["-f", "qcow2", "-c", "read 0 4k", disk.name()]),
            ("qimg-io", vec!["-f", "qcow2", "-c", "write 0 4k", disk.name()]),
        ] {
            let output = run(&built_program(program), words).exits(1);
            assert_eq!(output.stdout, "", "{output:?}");
        }
        assert!(disk.bytes() == poked, "refusing changes nothing");
    }
    disk.poke(35, &[0]);
    assert!(disk.bytes() == before);
}
