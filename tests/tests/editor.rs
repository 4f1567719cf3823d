//! Playbooks in an editor: the language server that editors use for YAML, with the schema that the code gives.

use std::path::Path;

use tests::editor::{At, Editor};

/// A folder with the schema in it.
struct Schema {
    dir: tempfile::TempDir,
}

impl Schema {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let schema = engine::schema::playbook(&steps::builtin());
        std::fs::write(dir.path().join("playbook.schema.json"), schema.to_string()).expect("the schema");
        Self { dir }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("playbook.schema.json")
    }

    fn editor(&self) -> Option<Editor> {
        Editor::start_or_skip(Some(&self.path()))
    }
}

/// The YAML files of a folder of the repository, with their names.
fn yaml_files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").flatten().map(|file| file.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(file).expect("UTF-8"))
    };
    files.iter().map(read).collect()
}

/// Where `mark` stands in a text.
fn place(text: &str, mark: &str) -> At {
    let byte = text.find(mark).unwrap_or_else(|| panic!("no `{mark}` in the text"));
    let line = text[..byte].matches('\n').count();
    At(line, byte - text[..byte].rfind('\n').map_or(0, |newline| newline + 1))
}

#[test]
fn the_bundled_playbooks_have_no_diagnostics_and_a_slip_in_each_is_found_on_its_line() {
    let schema = Schema::new();
    let Some(mut editor) = schema.editor() else { return };
    let files = yaml_files("playbooks");
    assert!(files.len() >= 4, "the playbooks are there");
    for (name, text) in files {
        assert_eq!(editor.open(&name, &text), [], "{name}");
        // So that it is known that the schema was used: a key that does not exist, in the last line.
        let slip = format!("{}\nno_such_key: 1\n", text.trim_end());
        let line = slip.lines().count() as u64;
        let found = editor.open(&format!("slip-{name}"), &slip);
        assert!(matches!(found.as_slice(), [(at, _)] if *at == line), "{name}, line {line}: {found:?}");
    }
}

#[test]
fn every_step_types_own_example_has_no_diagnostics() {
    let schema = Schema::new();
    let Some(mut editor) = schema.editor() else { return };
    for step in steps::builtin().iter() {
        let example: String = step.docs().example.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!("name: x\nhosts: {{ nas: {{ ssh: nas }} }}\nprepare:\n{example}");
        assert_eq!(editor.open(&format!("{}.yaml", step.kind()), &text), [], "{text}");
    }
}

#[test]
fn an_expression_may_stand_wherever_a_value_may() {
    let schema = Schema::new();
    let Some(mut editor) = schema.editor() else { return };
    let text = r#"name: expressions
params:
  n: { type: int, default: 1 }
vars:
  row: { a: 1 }
prepare:
  a:
    timeout: ${{ params.n }}s
    retry: { attempts: "${{ params.n }}", backoff: "${{ params.n }}", delay: "${{ params.n }}s" }
    file: { create: "/tmp/${{ run.id }}", size: "${{ params.n }}", content: "${{ vars.row.content }}", owned: "${{ true }}" }
  b:
    sqlite: { database: /x.db, insert: { into: t, values: "${{ vars.row }}" } }
  c:
    sqlite: { database: /x.db, check: "${{ vars.checks }}" }
  d:
    systemd: "${{ vars.row }}"
  e:
    systemd: { unit: a, is: "${{ params.state }}" }
  f:
    command: { run: "${{ vars.argv }}", env: { A: "${{ params.n }}" }, ok_codes: ["${{ params.n }}"] }
  g:
    foreach: ${{ range(params.n) }}
    tcp: { host: localhost, port: "${{ each.value }}" }
"#;
    assert_eq!(editor.open("expressions.yaml", text), []);
}

#[test]
fn a_mistake_is_shown_on_its_line() {
    let schema = Schema::new();
    let Some(mut editor) = schema.editor() else { return };
    let cases = [
        ("name: x\nprepare:\n  a:\n    fil: { stat: / }\n", 4, "fil"),
        ("name: x\nprepare:\n  a:\n    file: { stat: / }\n    timeout: 10 minutes\n", 5, "1h30m"),
        ("name: x\nprepare:\n  a:\n    file: { create: /x, size: 10 potatoes }\n", 4, "10MB"),
        ("name: x\nprepare:\n  a:\n    file: { stat: / }\n    when: ${{ true }}\n", 5, "bare expression"),
        ("name: x\nprepare:\n  a:\n    file: { stat: / }\n    keep: forever\n", 5, "on_failure"),
        ("name: x\nprepare:\n  a:\n    systemd: { unit: a, is: activ }\n", 4, "active"),
        ("name: x\nprepare:\n  a:\n    sqlite:\n      databas: /x.db\n      query: SELECT 1\n", 5, "databas"),
        ("name: x\nprepare:\n  my-step:\n    file: { stat: / }\n", 3, "letters, digits"),
        ("name: x\nprepare:\n  - file: { stat: / }\n", 3, "object"),
        (
            "name: x\nprepare:\n  a:\n    retry: { attempts: 3, on: [tiemout] }\n    file: { stat: / }\n",
            4,
            "timeout",
        ),
        ("description: no name\n", 1, "name"),
    ];
    for (number, (text, line, word)) in cases.into_iter().enumerate() {
        let found = editor.open(&format!("broken-{number}.yaml"), text);
        assert!(found.iter().any(|(at, said)| *at == line && said.contains(word)), "{text}: {found:?}");
        assert!(
            found.iter().all(|(at, _)| at.abs_diff(line) <= 1),
            "nothing else is blamed: {text}: {found:?}"
        );
    }
    for (name, text) in yaml_files("tests/bad").into_iter().filter(|(name, _)| name == "unknown_keys.yaml") {
        let found = editor.open(&name, &text);
        for key in ["descripton", "siz", "tiemout", "sqlit"] {
            let line = place(&text, &format!("{key}:")).0 as u64 + 1;
            assert!(found.iter().any(|(at, said)| *at == line && said.contains(key)), "{key}: {found:?}");
        }
    }
}

