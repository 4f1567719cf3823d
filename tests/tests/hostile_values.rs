//! Values that look like commands, options or escapes go through the real program to where they are used, and come out as
//! the text that they are. `hostile_lab.rs` does the same with another machine and with a daemon.

use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::symlink},
    process::Output,
};
use tests::{
    folders::{Folders, said},
    values::{hostile, raw},
};

/// A page that shows all that a report says.
const PAGE: &str = "<!doctype html><html><body><h1>{{playbook}}</h1><p>{{description}}</p>{{#each phases}}{{#each steps}}<h2>{{id}} {{title}}</h2>\
<p>{{summary}} {{why}} {{hint}}</p>{{#if error}}<pre>{{error.message}} {{error.hint}} {{#each error.details}}{{this}}\n{{/each}}</pre>{{/if}}{{/each}}{{/each}}\
<pre>{{json this}}</pre></body></html>";

/// Where the values are used, each once for each of a list.
const USES: &str = r#"
name: hostile
vars: { values: '${{ load("values.json") }}' }
prepare:
  table:
    command: { run: [sqlite3, it.db, "CREATE TABLE t (v TEXT)"] }
    undo: { command: { run: [rm, it.db] } }
  rows:
    needs: [table]
    foreach: ${{ vars.values }}
    sqlite: { database: it.db, insert: { into: t, values: { v: "${{ each.value }}" } } }
  files:
    foreach: ${{ vars.values }}
    file: { create: "${{ run.dir }}/file-${{ each.key }}", text: "<${{ each.value }}>" }
monitor:
  argv:
    foreach: ${{ vars.values }}
    command: { run: [printf, "<%s>", "${{ each.value }}"], reads: true }
    expect: out.stdout == "<" + each.value + ">"
  shell:
    foreach: ${{ vars.values }}
    command: { shell: 'printf "<%s>" "$V"', env: { V: "${{ each.value }}" }, reads: true }
    expect: out.stdout == "<" + each.value + ">"
  stdin:
    foreach: ${{ vars.values }}
    command: { run: [cat], stdin: "<${{ each.value }}>", reads: true }
    expect: out.stdout == "<" + each.value + ">"
  back:
    foreach: ${{ vars.values }}
    sqlite: { database: it.db, query: "SELECT v FROM t WHERE v = :v", params: { v: "${{ each.value }}" } }
    expect: out.count == 1 && out.row.v == each.value
  content:
    foreach: ${{ vars.values }}
    command: { run: [cat, "file-${{ each.key }}"], reads: true }
    expect: out.stdout == "<" + each.value + ">"
  again:
    foreach: ${{ vars.values }}
    command: { run: [printf, "<%s>", "${{ steps.argv.out[each.key].stdout }}"], reads: true }
    expect: out.stdout == "<<" + each.value + ">>"
"#;

fn write(folders: &Folders, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folders.path(name), text).expect("written");
}

