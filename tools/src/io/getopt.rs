//! The short flags of one `qimg-io` command: clusters (`-qv`), values (`-P1`, `-P 1`), `--`.

/// A command line taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Flags in the order given, each with its value if it takes one.
    pub flags: Vec<(char, Option<String>)>,
    /// Everything else, in order.
    pub operands: Vec<String>,
}

/// What is wrong with the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagError {
    /// A letter the command does not know.
    Unknown(char),
    /// A flag that needs a value stands at the end.
    MissingValue(char),
}

impl std::fmt::Display for FlagError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(flag) => write!(f, "invalid option -- '{flag}'"),
            Self::MissingValue(flag) => write!(f, "option requires an argument -- '{flag}'"),
        }
    }
}

impl Parsed {
    /// Whether a flag was given.
    #[must_use]
    pub fn has(&self, flag: char) -> bool {
        self.flags.iter().any(|(given, _)| *given == flag)
    }

    /// The value of a flag; the last one counts.
    #[must_use]
    pub fn value(&self, flag: char) -> Option<&str> {
        self.flags.iter().rev().find(|(given, _)| *given == flag)?.1.as_deref()
    }
}

/// Takes `arguments` apart. `allowed` lists the flags; a colon follows those with a value.
///
/// # Errors
/// An unknown flag, or a flag without its value.
pub fn parse(arguments: &[String], allowed: &str) -> Result<Parsed, FlagError> {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.strip_prefix('-') {
            Some("-") => {
                parsed.operands.extend(rest.cloned());
                return Ok(parsed);
            }
            Some(cluster) if !cluster.is_empty() => {
                parse_cluster(cluster, allowed, &mut rest, &mut parsed.flags)?;
            }
            _ => parsed.operands.push(argument.clone()),
        }
    }
    Ok(parsed)
}

fn parse_cluster<'a>(
    cluster: &str,
    allowed: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    flags: &mut Vec<(char, Option<String>)>,
) -> Result<(), FlagError> {
    let mut letters = cluster.chars();
    while let Some(flag) = letters.next() {
        let known = (flag != ':').then(|| allowed.find(flag)).flatten();
        let position = known.ok_or(FlagError::Unknown(flag))?;
        if !allowed[position + flag.len_utf8()..].starts_with(':') {
            flags.push((flag, None));
            continue;
        }
        let glued = letters.as_str();
        let value = if glued.is_empty() { rest.next().cloned() } else { Some(glued.into()) };
        flags.push((flag, Some(value.ok_or(FlagError::MissingValue(flag))?)));
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn flags_may_stand_anywhere_before_the_double_dash() {
        let parsed = parse(&words("0 -qP 7 512 -- -1"), "P:qv").unwrap();
        assert!(parsed.has('q') && !parsed.has('v'));
        assert_eq!(parsed.value('P'), Some("7"));
        assert_eq!(parsed.operands, ["0", "512", "-1"]);
    }

    #[test]
    fn values_may_be_glued() {
        let parsed = parse(&words("-P0x1f -P2 -"), "P:").unwrap();
        assert_eq!(parsed.value('P'), Some("2"));
        assert_eq!(parsed.operands, ["-"]);
    }

    #[test]
    fn unknown_and_incomplete_flags_are_named() {
        assert_eq!(parse(&words("-1"), "P:q"), Err(FlagError::Unknown('1')));
        assert_eq!(parse(&words("-:"), "P:q"), Err(FlagError::Unknown(':')));
        assert_eq!(parse(&words("-qP"), "P:q"), Err(FlagError::MissingValue('P')));
    }
}
