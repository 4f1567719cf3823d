//! Bad playbooks: each is answered with all of its mistakes, each with its place. The files are in `tests/bad`.

use engine::{Source, playbook};
use std::{path::Path, sync::Arc};

/// The bundled fragments, as they stand beside the bundled playbooks.
struct Fragments;

impl playbook::Library for Fragments {
    fn find(&self, name: &str, _: &Source) -> Result<Arc<Source>, (String, Option<String>)> {
        let file = name.strip_prefix("bundled:").ok_or_else(|| (format!("no fragment `{name}`"), None))?;
        let path = format!("{}/../playbooks/fragments/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).map_err(|error| (error.to_string(), None))?;
        Ok(Arc::new(Source { name: name.to_owned(), text }))
    }
}

/// What reading a text says.
fn said(name: &str, text: String) -> String {
    let source = Arc::new(Source { name: name.into(), text });
    match playbook::read(source, &steps::builtin(), &playbook::Inventory::default(), &Fragments) {
        Ok((_, warnings)) => format!("valid\n{}", warnings.render(false)),
        Err(errors) => errors.render(false),
    }
}

/// What `check` warns of in a valid text.
fn linted(name: &str, text: String) -> String {
    let source = Arc::new(Source { name: name.into(), text });
    match playbook::read(source, &steps::builtin(), &playbook::Inventory::default(), &Fragments) {
        Ok((playbook, warnings)) => {
            let lints = playbook::lint(&playbook, &steps::builtin());
            format!("{}{}", warnings.render(false), lints.render(false))
        }
        Err(errors) => panic!("{name}: {}", errors.render(false)),
    }
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad");
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("the corpus").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    assert!(files.len() > 25, "the corpus is there");
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let said = said(&name, std::fs::read_to_string(&file).expect("UTF-8"));
        assert!(!said.starts_with("valid"), "{name} is not bad");
        insta::assert_snapshot!(name.trim_end_matches(".yaml"), said);
    }
}

#[test]
fn line_ends_of_windows_change_no_answer() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad");
    for entry in std::fs::read_dir(dir).expect("the corpus") {
        let file = entry.expect("a file").path();
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let lines = |text: String| {
            let said = said("a.yaml", text);
            assert!(!said.contains('\r'), "{}: {said:?}", file.display());
            said.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(lines(text.replace('\n', "\r\n")), lines(text), "{}", file.display());
    }
}

#[test]
fn every_mistake_of_an_inventory_is_reported_with_its_place() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad/inventory/wrong.yaml");
    let text = std::fs::read_to_string(file).expect("UTF-8");
    let said = match playbook::read_inventory(&Arc::new(Source { name: "wrong.yaml".into(), text })) {
        Ok(inventory) => panic!("it is not bad: {inventory:?}"),
        Err(errors) => errors.render(false),
    };
    insta::assert_snapshot!("inventory", said);
}

#[test]
fn what_a_playbook_had_better_not_do_is_told_and_can_be_allowed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad/lint");
    for name in ["lints", "allowed"] {
        let text = std::fs::read_to_string(dir.join(format!("{name}.yaml"))).expect("UTF-8");
        insta::assert_snapshot!(name, linted(name, text));
    }
}

#[test]
fn hostile_texts_are_refused_within_their_budgets() {
    let laughs: String = (1..30).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, i| {
        let last = i - 1;
        format!("{text}a{i}: &a{i} [*a{last},*a{last},*a{last},*a{last},*a{last},*a{last},*a{last},*a{last},*a{last}]\n")
    });
    let cases = [
        ("billion laughs", laughs),
        ("a million brackets", "[".repeat(1_000_000)),
        ("100,000 maps", "{a: ".repeat(100_000)),
        (
            "a deep value under an unknown key",
            format!("name: x\nzzz: {}{}", "[".repeat(5_000), "]".repeat(5_000)),
        ),
        ("a scalar of 70 MB", format!("name: {}", "x".repeat(70_000_000))),
        ("NUL", "name: a\0b\n".into()),
        ("ESC", "name: a\u{1b}[31mb\n".into()),
        ("a BOM in the middle", "name: a\u{feff}b\nfoo: 1".into()),
        (
            "an id of 10 KB",
            format!("name: x\nprepare: {{ {}: {{ disk: {{ path: / }} }} }}", "a".repeat(10_000)),
        ),
        ("right-to-left override", "name: x\nb\u{202e}c: 1\n".into()),
        (
            "a deep expression",
            format!(
                "name: x\nprecheck: {{ a: {{ disk: {{ path: / }}, expect: \"{}1{}\" }} }}",
                "(".repeat(400),
                ")".repeat(400)
            ),
        ),
    ];
    for (name, text) in cases {
        let said = said("hostile.yaml", text);
        assert!(said.starts_with("error"), "{name}: {said}");
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{name}: nothing reaches the terminal raw");
        assert!(said.len() < 20_000, "{name}: the answer is short: {} bytes", said.len());
    }
}

#[test]
fn the_bundled_playbooks_are_valid_without_a_warning() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks");
    let files = std::fs::read_dir(dir).expect("the playbooks").map(|entry| entry.expect("a file").path());
    let yaml: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")).collect();
    assert!(yaml.len() >= 4);
    for file in yaml {
        let said = linted(&file.display().to_string(), std::fs::read_to_string(&file).expect("UTF-8"));
        assert_eq!(said, "");
    }
}

/// A playbook with a block of the documentation in it: a whole one, some of its sections, or steps.
fn whole(block: &str) -> String {
    let keys: Vec<&str> = block
        .lines()
        .filter(|line| !line.starts_with([' ', '#', '-']))
        .filter_map(|line| line.split(':').next())
        .collect();
    let sections = [
        "defaults",
        "params",
        "vars",
        "hosts",
        "groups",
        "secrets",
        "precheck",
        "prepare",
        "monitor",
        "on_failure",
        "cleanup",
    ];
    if keys.contains(&"name") {
        return block.to_owned();
    }
    if !keys.iter().any(|key| sections.contains(key)) {
        let steps: String = block.lines().map(|line| format!("  {line}\n")).collect();
        return format!(
            "name: x\nhosts: {{ nas: {{ ssh: nas }}, edge: {{ ssh: edge }} }}\nprepare:\n{steps}"
        );
    }
    let steps = ["precheck", "prepare", "monitor", "on_failure", "cleanup"];
    let more = if keys.iter().any(|key| steps.contains(key)) {
        ""
    } else {
        "precheck: { a: { disk: { path: / } } }\n"
    };
    format!("name: x\n{block}{more}")
}

#[test]
fn every_example_of_the_documentation_is_valid_without_a_warning() {
    let mut count = 0;
    let mut valid = |name: &str, text: String| {
        count += 1;
        let said = linted(name, text.clone());
        // The files that an example speaks of are on the reader's machine.
        let warned = said.replace("warning[no-such-path]", "").contains("warning[");
        assert!(!warned, "{name}: {said}\n{text}");
    };
    for step in steps::builtin().iter() {
        let hosts = "name: x\nhosts: { nas: { ssh: nas }, edge: { ssh: edge } }\nprepare:\n";
        let example: String = step.docs().example.lines().map(|line| format!("  {line}\n")).collect();
        valid(step.kind(), format!("{hosts}{example}"));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md"), root.join("README.zh-CN.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/design"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("the pages").flatten();
        pages.extend(
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    // The step reference is drawn from the examples above.
    pages.retain(|page| !page.ends_with("docs/steps.md"));
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("UTF-8");
        let name = page.display().to_string();
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            valid(&name, whole(block));
        }
    }
    assert!(count > 30, "the examples are there: {count}");
}
