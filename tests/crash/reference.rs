//! What the real tool says of a state.

use qimg::io::MemoryStorage;
use testkit::{Folder, Qemu};

/// The real check finds nothing worse than leaks. What is dirty is repaired by it first, on a copy,
/// which is returned.
pub(crate) fn check(
    files: &[MemoryStorage],
    dirty: bool,
) -> Result<Option<Vec<MemoryStorage>>, String> {
    let folder = Folder::new();
    let names = ["image.qcow2", "disk.data"];
    let paths: Vec<_> =
        files.iter().zip(names).map(|(file, name)| folder.write(name, &file.to_vec())).collect();
    let mut node = format!("driver=qcow2,file.filename={}", paths[0].display());
    if let Some(data) = paths.get(1) {
        node.push_str(&format!(",data-file.filename={}", data.display()));
    }
    if dirty {
        Qemu::img(["check", "-r", "all", "--image-opts", &node]);
    }
    let output = Qemu::img(["check", "--image-opts", &node]);
    let allowed: &[i32] = if dirty { &[0] } else { &[0, 3] };
    if !output.code.is_some_and(|code| allowed.contains(&code)) {
        return Err(format!("the real check: {}\n{}", output.stdout, output.stderr));
    }
    let read = |path| MemoryStorage::from(&std::fs::read(path).unwrap()[..]);
    Ok(dirty.then(|| paths.iter().map(read).collect()))
}
