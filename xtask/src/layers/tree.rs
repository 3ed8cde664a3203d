//! Counting what `cargo tree --prefix none` lists.

use std::collections::BTreeSet;

use super::table::Budget;

/// Distinct crates in a listing: the same name in two versions counts twice, a repeated
/// line (marked `(*)`) once.
pub(super) fn count(listing: &str) -> usize {
    crates(listing).len()
}

pub(super) fn over_budget(listing: &str, budget: &Budget) -> Option<String> {
    let found = crates(listing);
    (found.len() > budget.crates).then(|| {
        let names: Vec<String> = found.iter().map(|(name, _)| (*name).to_owned()).collect();
        format!(
            "{}: {} crates to build, at most {} allowed: {}",
            budget.package,
            found.len(),
            budget.crates,
            names.join(" ")
        )
    })
}

/// `(name, version)` of every line; section titles and empty lines have no version.
fn crates(listing: &str) -> BTreeSet<(&str, &str)> {
    let pairs = listing.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let version = words.next().filter(|word| word.starts_with('v'))?;
        Some((name, version))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
engine v0.1.0 (/somewhere/engine)
format v0.1.0 (/somewhere/format)
derive v1.0.0 (proc-macro)
syn v2.0.0
format v0.1.0 (/somewhere/format) (*)
syn v3.0.0

[build-dependencies]
";

    #[test]
    fn repeated_lines_count_once_and_two_versions_twice() {
        assert_eq!(count(LISTING), 5);
    }

    #[test]
    fn one_crate_over_the_budget_is_a_finding_with_all_names() {
        assert_eq!(over_budget(LISTING, &Budget { package: "engine", crates: 5 }), None);
        assert_eq!(
            over_budget(LISTING, &Budget { package: "engine", crates: 4 }).as_deref(),
            Some("engine: 5 crates to build, at most 4 allowed: derive engine format syn syn")
        );
    }
}
