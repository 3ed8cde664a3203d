//! Finding a `matches!` whose answer nobody uses.

const CALL: &str = "matches!(";

/// One-based lines on which a statement is nothing but `matches!(..);`.
///
/// A statement starts after `{`, `}` or `;`. Comments and quoted parentheses are not understood,
/// which formatted code bears: the rule then stays silent.
pub(super) fn bare_matches(text: &str) -> Vec<usize> {
    let starts = text.match_indices(CALL).map(|(start, _)| start);
    starts
        .filter(|start| begins_statement(&text[..*start]))
        .filter(|start| ends_statement(&text[*start + CALL.len()..]))
        .map(|start| text[..start].matches('\n').count() + 1)
        .collect()
}

fn begins_statement(before: &str) -> bool {
    matches!(before.trim_end().bytes().next_back(), None | Some(b'{' | b'}' | b';'))
}

/// Whether the call is closed and a semicolon follows it at once. `inside` starts behind the
/// opening parenthesis.
fn ends_statement(inside: &str) -> bool {
    let mut depth = 1;
    for (index, byte) in inside.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return inside.as_bytes().get(index + 1) == Some(&b';');
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[usize]) {
        // `CALL!` stands for the macro, so that this file passes its own rule.
        assert_eq!(bare_matches(&text.replace("CALL!", "matches!")), expected, "{text}");
    }

    #[test]
    fn a_call_alone_is_found() {
        check("fn f() {\n    let a = 1;\n    CALL!(a, Some(_));\n}\n", &[3]);
        check("fn f() {\n    CALL!(\n        a,\n        Some(_)\n    );\n}\n", &[2]);
        check("fn f() { if b {} CALL!(a, 1); }", &[1]);
    }

    #[test]
    fn a_call_whose_answer_is_used_is_fine() {
        check("fn f() {\n    assert!(CALL!(a, Some(_)));\n}\n", &[]);
        check("fn f() -> bool {\n    CALL!(a, Some(_))\n}\n", &[]);
        check("fn f() {\n    let b =\n        CALL!(a, Some(_));\n}\n", &[]);
        check("fn f() -> bool {\n    CALL!(a, 1) && b\n}\n", &[]);
    }
}
