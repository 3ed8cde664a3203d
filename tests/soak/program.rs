//! The programs' turns: requests as commands of `qemu-io` and `qimg-io`, and what they answer.

use std::path::Path;

use testkit::{Folder, IoSession, ModelDisk, Output};

use super::allocation::{Slot, Slots};
use super::hand::Hand;
use super::step::{DiscardRule, Kind, Step};
use super::turn::Mode;

/// Those of `steps` that can be asked for by commands: compressed writes only where the cluster
/// has no host space for certain. The real tool keeps a place for the next compressed cluster
/// and uses it even after that space was given to somebody else, so it compresses only at the
/// beginning of a session.
pub(crate) fn feasible(hand: Hand, path: &Path, steps: &[Step], compresses: bool) -> Vec<Step> {
    let mut slots = Slots::of(path);
    let mut at_beginning = true;
    let mut kept = Vec::new();
    for step in steps {
        if step.kind == Kind::Compressed {
            let allowed = compresses && (hand == Hand::Ours || at_beginning);
            if !allowed || slots.at(step.offset) != Slot::Free {
                continue;
            }
            slots.set(step.offset, Slot::Taken);
        } else if step.changes() {
            at_beginning = false;
            slots.touch(step.offset, step.len);
        }
        kept.push(step.clone());
    }
    kept
}

/// Requests one after the other, by one process. `model` follows.
pub(crate) fn session(
    hand: Hand,
    path: &Path,
    mode: &Mode,
    steps: &[Step],
    folder: &Folder,
    model: &mut ModelDisk,
    discards: DiscardRule,
) {
    let mut args = arguments(mode.cache);
    if mode.ignores_discard {
        args.extend(["-d".to_owned(), "ignore".to_owned()]);
    }
    for (number, step) in steps.iter().enumerate() {
        let content = folder.path(format!("content-{number}"));
        args.extend(["-c".to_owned(), step.command(&content)]);
    }
    args.push(path.display().to_string());
    let output = hand.io(&args);
    let mut lines = output.stdout.lines();
    for step in steps {
        expect(step, &mut lines, model, &output);
        step.apply(model, discards);
    }
    output.success();
}

fn arguments(cache: &str) -> Vec<String> {
    ["-f", "qcow2", "-t", cache].map(str::to_owned).to_vec()
}

/// Reads the answer to one request.
fn expect<'a>(
    step: &Step,
    lines: &mut impl Iterator<Item = &'a str>,
    model: &ModelDisk,
    output: &Output,
) {
    let verb = match step.kind {
        Kind::Flush | Kind::Reopen | Kind::Resize => return,
        Kind::Read => "read",
        Kind::Discard => "discard",
        _ => "wrote",
    };
    let last = format!("{verb} {0}/{0} bytes at offset {1}", step.len, step.offset);
    let mut bytes = Vec::new();
    loop {
        match lines.next() {
            Some(line) if line == last => break,
            Some(line) if step.kind == Kind::Read && dump(line, &mut bytes) => {}
            // The second line of the statistics of the last request.
            Some(line) if line.contains(" ops; ") => {}
            line => panic!("{step}: expected {last:?}, found {line:?}\n{output:?}"),
        }
    }
    if step.kind == Kind::Read {
        assert_eq!(bytes.len() as u64, step.len, "{step}");
        model.assert_at(step.offset, &bytes);
    }
}

/// Takes the bytes of a line of a dump: offset, colon, up to 16 bytes, their text.
fn dump(line: &str, bytes: &mut Vec<u8>) -> bool {
    let Some((offset, rest)) = line.split_once(":  ") else { return false };
    let Some((words, _text)) = rest.split_once("  ") else { return false };
    if u64::from_str_radix(offset, 16).is_err() {
        return false;
    }
    bytes.extend(words.split(' ').map(|word| u8::from_str_radix(word, 16).unwrap()));
    true
}

/// Requests by a program that is killed afterwards, before it can close the image. With
/// `flushed`, each request is followed by a flush.
pub(crate) fn killed(hand: Hand, path: &Path, steps: &[Step], lost: &[Step], folder: &Folder) {
    let mut args = arguments(if hand == Hand::Theirs { "writethrough" } else { "writeback" });
    args.push(path.display().to_string());
    let started = match hand {
        Hand::Theirs => IoSession::start(&args),
        Hand::Library | Hand::Ours => IoSession::start_own(&args),
    };
    let mut program = started.unwrap_or_else(|said| panic!("{args:?}: {said}"));
    let mut run = |step: &Step| {
        let said = program.command(&step.command(&folder.path("content")));
        assert!(!said.contains("fail") && !said.contains("rror"), "{step}: {said}");
    };
    steps.iter().for_each(&mut run);
    run(&Step { kind: Kind::Flush, offset: 0, len: 0, seed: 0 });
    lost.iter().for_each(&mut run);
    program.kill();
}

#[test]
fn dumps_are_understood() {
    let mut bytes = Vec::new();
    let lines = ["00000064:  01 02 0f  ..:", "00000067:  ff 00  ..", "read 5/5 bytes"];
    assert_eq!(lines.map(|line| dump(line, &mut bytes)), [true, true, false]);
    assert_eq!(bytes, [1, 2, 15, 255, 0]);
}
