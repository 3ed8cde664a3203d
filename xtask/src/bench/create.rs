//! `bench create`: new images, with the whole of the disk mapped in advance or not.

use std::path::Path;
use std::process::Command;

use super::report::Row;
use super::run::{self, Run};
use crate::failure::{Failure, Outcome};

/// One kind of new image.
struct Case {
    name: &'static str,
    /// Value of `-o`; `DATA` stands for the path of a data file.
    options: &'static str,
    /// Runs of each program. The reference takes minutes for some.
    times: usize,
}

const fn case(name: &'static str, options: &'static str, times: usize) -> Case {
    Case { name, options, times }
}

const CASES: &[Case] = &[
    case("empty-64g", "size=64G", 5),
    case("empty-128g-512", "size=128G,cluster_size=512", 3),
    case("metadata-64g-64k", "size=64G,preallocation=metadata", 5),
    case("metadata-64g-64k-extended", "size=64G,preallocation=metadata,extended_l2=on", 5),
    case("metadata-64g-4k", "size=64G,preallocation=metadata,cluster_size=4k", 1),
    case("metadata-1g-512", "size=1G,preallocation=metadata,cluster_size=512", 1),
    case("data-file-raw-64g-4k", "size=64G,cluster_size=4k,data_file=DATA,data_file_raw=on", 1),
    case("falloc-8g-4k", "size=8G,preallocation=falloc,cluster_size=4k", 3),
    case("full-1g-64k", "size=1G,preallocation=full", 3),
];

pub(super) fn run(words: &[String]) -> Outcome<Vec<Row>> {
    let is_wanted = |case: &&Case| {
        words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()))
    };
    let wanted: Vec<_> = CASES.iter().filter(is_wanted).collect();
    if let (true, Some(word)) = (wanted.is_empty(), words.first()) {
        return Err(Failure::UnknownArgument { task: "bench create", argument: word.clone() });
    }
    let (folder, ours) = (run::folder()?, run::ours("qimg")?);
    let mut rows = Vec::new();
    for case in wanted {
        eprintln!("{}: {} runs of each", case.name, case.times);
        let (reference, ours) = run::in_turns(
            case.times,
            || one(Path::new("qemu-img"), &folder, case),
            || one(&ours, &folder, case),
        )?;
        rows.push(Row { case: case.name.to_owned(), reference, ours });
    }
    Ok(rows)
}

/// Makes the image once, where there is none before and none is left behind.
fn one(program: &Path, folder: &Path, case: &Case) -> Outcome<Run> {
    let files = [folder.join("new.qcow2"), folder.join("new.raw")];
    let remove = || files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    remove();
    let options = case.options.replace("DATA", &files[1].to_string_lossy().replace(',', ",,"));
    let mut command = Command::new(program);
    command.args(["create", "-q", "-f", "qcow2", "-o", &options]).arg(&files[0]);
    let run = run::measure(&mut command);
    remove();
    run
}
