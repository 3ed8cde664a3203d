//! What happens to the file system: two overlays, a round of changes in each.

use testkit::{Folder, Pattern, Qemu};

use super::chain::Chain;
use super::file_system::{Change, Files, make};
use super::transfer::{Writer, differences};

/// Exports the disk, changes files in the copy, and carries the differences into the overlay.
fn round(folder: &Folder, chain: &Chain, files: &mut Files, writer: Writer, changes: &[Change]) {
    let raw = chain.export(folder, "export.raw");
    let before = std::fs::read(&raw).unwrap();
    files.change(folder, &raw, changes);
    let after = std::fs::read(&raw).unwrap();
    let ranges = differences(&before, &after);
    assert!(ranges.len() > 3, "changing files touches several places: {ranges:?}");
    writer.write(folder, chain.top(), &after, &ranges);
    chain.assert_sound();
    let shown = chain.export(folder, "shown.raw");
    assert!(std::fs::read(&shown).unwrap() == after, "the top shows the changed file system");
    files.assert_in(folder, &shown);
}

fn first_changes() -> Vec<Change> {
    vec![
        Change::Folder("/new"),
        Change::Write("/new/large", Pattern::new(100).bytes(0, 3_000_000)),
        Change::Write("/new/small", b"a few bytes".to_vec()),
        Change::Write("/generated/part-1/file-7", Pattern::new(101).bytes(0, 123_457)),
        Change::Remove("/generated/part-0/file-9"),
        Change::Remove("/many/17"),
    ]
}

fn second_changes() -> Vec<Change> {
    vec![
        Change::Write("/new/small", Pattern::new(102).bytes(0, 900_001)),
        Change::Remove("/new/large"),
        Change::Write("/generated/part-0/file-9", Pattern::new(103).bytes(0, 2_000_000)),
        Change::Folder("/new/deeper"),
        Change::Write("/new/deeper/empty", Vec::new()),
        Change::Remove("/many/199"),
    ]
}

/// Overlay-1 takes the first changes, overlay-2 the second; at the end overlay-1 still shows the
/// first.
fn two_overlays(folder: &Folder, mut chain: Chain, mut files: Files, writers: [Writer; 2]) {
    chain.push(folder, "cluster_size=64k");
    round(folder, &chain, &mut files, writers[0], &first_changes());
    let (first, first_files) = (chain.top().to_owned(), files.clone());
    chain.push(folder, "cluster_size=4k,compat=0.10");
    round(folder, &chain, &mut files, writers[1], &second_changes());
    let alone = folder.path("first.raw");
    let args = ["convert", "-f", "qcow2", "-O", "raw"];
    let names = [first.to_str().unwrap(), alone.to_str().unwrap()];
    Qemu::img(args.into_iter().chain(names)).success();
    first_files.assert_in(folder, &alone);
}

#[test]
fn files_change_over_a_raw_base() {
    let folder = Folder::new();
    let (base, files) = make(&folder);
    files.assert_in(&folder, &base);
    two_overlays(&folder, Chain::new(base, "raw"), files, [Writer::QimgIo, Writer::Library]);
}

#[test]
fn files_change_over_a_compressed_qcow2_base() {
    let folder = Folder::new();
    let (raw, files) = make(&folder);
    let base = folder.path("base.qcow2");
    let args = ["convert", "-c", "-f", "raw", "-O", "qcow2"];
    let names = [raw.to_str().unwrap(), base.to_str().unwrap()];
    Qemu::img(args.into_iter().chain(names)).success();
    two_overlays(&folder, Chain::new(base, "qcow2"), files, [Writer::Library, Writer::QimgIo]);
}
