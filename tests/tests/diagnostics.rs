//! Diagnostics as users and editors get them: codes with pages, ranges for editors, files that are missing.

use engine::{Source, diagnostic::Code, playbook};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};
use tests::{folders::said, lab::binaries};

fn shakedown(dir: &Path, argv: &[&str]) -> Output {
    let mut command = Command::new(binaries::shakedown());
    command.args(argv).current_dir(dir).stdin(Stdio::null()).env("SHAKEDOWN_STATE_DIR", dir.join("state"));
    command.output().expect("it starts")
}

/// A folder with a file of this text.
fn folder(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("test.yaml"), text).expect("a playbook");
    dir
}

/// The diagnostics that editors get.
fn diagnostics(dir: &Path) -> Vec<Value> {
    let output = shakedown(dir, &["check", "test.yaml", "--format", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

/// The example of a page below a heading.
fn example(page: &str, heading: &str) -> String {
    let below = page.split(heading).nth(1).unwrap_or_else(|| panic!("`{heading}` in {page}"));
    let block = below.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("an example below `{heading}` in {page}")).to_owned()
}

#[test]
fn each_code_has_a_page_whose_examples_are_what_they_say() {
    for code in Code::ALL {
        let page = code.page();
        assert!(page.starts_with(&format!("# {}: ", code.name())), "{page}");
        assert!(page.contains("\n## Why\n"), "{page}");
        let (wrong, right) = (folder(&example(page, "## Wrong")), folder(&example(page, "## Right")));
        let found = diagnostics(right.path());
        assert!(found.is_empty(), "the right example of {}: {found:?}", code.name());
        match code {
            // These two are not of one file alone: they are found when the plan is made.
            Code::Plan => {
                let plan = |dir: &tempfile::TempDir| said(&shakedown(dir.path(), &["plan", "test.yaml"]));
                assert!(plan(&wrong).contains("error[plan]"), "{}", plan(&wrong));
                assert!(!plan(&right).contains("error"), "{}", plan(&right));
            }
            Code::NoUndo => {
                let plan = |dir: &tempfile::TempDir| said(&shakedown(dir.path(), &["plan", "test.yaml"]));
                assert!(plan(&wrong).contains("1 without undo"), "{}", plan(&wrong));
                assert!(plan(&right).contains("0 without undo"), "{}", plan(&right));
            }
            _ => {
                let found = diagnostics(wrong.path());
                let codes: Vec<&str> = found.iter().filter_map(|one| one["code"].as_str()).collect();
                assert!(codes.contains(&code.name()), "the wrong example of {}: {codes:?}", code.name());
            }
        }
    }
}

#[test]
fn pages_and_codes_are_the_same() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
    let pages: BTreeSet<String> = std::fs::read_dir(dir)
        .expect("the pages")
        .map(|entry| {
            entry.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
    assert_eq!(pages, codes);
}

#[test]
fn explain_lists_all_codes_and_prints_the_page_of_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = shakedown(dir.path(), &["explain"]);
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    for code in Code::ALL {
        assert!(text.lines().any(|line| line.starts_with(code.name())), "{}: {text}", code.name());
    }
    let one = shakedown(dir.path(), &["explain", "may-be-skipped"]);
    assert_eq!(String::from_utf8_lossy(&one.stdout), Code::MayBeSkipped.page());
    let wrong = shakedown(dir.path(), &["explain", "may-be-skiped"]);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(said(&wrong).contains("did you mean `may-be-skipped`?"), "{}", said(&wrong));
}

#[test]
fn editors_get_ranges_from_zero_in_utf_16_and_people_lines_from_one() {
    let dir = folder("name: x\nprecheck:\n  a: { disk: { path: \"你😀${{ vars.x }}\" } }\n");
    let found = diagnostics(dir.path());
    let [only] = found.as_slice() else { panic!("one: {found:?}") };
    // `你` is one unit of UTF-16 and `😀` two; both are one character for people.
    assert_eq!(only["range"]["start"], serde_json::json!({ "line": 2, "character": 34 }));
    assert_eq!(only["range"]["end"], serde_json::json!({ "line": 2, "character": 35 }));
    assert_eq!((&only["line"], &only["column"]), (&Value::from(3), &Value::from(34)));
    assert_eq!(only["file"], "test.yaml");
    assert_eq!(only["severity"], "error");
}

#[test]
fn editors_get_the_other_places_too() {
    let dir =
        folder("name: x\nprecheck:\n  a: { disk: { path: / } }\nmonitor:\n  a: { disk: { path: / } }\n");
    let found = diagnostics(dir.path());
    let [only] = found.as_slice() else { panic!("one: {found:?}") };
    assert_eq!(only["related"][0]["message"], "first here");
    assert_eq!(only["related"][0]["range"]["start"], serde_json::json!({ "line": 2, "character": 2 }));
}

#[test]
fn a_file_that_cannot_be_read_as_text_is_a_diagnostic_too() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("test.yaml"), b"name: caf\xe9\n").expect("a file");
    let found = diagnostics(dir.path());
    assert_eq!(found[0]["code"], "encoding");
    assert_eq!(found[0]["range"]["start"], serde_json::json!({ "line": 0, "character": 9 }));
}

#[test]
fn a_file_to_load_that_does_not_exist_is_a_warning_with_the_names_that_are_near() {
    let text = "name: x\nparams: { config: { type: path, default: conf/settings.jsn } }\n\
                vars: { a: '${{ load(params.config) }}', b: '${{ load(\"conf/setings.json\") }}' }\n\
                precheck: { a: { disk: { path: '/${{ vars.a.x }}${{ vars.b.x }}' } } }\n";
    let dir = folder(text);
    std::fs::create_dir(dir.path().join("conf")).expect("a folder");
    std::fs::write(dir.path().join("conf/settings.json"), "{}").expect("a file");
    let output = shakedown(dir.path(), &["check", "test.yaml", "--strict"]);
    assert_eq!(output.status.code(), Some(0), "another machine may have it: {}", said(&output));
    insta::assert_snapshot!("missing_files", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn no_answer_ends_in_the_words_of_a_parser() {
    let foreign = [
        "did not match any variant",
        "while scanning",
        "while parsing",
        "expecting",
        "mismatched input",
        "serde",
    ];
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad");
    let mut count = 0;
    for file in std::fs::read_dir(dir).expect("the corpus").map(|entry| entry.expect("a file").path()) {
        if !file.is_file() {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        let source = Arc::new(Source { name: "x.yaml".into(), text });
        let answer = match playbook::read(
            source,
            &steps::builtin(),
            &playbook::Inventory::default(),
            &playbook::NoLibrary,
        ) {
            Ok((_, warnings)) => warnings.render(false),
            Err(errors) => errors.render(false),
        };
        for words in foreign {
            assert!(!answer.contains(words), "{}: `{words}` in {answer}", file.display());
        }
    }
    assert!(count > 50, "the corpus is there");
}