/// The names in the folder of the run.
fn names(folders: &Folders) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folders.dir.path()).expect("the folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Runs a playbook with reports of all forms.
fn run(folders: &Folders, playbook: &str, more: &[&str]) -> Output {
    write(folders, "test.yaml", playbook);
    write(folders, "page.hbs", PAGE);
    let reports = ["--report", "json=r.json", "--report", "markdown=r.md", "--report", "page.hbs=r.html"];
    let argv = [&["run", "test.yaml", "--no-input"], &reports[..], more].concat();
    folders.run(&argv)
}

/// Nothing that a terminal or a page would obey is in what a run showed and wrote.
#[track_caller]
fn assert_harmless(folders: &Folders, output: &Output) {
    assert_eq!(raw(&said(output)), None, "{:?}", said(output));
    for name in ["r.md", "r.html"] {
        let text = std::fs::read_to_string(folders.path(name)).expect("a report");
        assert_eq!(raw(&text), None, "{name}: {text:?}");
    }
    let page = std::fs::read_to_string(folders.path("r.html")).expect("a report");
    for markup in ["<script", "<img", "javascript:alert(1)\""] {
        assert!(!page.contains(markup), "{page}");
    }
    let report = std::fs::read_to_string(folders.path("r.json")).expect("a report");
    let _whole: Value = serde_json::from_str(&report).expect("JSON");
    assert!(!folders.path("X").exists(), "a value was run");
}

#[test]
fn each_value_is_the_same_text_wherever_it_is_used_and_nothing_is_run() {
    let folders = Folders::new();
    let values: Vec<String> = hostile().into_iter().map(|(_, value)| value).collect();
    write(&folders, "values.json", json!(values).to_string());
    let output = run(&folders, USES, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_harmless(&folders, &output);
    let left = ["page.hbs", "r.html", "r.json", "r.md", "test.yaml", "values.json"].map(str::to_owned);
    assert_eq!(names(&folders), left.into(), "what was made is gone");
    // All that is known of the run can be asked for again, and is as harmless.
    let report = std::fs::read_to_string(folders.path("r.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let id = report["run"].as_str().expect("an id");
    for argv in
        [&["runs"][..], &["runs", "show", id], &["plan", "test.yaml"], &["plan", "test.yaml", "--no-probe"]]
    {
        let output = folders.run(argv);
        assert_eq!(raw(&said(&output)), None, "{argv:?}: {:?}", said(&output));
    }
}

#[test]
fn values_of_the_command_line_are_text_too() {
    let playbook = "
name: hostile
params: { v: { type: string } }
monitor:
  argv:
    command: { run: [printf, '<%s>', '${{ params.v }}'], reads: true }
    expect: out.stdout == '<' + params.v + '>'
";
    for (name, value) in hostile() {
        let folders = Folders::new();
        let output = run(&folders, playbook, &["-p", &format!("v={value}")]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
        assert_harmless(&folders, &output);
    }
}

#[test]
fn what_is_shown_of_a_value_that_was_not_expected_is_harmless() {
    let playbook = "
name: hostile
description: '${{ not read }} <script>'
vars: { values: '${{ load(\"values.json\") }}' }
monitor:
  says:
    continue_on_error: true
    foreach: ${{ vars.values }}
    command: { run: [printf, '%s', '${{ each.value }}'], reads: true }
    expect: out.stdout == 'else' && each.value == 'else'
    hint: echo '${{ each.value }}'
  fails:
    continue_on_error: true
    foreach: ${{ vars.values }}
    command: { shell: 'printf \"%s\" \"$V\" >&2; printf \"%s\" \"$V\"; exit 1', env: { V: '${{ each.value }}' }, reads: true }
";
    let values: Vec<String> = hostile().into_iter().map(|(_, value)| value).collect();
    for more in [&[][..], &["--verbose"], &["--color", "always"]] {
        let folders = Folders::new();
        write(&folders, "values.json", json!(values).to_string());
        let output = run(&folders, &playbook.replace("${{ not read }}", "not read"), more);
        let shown = said(&output);
        // Of escapes only those of colours may be there, and they only where they were asked for.
        let plain = match more {
            ["--color", _] => without_colours(&shown),
            _ => shown,
        };
        assert!(plain.contains("owned"), "it is shown nonetheless: {plain}");
        assert_eq!(raw(&plain), None, "{plain:?}");
        let uncoloured = Output { stdout: plain.into_bytes(), stderr: Vec::new(), ..output };
        assert_harmless(&folders, &uncoloured);
    }
}

/// The text without the escapes that set colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        plain.push_str(rest.strip_prefix('m').unwrap_or("\u{1b}"));
    }
    plain
}

#[test]
fn a_nul_is_refused_where_it_cannot_be_and_kept_where_it_can() {
    let cases = [
        ("command: { run: [printf, \"${{ params.v }}\"], reads: true }", false),
        ("command: { run: [\"${{ params.v }}\"], reads: true }", false),
        ("command: { run: [\"true\"], dir: \"${{ params.v }}\", reads: true }", false),
        ("command: { run: [\"true\"], env: { V: \"${{ params.v }}\" }, reads: true }", false),
        (
            "command: { run: [cat], stdin: \"${{ params.v }}\", reads: true }, expect: out.stdout == params.v",
            true,
        ),
        ("file: { stat: \"${{ params.v }}\" }", false),
        ("hash: { path: \"${{ params.v }}\" }", false),
        ("disk: { path: \"${{ params.v }}\" }", false),
        ("tcp: { host: \"${{ params.v }}\", port: 1 }", false),
        ("http: { get: \"http://127.0.0.1:1/${{ params.v }}\" }", false),
        ("systemd: { unit: \"${{ params.v }}\", is: active }", false),
        ("journal: { unit: \"${{ params.v }}\", since: 1m }", false),
        ("sqlite: { database: \"${{ params.v }}\", query: SELECT 1 }", false),
        ("json: { document: \"${{ params.v }}\", get: /a }", false),
        ("process: { find: { name: \"${{ params.v }}\" } }", true),
        (
            "sqlite: { database: it.db, query: \"SELECT :v AS v\", params: { v: \"${{ params.v }}\" } }, expect: out.row.v == params.v",
            true,
        ),
    ];
    for (step, possible) in cases {
        let folders = Folders::new();
        rusqlite::Connection::open(folders.path("it.db"))
            .and_then(|made| made.execute_batch("CREATE TABLE t (v)"))
            .expect("a database");
        let playbook = format!(
            "name: nul\nparams: {{ v: {{ type: string, default: \"a\\0b\" }} }}\nmonitor:\n  it: {{ {step} }}\n"
        );
        let output = run(&folders, &playbook, &[]);
        let text = said(&output);
        assert!(!text.contains("panicked"), "{step}: {text}");
        assert_eq!(output.status.code() == Some(0), possible, "{step}: {text}");
        assert!(
            possible || ["NUL", "a\\u{0}b", "a\\0b"].iter().any(|words| text.contains(words)),
            "it is named: {step}: {text}"
        );
        assert_eq!(raw(&text), None, "{step}: {text:?}");
        // What is refused before it runs has no report.
        if folders.path("r.json").exists() {
            assert_harmless(&folders, &output);
        }
    }
}

#[test]
fn files_of_hostile_names_are_made_found_and_removed() {
    let playbook = r#"
name: names
vars: { values: '${{ load("values.json") }}' }
prepare:
  made:
    foreach: ${{ vars.values }}
    file: { create: "names/${{ each.value }}", text: "${{ each.value }}" }
monitor:
  there:
    foreach: ${{ vars.values }}
    file: { stat: "${{ steps.made.out[each.key].path }}" }
    expect: out.exists && out.kind == "file"
  digest:
    foreach: ${{ vars.values }}
    hash: { path: "${{ steps.made.out[each.key].path }}" }
    expect: out.sha256 == steps.made.out[each.key].sha256
  copied:
    needs: [there]
    foreach: ${{ vars.values }}
    command: { run: [cat, "--", "names/${{ each.value }}"], reads: true }
  whole:
    needs: [digest]
    hash: { tree: names }
    expect: out.files == size(vars.values)
"#;
    let folders = Folders::new();
    std::fs::create_dir(folders.path("names")).expect("a folder");
    let fits = |value: &String| !value.is_empty() && value.len() < 256 && !value.contains('/');
    let values: Vec<String> = hostile().into_iter().map(|(_, value)| value).filter(fits).collect();
    assert!(values.len() > 20);
    write(&folders, "values.json", json!(values).to_string());
    let output = run(&folders, playbook, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_harmless(&folders, &output);
    let left = std::fs::read_dir(folders.path("names")).expect("the folder").count();
    assert_eq!(left, 0, "all are gone");
}

#[test]
fn names_and_outputs_that_are_no_utf_8_stop_nothing() {
    let folders = Folders::new();
    std::fs::create_dir(folders.path("names")).expect("a folder");
    let name = OsStr::from_bytes(b"caf\xe9 \xff\x1b[31m");
    std::fs::write(folders.path("names").join(name), "x").expect("a file");
    let playbook = r#"
name: bytes
precheck:
  lists:
    command: { shell: "ls names | cat; exit 3", reads: true, ok_codes: [3] }
    expect: has(out.stdout_base64) && out.stdout_bytes == 12
monitor:
  whole: { hash: { tree: names }, expect: out.files == 1 }
  shown:
    command: { run: [printf, "<%s>", "${{ steps.lists.out.stdout }}"], reads: true }
  fails:
    needs: [whole, shown]
    command: { shell: "ls names >&2; cat names/* names/none; exit 1", reads: true }
"#;
    let output = run(&folders, playbook, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("caf\u{fffd}"), "{}", said(&output));
    assert_harmless(&folders, &output);
}

#[test]
fn the_words_of_a_playbook_are_shown_harmless() {
    let evil = r"\e]0;owned\a\u202e\u2028\r<script>alert(1)</script>";
    let playbook = format!(
        "name: \"{evil}\"\ndescription: \"{evil}\"\nprecheck:\n  a:\n    name: \"{evil}\"\n    hint: \"{evil}\"\n    command: {{ run: [\"false\", \"{evil}\"], reads: true }}\n"
    );
    let folders = Folders::new();
    let output = run(&folders, &playbook, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_harmless(&folders, &output);
    for argv in [
        &["check", "test.yaml"][..],
        &["plan", "test.yaml"],
        &["runs"],
        &["run", "test.yaml", "--no-input", "-p", "x\u{1b}[31m=1"],
        &["run", "\u{1b}[31m\u{202e}.yaml"],
    ] {
        let output = folders.run(argv);
        assert!(!said(&output).is_empty(), "{argv:?}");
        assert_eq!(raw(&said(&output)), None, "{argv:?}: {:?}", said(&output));
    }
}

#[test]
fn a_link_put_in_the_place_of_a_file_is_never_followed() {
    // Between the look of the plan and the write, and between the write and the undo.
    let playbook = r#"
name: swapped
prepare:
  swap:
    command: { run: [ln, -s, "${{ run.dir }}/victim", "${{ run.dir }}/target"] }
    undo: { command: { run: [rm, -f, "${{ run.dir }}/target"] } }
  made:
    needs: [swap]
    file: { create: "${{ run.dir }}/target", text: ours }
"#;
    let folders = Folders::new();
    write(&folders, "victim", "theirs");
    let output = run(&folders, playbook, &[]);
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(folders.path("victim")).expect("it is there"), "theirs");
    assert!(std::fs::symlink_metadata(folders.path("target")).is_err(), "the swap itself was undone");

    let playbook = r#"
name: swapped
prepare:
  made: { file: { create: "${{ run.dir }}/target", text: theirs } }
  swap:
    needs: [made]
    command: { shell: "mv target kept; ln -s victim target" }
    undo: { command: { run: ["true"] } }
"#;
    let folders = Folders::new();
    write(&folders, "victim", "theirs");
    let output = run(&folders, playbook, &[]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(folders.path("victim")).expect("it is there"), "theirs");
    let link = std::fs::symlink_metadata(folders.path("target")).expect("it is left");
    assert!(link.is_symlink(), "what is another's is not removed");
    assert!(said(&output).contains("target"), "{}", said(&output));

    // A dangling link is a place to write through, too.
    let folders = Folders::new();
    symlink(folders.path("nowhere"), folders.path("target")).expect("a link");
    let output = run(
        &folders,
        "name: x\nprepare: { made: { file: { create: \"${{ run.dir }}/target\", text: ours } } }\n",
        &[],
    );
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!folders.path("nowhere").exists());
}
