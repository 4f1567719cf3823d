//! What we accept means the same to the oldest YAML reader of the field; it is kept for this test alone. Where one of the two
//! refuses what the other takes, or both take it for something else, the reason is in a table of docs/design/language.md.

mod known;
mod make;
mod plain;
mod slips;

use engine::playbook::yaml_value;
use make::document;
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::Value;
use slips::{slipped, slips};
use std::path::Path;

type Answer = Result<Value, String>;

fn ours(text: &str) -> Answer {
    let answer = yaml_value(text);
    if let Err(error) = &answer {
        // This is said when the thread that parses has panicked.
        assert!(!error.contains("could not be parsed"), "{error}\n{text:?}");
        let (place, message) = error.split_once(": ").unwrap_or_default();
        let (line, column) = place.split_once(':').unwrap_or_default();
        let in_text = line.parse::<usize>().is_ok_and(|line| line <= text.lines().count().max(1) + 1);
        assert!(in_text && column.parse::<usize>().is_ok() && !message.is_empty(), "{error:?}\n{text:?}");
    }
    answer
}

fn theirs(text: &str) -> Answer {
    // It counts a byte order mark as a column of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// None if the two agree, or for a reason that is known, do not.
fn unexplained(text: &str) -> Option<String> {
    let (ours, theirs) = (ours(text), theirs(text));
    match known::agree(text, &ours, &theirs) {
        true => None,
        false => Some(format!("{text}\n{text:?}\nours:   {ours:?}\ntheirs: {theirs:?}")),
    }
}

/// How many documents a property is tested with, the same each time; `PROPTEST_CASES` asks for as many others.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|number| number.parse().ok());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(2) };
    ProptestConfig {
        cases: asked.unwrap_or(usual),
        rng_seed,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The bundled playbooks and the corpus of bad ones.
fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["playbooks", "playbooks/fragments", "tests/bad"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let mut files: Vec<_> = files.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let texts: Vec<_> = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    assert!(texts.len() > 60, "{}", texts.len());
    texts
}

#[test]
fn the_bundled_playbooks_and_the_bad_ones_mean_the_same_to_both() {
    let different: Vec<_> = texts().iter().filter_map(|text| unexplained(text)).collect();
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

/// The rows of the table in the docs: a text, what it is here and there, and why. `refused: WORDS` tells an error.
fn table() -> Vec<[String; 4]> {
    let page = include_str!("../../../docs/design/language.md");
    let (_, section) = page.split_once("\n## YAML\n").expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<String> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        <[String; 4]>::try_from(cells).unwrap_or_else(|cells| panic!("four cells: {cells:?}"))
    };
    rows.map(row).collect()
}

#[test]
fn the_table_of_differences_in_the_docs_is_true() {
    let rows = table();
    assert!(rows.len() >= 20, "{rows:?}");
    let mut wrong = Vec::new();
    for [text, here, there, why] in rows {
        let code = |cell: &str| cell.trim_matches('`').to_owned();
        let text = code(&text)
            .replace("\\n", "\n")
            .replace("\\t", "\t")
            .replace("\\u2028", "\u{2028}")
            .replace("\\ufeff", "\u{feff}");
        let is = |cell: &str, answer: &Answer| match (cell.strip_prefix("refused: "), answer) {
            (Some(words), Err(error)) => error.contains(&code(words)),
            (None, Ok(value)) => serde_json::from_str(&code(cell)).is_ok_and(|told: Value| told == *value),
            _ => false,
        };
        let (ours, theirs) = (ours(&text), theirs(&text));
        if !is(&here, &ours) || !is(&there, &theirs) || ours.as_ref().ok() == theirs.as_ref().ok() {
            wrong.push(format!("{text:?} ({why})\n  {here}: {ours:?}\n  {there}: {theirs:?}"));
        }
        wrong.extend(unexplained(&text));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn documents_of_all_styles_mean_the_same_to_both(text in document()) {
        prop_assert_eq!(unexplained(&text), None);
    }

    #[test]
    fn documents_with_slips_mean_the_same_to_both(text in document(), slips in slips(3)) {
        prop_assert_eq!(unexplained(&slipped(&text, &slips)), None);
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn playbooks_with_slips_mean_the_same_to_both(text in prop::sample::select(texts()), slips in slips(4)) {
        prop_assert_eq!(unexplained(&slipped(&text, &slips)), None);
    }
}
