//! Files that no person writes: each is refused by the real program within 256 MB, with its own words.

use std::{
    path::Path,
    process::{Command, Stdio},
};
use tests::{bad::made, folders::said, lab::binaries};

/// The memory that the program may map, in bytes. A file that costs more ends it, and the test sees no exit code 3.
const MEMORY: &str = "268435456";
/// Seconds after which a program that hangs is ended: no bound on its speed, which `tests/bench/check` measures.
const WATCHDOG: &str = "120";

/// What `check` says about a file of these bytes.
fn refused(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join(name), bytes).expect("the file");
    let output = Command::new("timeout")
        .args(["--signal=KILL", WATCHDOG, "prlimit", &format!("--as={MEMORY}"), "--"])
        .arg(binaries::shakedown())
        .args(["check", name])
        .current_dir(dir.path())
        .env("SHAKEDOWN_STATE_DIR", dir.path().join("state"))
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{name}: {text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\0']), "{name}: nothing reaches the terminal raw");
    text
}

#[test]
fn each_is_refused_with_its_own_words() {
    for (name, bytes) in made() {
        insta::assert_snapshot!(name, refused(&format!("{name}.yaml"), &bytes));
    }
}

#[test]
fn a_byte_order_mark_at_the_start_is_no_mistake() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("a.yaml"), "\u{feff}name: x\nprecheck: { a: { disk: { path: / } } }\n")
        .expect("a file");
    let output =
        Command::new(binaries::shakedown()).args(["check", "a.yaml"]).current_dir(dir.path()).output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for given in ["..", "/dev/zero", "/nothing/here.yaml"] {
        let output =
            Command::new(binaries::shakedown()).args(["check", given]).current_dir(dir.path()).output();
        let output = output.expect("it starts");
        assert_eq!(output.status.code(), Some(3), "{given}: {}", said(&output));
    }
    assert!(Path::new("/dev/zero").exists());
}
