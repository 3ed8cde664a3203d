//! The state of a virtual machine lies behind the end of the disk, in the same tables.

use testkit::{Folder, ModelDisk, Qemu, Rng};

use super::image::{SHAPES, assert_sound, change, open, snapshot};

#[test]
fn trap_56_vm_state_is_not_touched() {
    let mut rng = Rng::announced(0x56);
    for shape in SHAPES {
        let folder = Folder::new();
        let path = folder.path("image.qcow2");
        let name = path.to_str().unwrap();
        shape.create(&path);
        let io = |command: &str| Qemu::io(["-f", "qcow2", "-c", command, name]).success().stdout;
        assert!(io("write -b -P 6 0 300k").contains("wrote 307200/307200"));
        // The first state goes with the snapshot, the second one stays with the disk.
        snapshot("-c", "one", &path);
        assert!(io("write -b -P 7 0 300k").contains("wrote 307200/307200"));
        let mut model = ModelDisk::new(shape.size as usize);
        for _ in 0..4 {
            let image = open(&path);
            for _ in 0..10 {
                change(&image, &mut model, &mut rng);
            }
            image.close().unwrap();
            assert_sound(&path);
            let said = io("read -b -P 7 0 300k");
            assert!(said.contains("read 307200/307200"), "{shape:?}: {said}");
            assert!(!said.contains("Pattern verification failed"), "{shape:?}: {said}");
        }
        snapshot("-a", "one", &path);
        let said = io("read -b -P 6 0 300k");
        assert!(!said.contains("Pattern verification failed"), "{shape:?}: {said}");
        assert_sound(&path);
    }
}