#[test]
fn a_step_is_offered_the_step_types_and_a_step_type_its_keys() {
    let schema = Schema::new();
    let Some(mut editor) = schema.editor() else { return };
    let registry = steps::builtin();
    let text = "name: x\nprepare:\n  a:\n    \n";
    editor.open("step.yaml", text);
    let offered = editor.complete("step.yaml", At(3, 4));
    for step in registry.iter() {
        let (docs, inserted) =
            offered.get(step.kind()).unwrap_or_else(|| panic!("`{}`: {offered:?}", step.kind()));
        assert!(docs.contains(step.docs().summary), "{}: {docs}", step.kind());
        assert!(inserted.contains("${1:"), "`{}` has places to type at: {inserted}", step.kind());
    }
    for key in ["needs", "when", "timeout", "retry", "expect", "undo", "keep", "hint"] {
        assert!(offered.contains_key(key), "{key}: {offered:?}");
    }
    for step in registry.iter() {
        let schema = step.params_schema();
        let Some(properties) = schema["properties"].as_object() else { continue };
        let text = format!("name: x\nprepare:\n  a:\n    {}:\n      \n", step.kind());
        let name = format!("keys-{}.yaml", step.kind());
        editor.open(&name, &text);
        let offered = editor.complete(&name, At(4, 6));
        for key in properties.keys() {
            assert!(offered.contains_key(key), "`{key}` of `{}`: {offered:?}", step.kind());
        }
    }
    editor.open("value.yaml", "name: x\nprepare:\n  a:\n    systemd:\n      unit: a\n      is: \n");
    let offered = editor.complete("value.yaml", At(5, 10));
    assert!(offered.contains_key("active") && offered.contains_key("installed"), "{offered:?}");
}

#[test]
fn what_is_inserted_for_a_step_type_is_valid_as_it_stands() {
    let schema = Schema::new();
    let Some(mut editor) = schema.editor() else { return };
    editor.open("step.yaml", "name: x\nprepare:\n  a:\n    \n");
    let offered = editor.complete("step.yaml", At(3, 4));
    for step in steps::builtin().iter() {
        let (_, inserted) = &offered[step.kind()];
        let typed = plain(inserted).replace('\n', "\n    ");
        let text = format!("name: x\nprepare:\n  a:\n    {typed}\n");
        assert_eq!(editor.open(&format!("inserted-{}.yaml", step.kind()), &text), [], "{text}");
    }
}

/// The text of a snippet whose places were left as they are.
fn plain(snippet: &str) -> String {
    let mut text = String::new();
    let mut rest = snippet;
    while let Some(open) = rest.find("${") {
        text.push_str(&rest[..open]);
        let inside = &rest[open + 2..];
        let close = inside.char_indices().find(|(at, c)| *c == '}' && !inside[..*at].ends_with('\\'));
        let close = close.map(|(at, _)| at).expect("a place ends");
        let (_, default) = inside[..close].split_once(':').unwrap_or_default();
        text.push_str(&default.replace("\\}", "}").replace("\\$", "$").replace("\\\\", "\\"));
        rest = &inside[close + 1..];
    }
    text + rest
}

#[test]
fn hovering_shows_the_documentation() {
    let schema = Schema::new();
    let Some(mut editor) = schema.editor() else { return };
    let text = "name: x\nprepare:\n  a:\n    timeout: 5s\n    sqlite:\n      database: /x.db\n      check: wal\n    undo:\n      hash: { path: /x }\n";
    assert_eq!(editor.open("hover.yaml", text), []);
    for (mark, words) in [
        ("prepare", "Each effect is undone at the end"),
        ("timeout", "The limit of one attempt"),
        ("sqlite", "It is undone by deleting that row"),
        ("sqlite", "into: media_transfer_status"),
        ("database", "It is never created"),
        ("check", "Its journal mode is WAL"),
        ("undo", "How its effect is taken back"),
        ("path", "The file."),
    ] {
        let shown = editor.hover("hover.yaml", place(text, mark));
        assert!(shown.contains(words), "{mark}: {shown}");
    }
}

#[test]
fn one_line_in_a_playbook_is_all_the_set_up() {
    let schema = Schema::new();
    let Some(mut editor) = Editor::start_or_skip(None) else { return };
    let line = format!("# yaml-language-server: $schema={}\n", schema.path().display());
    let found = editor.open("mine.yaml", &format!("{line}name: x\nprecheck: {{}}\nno_such_key: 1\n"));
    assert!(matches!(found.as_slice(), [(4, said)] if said.contains("no_such_key")), "{found:?}");
}
