//! The reference implementation beside ours: what it prevents, we prevent.

use cow_engine::Error;
use testkit::{Folder, Qemu};

use crate::victim::{COPIED, SHAPES, bytes, changes, first_change, try_open};

/// The same change for both.
const PAIRS: [(&str, &str); 4] = [
    ("write", "write -P 9 0 64k"),
    ("write a part", "write -P 9 100 100"),
    ("zero and unmap", "write -z -u 0 64k"),
    ("discard", "discard 0 64k"),
];

#[test]
fn what_the_real_tool_prevents_is_prevented() {
    let shape = SHAPES[3];
    let victim = shape.victim();
    let mut prevented = 0;
    for (area, host) in victim.areas().into_iter().skip(1) {
        for flags in [COPIED, 0, COPIED | 1] {
            let lied = victim.clone().with_word(victim.entry(), host | flags);
            for (name, command) in PAIRS {
                let what = format!("{name} at {area:?}, {flags:#x}");
                let folder = Folder::new();
                let path = folder.write("image.qcow2", &lied.bytes);
                let image = path.to_str().unwrap();
                let said = Qemu::io(["-f", "qcow2", "-c", command, image]);
                let refused = said.stderr.contains("Preventing invalid");
                prevented += usize::from(refused);

                let storage = lied.storage();
                let image = try_open(&storage).unwrap();
                let change = changes().into_iter().find(|change| change.name == name).unwrap();
                let result = (change.apply)(&image, 0);
                image.close().unwrap();
                assert!(matches!(result, Err(Error::Overlap { .. })), "{what}: {result:?}");
                assert_eq!(first_change(&lied.bytes, &bytes(&storage)), None, "{what}");
            }
        }
    }
    assert!(prevented > 10, "the real tool guards some of it: {prevented}");
}
