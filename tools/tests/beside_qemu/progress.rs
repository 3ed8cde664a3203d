//! Progress and failures in the forms that programs read.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::gallery::Gallery;
use crate::pair::{qimg, same};

#[test]
fn objects_end_at_everything() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("base.raw"), gallery.path("copy.raw"));
    let ours = qimg(&["convert", "--progress=json", "-O", "raw", &from, &to]).success();
    assert_eq!(ours.stdout, "");
    let objects: Vec<serde_json::Value> =
        ours.stderr.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let last = objects.last().expect("there is one");
    assert_eq!((&last["transferred"], &last["size"]), (&(1 << 20).into(), &(1 << 20).into()));
    assert_eq!(last["description"], "convert");
    assert_eq!(objects.first().expect("there is one")["transferred"], 0);
}

#[test]
fn failures_are_objects_when_asked_for() {
    let ours = qimg(&["info", "--error-format=json", "no-such-file"]).exits(1);
    let told: serde_json::Value = serde_json::from_str(&ours.stderr).expect("one object");
    assert_eq!(told["exit-code"], 1);
    assert!(told["message"].as_str().is_some_and(|text| text.contains("No such file")), "{told}");
    same(&["info", "no-such-file"]);
}

#[test]
fn a_signal_asks_how_far_it_is() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("large.raw"), gallery.path("copy.raw"));
    std::fs::write(&from, vec![1; 16 << 20]).expect("a file");
    let mut convert = Command::new(env!("CARGO_BIN_EXE_qimg"))
        .args(["convert", "-r", "8M", "-O", "raw", &from, &to])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // The copy has begun, so the program listens.
    while !std::path::Path::new(&to).exists() {
        std::thread::yield_now();
    }
    let kill = Command::new("kill").args(["-USR1", &convert.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let mut line = String::new();
    let stderr = convert.stderr.take().expect("a pipe");
    BufReader::new(stderr).read_line(&mut line).expect("a line");
    assert!(convert.wait().expect("it ends").success());
    assert!(line.starts_with("    (") && line.ends_with("/100%)\n"), "{line:?}");
}
