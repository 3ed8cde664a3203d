//! Links between the pages: each leads somewhere, and the index names every page.

use std::path::Path;

use crate::repository;

/// What the links of a file of Markdown lead to, without addresses of other hosts.
fn targets(text: &str) -> Vec<&str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    links.map(|(target, _)| target).filter(|target| !target.contains("://")).collect()
}

/// The name that GitHub gives a heading.
fn anchor(title: &str) -> String {
    let kept = title.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.map(|char| if char == ' ' { '-' } else { char }).collect()
}

fn files() -> Vec<String> {
    let folder = std::fs::read_dir(repository().join("docs/tour")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/tour/{name}"));
    let mut files: Vec<String> = pages.collect();
    files.extend(["README.md", "docs/README.md", "tools/README.md"].map(str::to_owned));
    files
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for file in files() {
        let path = repository().join(&file);
        let text = std::fs::read_to_string(&path).unwrap();
        for target in targets(&text) {
            let (name, heading) = target.split_once('#').unwrap_or((target, ""));
            let place = match name {
                "" => path.clone(),
                name => path.parent().unwrap_or(Path::new("/")).join(name),
            };
            assert!(place.exists(), "{file}: nothing at '{target}'");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&place).unwrap();
                let mut titles = text.lines().filter(|line| line.starts_with('#'));
                assert!(titles.any(|title| anchor(title) == heading), "{file}: '{target}'");
            }
            count += 1;
        }
    }
    assert!(count > 20, "only {count} links were found");
}

#[test]
fn the_index_and_the_readme_name_every_page() {
    for (index, prefix) in [("docs/README.md", "tour/"), ("README.md", "docs/tour/")] {
        let text = std::fs::read_to_string(repository().join(index)).unwrap();
        for page in files().iter().filter_map(|file| file.strip_prefix("docs/tour/")) {
            let link = format!("]({prefix}{page}");
            assert!(text.contains(&link), "{index} does not lead to {page}");
        }
    }
}

#[test]
fn anchors_are_those_of_headings() {
    assert_eq!(anchor("## A base that was replaced: exit 13"), "a-base-that-was-replaced-exit-13");
    assert_eq!(targets("[a](b.md#c) and ![d](e.png) or [f](https://g)"), ["b.md#c", "e.png"]);
}
