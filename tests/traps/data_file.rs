//! External data files: where their data lies, and whose name is meant.

use std::path::Path;

use testkit::{Folder, Output, Qemu, built_program, run};

use super::disk::Disk;

#[test]
fn the_first_cluster_of_a_data_file_is_no_empty_entry() {
    for program in [Disk::theirs, Disk::ours] {
        let disk = Disk::new("-o data_file=@data.raw,data_file_raw=off 1M");
        program(&disk, &["write -P 5 0 64k"]);
        assert_eq!(disk.l2_entry(0), 1 << 63, "offset 0, and in use");
        let mut expected = vec![0; 1 << 20];
        expected[..65_536].fill(5);
        disk.assert_content(&expected);
        let map = disk.img("map --output=json").success().json();
        assert_eq!(map[0]["data"], true);
        assert_eq!(map[0]["offset"], 0);
        assert_eq!(disk.qimg("map --output=json").success().json(), map);
        disk.assert_sound();
    }
}

#[test]
fn a_raw_data_file_shows_zeros_where_the_guest_has_them() {
    let entries = ["qemu", "ours"].map(|who| {
        let disk = Disk::new("-o data_file=@data.raw,data_file_raw=on 1M");
        let data = disk.folder.path("data.raw");
        let commands =
            ["write -P 5 0 512k", "write -z 64k 64k", "write -z -u 192k 64k", "discard 320k 64k"];
        let resize = ["resize", "-q", "-f", "qcow2", disk.name(), "2M"];
        let mut expected = vec![5; 512 << 10];
        for cluster in [1, 3, 5] {
            expected[cluster << 16..][..65_536].fill(0);
        }
        expected.resize(1 << 20, 0);
        if who == "qemu" {
            disk.theirs(&commands);
            Qemu::img(resize).success();
        } else {
            disk.ours(&commands);
            assert!(std::fs::read(&data).unwrap() == expected, "the file alone is the disk");
            run(&built_program("qimg"), resize).success();
        }
        expected.resize(2 << 20, 0);
        assert!(std::fs::read(&data).unwrap() == expected, "the file alone is the larger disk");
        disk.assert_content(&expected);
        disk.assert_sound();
        (0..2 << 20).step_by(65_536).map(|guest| disk.l2_entry(guest)).collect::<Vec<_>>()
    });
    assert_eq!(entries[0], entries[1], "{entries:#x?}");
    assert!(entries[1].iter().all(|&entry| entry != 0), "every entry says something");
}

/// Runs a program in a folder.
fn run_in(folder: &Path, program: &Path, words: &[&str]) -> Output {
    let script = "cd \"$1\" && shift && exec \"$@\"";
    let fixed = ["-c", script, "sh", folder.to_str().unwrap(), program.to_str().unwrap()];
    run(Path::new("sh"), fixed.iter().chain(words))
}

#[test]
fn the_name_of_a_data_file_starts_where_the_program_does() {
    // Unlike that of a backing file, which starts in the folder of the overlay.
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let image = folder.path("disk.qcow2");
    let name = image.to_str().unwrap();
    for program in [Path::new("qemu-img"), &built_program("qimg")] {
        let options = "data_file=data.raw,size=1M";
        run_in(folder.root(), program, &["create", "-q", "-f", "qcow2", "-o", options, name])
            .success();
        assert_eq!(std::fs::metadata(folder.path("data.raw")).unwrap().len(), 1 << 20);
        for reader in [Path::new("qemu-img"), &built_program("qimg")] {
            let words = ["map", "-f", "qcow2", "--output=json", name];
            run_in(folder.root(), reader, &words).success();
            run_in(elsewhere.root(), reader, &words).exits(1);
            // Who asks for no data gets an answer anywhere.
            run_in(elsewhere.root(), reader, &["info", "-f", "qcow2", name]).success();
        }
    }
}

#[test]
fn a_data_file_holds_no_compressed_clusters() {
    for program in [Disk::try_theirs, Disk::try_ours] {
        let disk = Disk::new("-o data_file=@data.raw 1M");
        let output = program(&disk, &[], &["write -c -P 1 0 64k"]);
        assert!(!output.stdout.contains("wrote 65536/65536"), "{output:?}");
        disk.assert_content(&vec![0; 1 << 20]);
        disk.assert_sound();
    }
}
