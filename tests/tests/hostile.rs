//! Files that no person writes: each is refused by the real program within 256 MB, with its own words.

use std::{
    path::Path,
    process::{Command, Stdio},
};
use tests::{folders::said, lab::binaries};

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

fn laughs() -> String {
    (1..30).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","))
    })
}

/// One long list, named by as many aliases.
fn quadratic() -> String {
    let list = vec!["x"; 2_000].join(",");
    format!("a: &a [{list}]\nb: [{}]\n", vec!["*a"; 2_000].join(","))
}

fn utf_16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

#[test]
fn each_is_refused_with_its_own_words() {
    let steps = |text: &str| format!("name: x\nprecheck:\n{text}\n");
    let valid = steps("  a: { disk: { path: / } }");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("billion_laughs", laughs().into()),
        ("quadratic_aliases", quadratic().into()),
        ("a_million_brackets", "[".repeat(1_000_000).into()),
        ("a_hundred_thousand_maps", "{a: ".repeat(100_000).into()),
        (
            "deep_under_an_unknown_key",
            format!("name: x\nzzz: {}{}", "[".repeat(5_000), "]".repeat(5_000)).into(),
        ),
        ("deep_within_the_bounds", format!("name: {}{}", "[".repeat(62), "]".repeat(62)).into()),
        ("a_scalar_of_70_mb", format!("name: {}", "x".repeat(70_000_000)).into()),
        ("a_scalar_of_one_mb", format!("name: [{}]", "x".repeat((1 << 20) - 20)).into()),
        ("a_hundred_thousand_keys", (0..50_000).map(|i| format!("k{i}: 1\n")).collect::<String>().into()),
        ("the_same_key_again_and_again", "a: 1\n".repeat(40_000).into()),
        ("mistakes_in_one_long_line", format!("{{{}}}", "k: 1, ".repeat(40_000)).into()),
        ("nul", "name: a\0b\n".into()),
        ("escape", "name: a\u{1b}[31mb\n".into()),
        ("bad_utf_8", b"name: x\nprecheck: { a: { disk: { path: \"/caf\xe9\" } } }\n".to_vec()),
        ("utf_16_little", utf_16(&format!("\u{feff}{valid}"), u16::to_le_bytes)),
        ("utf_16_big", utf_16(&format!("\u{feff}{valid}"), u16::to_be_bytes)),
        ("utf_16_without_a_mark", utf_16(&valid, u16::to_le_bytes)),
        ("an_id_of_10_kb", steps(&format!("  {}: {{ disk: {{ path: / }} }}", "a".repeat(10_000))).into()),
        (
            "a_deep_expression",
            steps(&format!(
                "  a: {{ disk: {{ path: / }}, expect: \"{}1{}\" }}",
                "(".repeat(400),
                ")".repeat(400)
            ))
            .into(),
        ),
        (
            "a_long_expression",
            steps(&format!("  a: {{ disk: {{ path: / }}, expect: \"{}\" }}", "x".repeat(2_000))).into(),
        ),
        (
            "ten_thousand_expressions",
            (0..10_000)
                .fold("name: x\nprecheck:\n".to_owned(), |text, i| {
                    format!("{text}  a{i}: {{ disk: {{ path: \"${{{{ params.x }}}}\" }} }}\n")
                })
                .into(),
        ),
        ("nothing_but_carriage_returns", "\r".repeat(1_000).into()),
        ("only_a_byte_order_mark", "\u{feff}".into()),
    ];
    for (name, bytes) in cases {
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
