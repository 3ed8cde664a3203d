//! `qimg audit`: what may be used, and what was made to deceive.

mod forge;
mod honest;
mod hostile;

use serde_json::Value;
use testkit::Folder;

use crate::qimg;
use forge::Forged;

/// The answer about a file, its exit code compared with its verdict.
#[track_caller]
fn judged(path: &str, flags: &[&str]) -> Value {
    let said = qimg(&[&["audit", "--output=json"], flags, &[path]].concat());
    let code = said.code;
    let answer = said.json();
    let expected = match answer["verdict"].as_str() {
        Some("acceptable") => 0,
        Some("refused") => 10,
        Some("damaged") => 11,
        other => panic!("verdict {other:?}"),
    };
    assert_eq!(code, Some(expected), "{answer:#}");
    answer
}

/// The rules that findings of one severity are about, in order.
fn rules(answer: &Value, severity: &str) -> Vec<String> {
    let findings = answer["findings"].as_array().unwrap().iter();
    let findings = findings.filter(|finding| finding["severity"] == severity);
    findings.map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

/// Asserts that a file is refused for exactly these rules.
#[track_caller]
fn refused(path: &str, flags: &[&str], expected: &[&str]) -> Value {
    let answer = judged(path, flags);
    assert_eq!(answer["verdict"], "refused", "{answer:#}");
    assert_eq!(rules(&answer, "refused"), expected, "{answer:#}");
    answer
}

/// Asserts that a file is damaged for exactly these rules, and not refused.
#[track_caller]
fn damaged(path: &str, flags: &[&str], expected: &[&str]) -> Value {
    let answer = judged(path, flags);
    assert_eq!(answer["verdict"], "damaged", "{answer:#}");
    assert_eq!(rules(&answer, "damaged"), expected, "{answer:#}");
    answer
}

#[track_caller]
fn acceptable(path: &str, flags: &[&str]) -> Value {
    let answer = judged(path, flags);
    assert_eq!(answer["verdict"], "acceptable", "{answer:#}");
    answer
}

/// A policy in a file.
fn policy(folder: &Folder, text: &str) -> String {
    format!("--policy={}", folder.write("policy.toml", text.as_bytes()).display())
}

/// The message of the first finding about a rule.
fn message<'a>(answer: &'a Value, rule: &str) -> &'a str {
    let mut findings = answer["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["rule"] == rule);
    found.and_then(|finding| finding["message"].as_str()).unwrap()
}
