//! `tidy`: rules of the house that no lint knows, file by file.

mod rules;
mod statement;

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::root;
use crate::failure::{Failure, Outcome};

/// Folders that hold no source of ours.
const SKIPPED: [&str; 2] = ["target", ".git"];

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("tidy", words)?;
    let root = root();
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut count = 0;
    for file in &files {
        let text = fs::read_to_string(file).map_err(Failure::at(file))?;
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().replace('\\', "/");
        for finding in rules::findings(&name, &text) {
            println!("{name}:{}: {}", finding.line, finding.text);
            count += 1;
        }
    }
    if count == 0 {
        println!("{} files in order", files.len());
        return Ok(());
    }
    Err(Failure::Findings { task: "tidy", count, hint: "CONTRIBUTING.md gives the reasons" })
}

/// Rust sources and documents below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(folder).map_err(Failure::at(folder))? {
        let path = entry.map_err(Failure::at(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_ref()) {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            files.push(path);
        }
    }
    Ok(())
}
