//! The real tools take, apply and delete snapshots between our writes.

use testkit::{Folder, ModelDisk, Rng};

use super::image::{SHAPES, Shape, assert_sound, change, open, seen_in, snapshot};

const ROUNDS: usize = 7;

fn live(shape: Shape, rng: &mut Rng) {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    shape.create(&path);
    let mut model = ModelDisk::new(shape.size as usize);
    let mut history = format!("{shape:?}");
    for round in 0..ROUNDS {
        let image = open(&path);
        for _ in 0..rng.within(3..12) {
            history.push_str("\n  ");
            history.push_str(&change(&image, &mut model, rng));
            if rng.one_in(5) {
                image.flush().unwrap();
            }
        }
        let mut seen = vec![0xaa; model.len()];
        image.read_at(0, &mut seen).unwrap();
        assert_eq!(model.difference(0, &seen), None, "{history}");
        image.close().unwrap();
        assert_sound(&path);
        let names: Vec<String> = model.snapshot_names().map(str::to_owned).collect();
        for name in &names {
            let seen = seen_in(name, &path, &folder);
            assert_eq!(difference(model.snapshot_bytes(name), &seen), None, "{name}: {history}");
        }
        let act = match rng.below(6) {
            0 if !names.is_empty() => 'a',
            1 if names.len() > 1 => 'd',
            _ if names.len() < 4 => 'c',
            _ => 'd',
        };
        let name = if act == 'c' { format!("s{round}") } else { rng.pick(&names).clone() };
        snapshot(&format!("-{act}"), &name, &path);
        history.push_str(&format!("\n  snapshot -{act} {name}"));
        match act {
            'a' => model.apply(&name),
            'd' => model.delete(&name),
            _ => model.snapshot(&name),
        }
        assert_sound(&path);
    }
    // Each snapshot as the disk.
    for name in model.snapshot_names().map(str::to_owned).collect::<Vec<_>>() {
        snapshot("-a", &name, &path);
        model.apply(&name);
        let image = open(&path);
        let mut seen = vec![0xaa; model.len()];
        image.read_at(0, &mut seen).unwrap();
        assert_eq!(model.difference(0, &seen), None, "applied {name}: {history}");
        change(&image, &mut model, rng);
        image.close().unwrap();
        assert_sound(&path);
    }
}

fn difference(expected: &[u8], found: &[u8]) -> Option<usize> {
    if expected == found {
        return None;
    }
    let first = expected.iter().zip(found).position(|(expected, found)| expected != found);
    Some(first.unwrap_or(expected.len().min(found.len())))
}

#[test]
fn traps_22_and_23_snapshots_keep_what_they_have() {
    let mut rng = Rng::announced(0x5a9);
    for shape in SHAPES {
        live(shape, &mut rng.fork());
    }
}
