//! Output as a page shows it, beside what was printed: `...` stands for what differs from host to host.

/// What stands for anything: within a line for part of it, alone on a line for any number of lines.
const ANYTHING: &str = "...";

/// Whether what was printed is what the page shows. Spaces at the ends of lines do not count.
pub(crate) fn same(shown: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = shown.split_first() else { return printed.is_empty() };
    if first.trim() == ANYTHING {
        return (0..=printed.len()).any(|skipped| same(rest, &printed[skipped..]));
    }
    match printed.split_first() {
        Some((line, others)) => same_line(first, line) && same(rest, others),
        None => false,
    }
}

/// Whether one line is what the page shows.
pub(crate) fn same_line(shown: &str, printed: &str) -> bool {
    let pieces = pieces(shown.trim_end());
    let printed = printed.trim_end();
    let [first, middle @ .., last] = &pieces[..] else {
        return pieces.first().is_some_and(|only| *only == printed);
    };
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    for piece in middle {
        match rest.find(piece) {
            Some(found) => rest = &rest[found + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether a line stands for more than itself.
pub(crate) fn is_wild(shown: &str) -> bool {
    pieces(shown).len() > 1
}

/// What stands between the dots; four dots and more are a picture of something.
fn pieces(shown: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(found) = shown[at..].find('.') {
        let dots = at + found;
        let end = shown[dots..].find(|char| char != '.').map_or(shown.len(), |len| dots + len);
        if &shown[dots..end] == ANYTHING {
            pieces.push(&shown[start..dots]);
            start = end;
        }
        at = end;
    }
    pieces.push(&shown[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn dots_in_a_line_stand_for_part_of_it() {
        for shown in ["a 12 KiB b", "a ... b", "... b", "a ...", "a ... KiB ...", "a 12 KiB b  "] {
            assert!(same_line(shown, "a 12 KiB b"), "{shown}");
        }
        for shown in ["a 12 KiB", "b ...", "... a", "a ... MiB ...", "a ....", "a 12 KiB b b..."] {
            assert!(!same_line(shown, "a 12 KiB b"), "{shown}");
        }
        assert!(same_line("##......  5%", "##......  5%"), "a bar is no wildcard");
        assert!(!same_line("##......  5%", "###.....  5%"));
    }

    #[test]
    fn dots_alone_stand_for_lines() {
        let printed = lines("one\ntwo\nthree");
        for shown in ["...", "one\n...", "...\nthree", "one\n...\nthree", "one\ntwo\n...\nthree"] {
            assert!(same(&lines(shown), &printed), "{shown}");
        }
        for shown in ["", "one", "one\n...\ntwo", "two\n...", "one\ntwo\nthree\nfour"] {
            assert!(!same(&lines(shown), &printed), "{shown}");
        }
        assert!(same(&[], &[]));
    }
}
