//! Plans as a user meets them: what they say, what they keep, and that a run of a kept plan is that plan or nothing.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Output};

use serde_json::Value;
use tests::folders::{Folders, said};

/// A folder with `test.yaml` in it.
fn folders(playbook: &str) -> Folders {
    let folders = Folders::new();
    write(&folders, "test.yaml", playbook);
    folders
}

fn write(folders: &Folders, name: &str, text: &str) {
    std::fs::write(folders.path(name), text).expect("a file");
}

#[track_caller]
fn expect(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    said(output)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

/// One file that lasts, named after the run, and a check that looks at a flag.
const MARK: &str = r#"
name: mark
params: { text: { type: string, default: hello } }
vars:
  config: ${{ load("config.json") }}
  file: ${{ run.dir + "/" + run.id + "." + vars.config.ending }}
precheck:
  flag: { command: { run: [test, "!", -e, "${{ run.dir }}/flag"], reads: true } }
prepare:
  mark: { file: { create: "${{ vars.file }}", text: "${{ params.text }}" }, keep: always }
"#;

fn marks(folders: &Folders) -> Vec<String> {
    let all = std::fs::read_dir(folders.dir.path()).expect("the folder").flatten();
    let mut names: Vec<String> = all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".mark"));
    names.sort();
    names
}

/// A plan as another program would have written it.
fn signed(plan: &Value) -> String {
    let none = "0".repeat(64);
    let mut plan = plan.clone();
    plan["sum"] = none.clone().into();
    let text = plan.to_string();
    text.replacen(&none, &engine::plan::checksum(text.as_bytes()), 1)
}

fn kept() -> Folders {
    let folders = folders(MARK);
    write(&folders, "config.json", r#"{ "ending": "mark", "password": "topsecret" }"#);
    expect(&folders.run(&["plan", "test.yaml", "--out", "a.plan"]), 0);
    folders
}

#[test]
fn the_plan_of_the_quickstart_tells_all_a_person_wants_to_know() {
    let folders = Folders::new();
    let dir = format!("dir={}", folders.dir.path().display());
    let text = expect(&folders.run(&["plan", "quickstart", "-p", &dir]), 0);
    for words in [
        "would pass",
        "undo: remove it, if unchanged",
        "known after media",
        "~ transferred",
        "at most 8 s",
        "- copy",
        "0 without undo",
        "at worst ",
    ] {
        assert!(text.contains(words), "`{words}`: {text}");
    }
    assert!(!text.contains("predicted failure"), "{text}");
    assert_eq!(folders.dir.path().read_dir().expect("the folder").count(), 0, "nothing was made");
}

#[test]
fn a_skipped_step_has_its_reason_and_the_totals_count_it() {
    let folders = folders(
        "name: x\nparams: { deep: { type: bool, default: false } }\nprecheck:\n  a: { when: params.deep && true, disk: { path: / } }\n  b: { disk: { path: / }, timeout: 2s, lock: media }\n",
    );
    let text = expect(&folders.run(&["plan", "test.yaml"]), 0);
    assert!(text.contains("`params.deep && true` is false: params.deep is false"), "{text}");
    assert!(text.contains("2 steps: 1 check, 1 skipped · at worst 2 s · lock media"), "{text}");
    let document = json(&folders.run(&["plan", "test.yaml", "--format", "json"]));
    assert_eq!(document["totals"]["skipped"], 1);
    assert_eq!(document["totals"]["worst_case_ms"], 2_000);
    let reason = document["plan"]["steps"][0]["forecast"]["skipped"].as_str().expect("a reason");
    assert!(reason.contains("params.deep is false"), "{reason}");
}

#[test]
fn a_predicted_failure_of_an_effect_makes_the_exit_code_1() {
    let folders =
        folders("name: x\nprepare: { a: { file: { create: \"${{ run.dir }}/taken\", text: x } } }\n");
    expect(&folders.run(&["plan", "test.yaml"]), 0);
    write(&folders, "taken", "another's");
    let text = expect(&folders.run(&["plan", "test.yaml"]), 1);
    assert!(text.contains("WOULD FAIL  test.yaml:2:12") && text.contains("1 predicted failure"), "{text}");
}

#[test]
fn drawings_are_pure_and_name_every_step() {
    let folders = Folders::new();
    for (form, first) in [("dot", "digraph \"quickstart\" {"), ("mermaid", "---")] {
        let output = folders.run(&["plan", "quickstart", "--no-probe", "--format", form]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(text.lines().next(), Some(first));
        for id in ["? space", "+ home", "+ daemon", "~ transferred", "- copy"] {
            assert!(text.contains(id), "{form}: `{id}`: {text}");
        }
    }
}

#[test]
fn a_kept_plan_is_private_and_replaces_only_a_plan() {
    let folders = kept();
    let mode = folders.path("a.plan").metadata().expect("the plan").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = expect(&folders.run(&["plan", "test.yaml", "--out", "a.plan"]), 0);
    assert!(text.contains("replaced the plan in a.plan"), "{text}");
    write(&folders, "notes", "mine");
    let text = expect(&folders.run(&["plan", "test.yaml", "--out", "notes"]), 3);
    assert!(text.contains("`notes` exists and holds no plan: it is not overwritten"), "{text}");
    assert_eq!(std::fs::read_to_string(folders.path("notes")).expect("the notes"), "mine");
    std::os::unix::fs::symlink("a.plan", folders.path("link")).expect("a link");
    let text = expect(&folders.run(&["plan", "test.yaml", "--out", "link"]), 3);
    assert!(text.contains("`link` is a symbolic link"), "{text}");
    expect(&folders.run(&["plan", "test.yaml", "--out", "no/such/folder.plan"]), 3);
    let left = folders.dir.path().read_dir().expect("the folder").flatten();
    let hidden = left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count();
    assert_eq!(hidden, 0, "no half of a plan is left");
}

#[test]
fn a_kept_plan_runs_again_and_again_each_time_under_names_of_its_own() {
    let folders = kept();
    for times in 1..=2 {
        let text = expect(&folders.run(&["run", "--plan", "a.plan", "--no-input"]), 0);
        assert!(text.contains("planned 2, ran 2"), "{text}");
        assert_eq!(marks(&folders).len(), times, "each run has an id of its own");
    }
    let plan: Value =
        serde_json::from_slice(&std::fs::read(folders.path("a.plan")).expect("the plan")).expect("JSON");
    let report = folders.path("report.json");
    let argv = ["run", "--plan", "a.plan", "--no-input", "--report", "json=report.json"];
    expect(&folders.run(&argv), 0);
    let report: Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON");
    assert_eq!(report["plan_hash"], plan["plan"]["hash"], "it is that plan");
    assert_eq!(report["not_ran"], Value::Array(Vec::new()));
}

#[test]
fn a_kept_plan_runs_from_wherever_the_caller_is() {
    let folders = kept();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let plan = folders.path("a.plan").display().to_string();
    let mut command =
        folders.command(tests::lab::binaries::shakedown(), &["run", "--plan", &plan, "--no-input"]);
    let output = command.current_dir(elsewhere.path()).output().expect("it starts");
    expect(&output, 0);
    assert_eq!(marks(&folders).len(), 1, "paths count from where the plan was made");
}

#[test]
fn drift_stops_a_run_with_the_difference_before_anything_is_changed() {
    type Change = (&'static str, fn(&Folders), &'static [&'static str]);
    let changes: &[Change] = &[
        (
            "the playbook",
            |folders| {
                write(folders, "test.yaml", &MARK.replace("text: \"${{ params.text }}\"", "text: other"))
            },
            &["step `mark` has another `body`"],
        ),
        (
            "a var's formula",
            |folders| write(folders, "test.yaml", &MARK.replace("run.dir + \"/\"", "run.dir + \"/x\"")),
            &["vars.file: "],
        ),
        (
            "a new step",
            |folders| write(folders, "test.yaml", &format!("{MARK}  more: {{ disk: {{ path: / }} }}\n")),
            &["step `more` is new"],
        ),
        (
            "a default",
            |folders| write(folders, "test.yaml", &MARK.replace("default: hello", "default: bye")),
            &[],
        ),
        (
            "a configuration",
            |folders| write(folders, "config.json", r#"{ "ending": "other.mark", "password": "changed" }"#),
            &["vars.config.ending: \"mark\" -> \"other.mark\"", "vars.config.password: another value"],
        ),
        (
            "the world",
            |folders| write(folders, "flag", ""),
            &["step `flag` did not fail then", "and would fail now"],
        ),
        (
            "a missing playbook",
            |folders| std::fs::remove_file(folders.path("test.yaml")).expect("gone"),
            &["test.yaml"],
        ),
    ];
    for (what, change, differences) in changes {
        let folders = kept();
        change(&folders);
        let output = folders.run(&["run", "--plan", "a.plan", "--no-input"]);
        if differences.is_empty() {
            // Its value was fixed in the plan: another default means nothing to it.
            expect(&output, 0);
            continue;
        }
        let text = expect(&output, 3);
        for difference in *differences {
            assert!(text.contains(difference), "{what}: `{difference}`: {text}");
        }
        assert!(!text.contains("topsecret"), "{text}");
        assert_eq!(marks(&folders), Vec::<String>::new(), "{what}: nothing was done");
    }
}

#[test]
fn a_plan_of_another_program_is_refused() {
    let folders = kept();
    let text = std::fs::read_to_string(folders.path("a.plan")).expect("the plan");
    let mut plan: Value = serde_json::from_str(&text).expect("JSON");
    plan["program"] = "0.0.1-other".into();
    write(&folders, "b.plan", &signed(&plan));
    let text = expect(&folders.run(&["run", "--plan", "b.plan"]), 3);
    assert!(text.contains("shakedown: 0.0.1-other -> "), "{text}");
    plan["plan"]["steps"][0]["body"]["kind"] = "teleport".into();
    write(&folders, "b.plan", &signed(&plan));
    let text = expect(&folders.run(&["run", "--plan", "b.plan"]), 3);
    assert!(text.contains("the step type `teleport` does not exist"), "{text}");
    plan["schema_version"] = 99.into();
    write(&folders, "b.plan", &signed(&plan));
    expect(&folders.run(&["run", "--plan", "b.plan"]), 3);
    for not_a_plan in ["", "[]", "{}", "{ \"form\": \"shakedown plan\", \"schema_version\": 1, \"plan\": 1 }"]
    {
        write(&folders, "b.plan", not_a_plan);
        let text = expect(&folders.run(&["run", "--plan", "b.plan"]), 3);
        assert!(text.contains("holds no plan"), "{text}");
    }
    assert_eq!(marks(&folders), Vec::<String>::new());
}

#[test]
fn a_plan_that_was_written_in_is_refused_wherever_that_was() {
    let folders = kept();
    let text = std::fs::read_to_string(folders.path("a.plan")).expect("the plan");
    expect(&folders.run(&["plan", "test.yaml", "--out", "a.plan"]), 0);
    let plan: Value = serde_json::from_str(&text).expect("JSON");
    let mut changed = Vec::new();
    for place in
        ["/totals", "/probed", "/plan/run/id", "/plan/steps/0/description/title", "/plan/steps/0/at/line"]
    {
        let mut other = plan.clone();
        *other.pointer_mut(place).unwrap_or_else(|| panic!("no `{place}`")) = "another".into();
        changed.push(other.to_string());
    }
    // As it is shown, with other blanks, is another text, too.
    changed.push(text.replacen("\n", "", 1));
    for text in changed {
        write(&folders, "b.plan", &text);
        let said = expect(&folders.run(&["run", "--plan", "b.plan"]), 3);
        assert!(said.contains("was changed since it was written"), "{said}");
    }
    assert_eq!(marks(&folders), Vec::<String>::new());
}

#[test]
fn params_and_hosts_cannot_be_given_with_a_plan() {
    let folders = kept();
    for more in [
        &["-p", "text=x"][..],
        &["--params", "p.yaml"],
        &["--hosts", "h.yaml"],
        &["--keep", "never"],
        &["test.yaml"],
    ] {
        let argv = [&["run", "--plan", "a.plan"], more].concat();
        let text = expect(&folders.run(&argv), 3);
        assert!(text.contains("cannot be used with"), "{more:?}: {text}");
    }
    assert_eq!(marks(&folders), Vec::<String>::new());
}

#[test]
fn no_secret_is_in_a_kept_plan() {
    let secret = "geheim-7f3a91c0-媒体";
    let folders = folders(
        "name: x\nsecrets: { token: { env: THE_TOKEN } }\nprecheck:\n  a: { command: { shell: \"echo $T\", env: { T: \"${{ secrets.token }}\" }, reads: true } }\n  b: { command: { shell: \"echo $T >&2; exit 1\", env: { T: \"${{ secrets.token }}\" }, reads: true } }\n",
    );
    let mut command =
        folders.command(tests::lab::binaries::shakedown(), &["plan", "test.yaml", "--out", "a.plan"]);
    let output = command.env("THE_TOKEN", secret).output().expect("it starts");
    let text = expect(&output, 1);
    let file = std::fs::read_to_string(folders.path("a.plan")).expect("the plan");
    assert!(!text.contains(secret) && !file.contains(secret), "{text}\n{file}");
    assert!(file.contains("\"observed\""), "the probes were made: {file}");
}

#[test]
fn a_written_undo_acts_where_its_step_does_and_the_plan_says_so() {
    let folders = folders(
        r#"
name: hosts
hosts: { nas: { ssh: nas.example } }
prepare:
  by_on: { on: nas, command: { run: [touch, /a] }, undo: { command: { run: [rm, /a] } } }
  by_ssh: { ssh: { host: nas, run: [touch, /b] }, undo: { command: { run: [rm, /b] } } }
  each: { foreach: [nas], on: "${{ each.value }}", command: { run: [touch, /c] }, undo: { file: { remove: /c } } }
  here: { on: nas, command: { run: [touch, /d] }, undo: { on: local, command: { run: [rm, /d] } } }
  no_host: { on: nas, command: { run: [touch, /e] }, undo: { tcp: { host: a, port: 1 } } }
"#,
    );
    let plan = expect(&folders.run(&["plan", "test.yaml", "--no-probe"]), 0);
    for (id, undo) in [
        ("by_on", "its written undo, command on nas"),
        ("by_ssh", "its written undo, command on nas"),
        ("each", "its written undo, file on ${{ each.value }}"),
        ("here", "its written undo, command"),
        ("no_host", "its written undo, tcp"),
    ] {
        let line =
            plan.lines().find(|line| line.trim_start().starts_with(&format!("+ {id}"))).expect("a line");
        assert!(line.trim_end().ends_with(undo), "{line}");
    }
}

#[test]
fn what_was_planned_and_what_ran_is_told_with_the_reason() {
    let folders = folders(
        r#"
name: x
precheck: { a: { command: { run: ["true"], reads: true } } }
prepare:
  b: { command: { run: ["false"], reads: true } }
  c: { needs: [b], command: { run: ["true"], reads: true } }
  d: { when: "steps.a.out.code == 1", command: { run: ["true"], reads: true } }
monitor: { e: { command: { run: ["true"], reads: true } } }
"#,
    );
    // One at a time, so that `d` is passed over before `b` fails.
    let argv = ["run", "test.yaml", "--no-input", "--report", "json=r.json"];
    let text = expect(&folders.run(&argv), 2);
    let report: Value =
        serde_json::from_slice(&std::fs::read(folders.path("r.json")).expect("a report")).expect("JSON");
    let counts = &report["counts"];
    assert_eq!(counts["planned"], 5, "{text}");
    let not_ran: Vec<&Value> = report["not_ran"].as_array().expect("a list").iter().collect();
    let told: usize = not_ran.iter().map(|of| of["steps"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(counts["ran"].as_u64(), Some(5 - told as u64), "each step that did not run has a reason");
    assert!(not_ran.iter().all(|of| !of["why"].as_str().unwrap_or_default().is_empty()), "{report}");
    assert!(text.contains("it needs `b`, which failed"), "{text}");
    assert!(text.contains(&format!("planned 5, ran {}", counts["ran"])), "{text}");
    assert!(Path::new(&folders.path("r.json")).exists());
}

#[test]
fn a_program_that_asked_for_json_is_told_the_mistakes_in_json() {
    let cases = [
        ("name: x\nprecheck: { a: { dsk: { path: / } } }\n", "dsk"),
        (
            "name: x\nprecheck: { a: { disk: { path: \"${{ params.p }}\" } } }\nparams: { p: { type: string } }\n",
            "`p`",
        ),
        (
            "name: x\nvars: { v: \"${{ load('none.json') }}\" }\nprecheck: { a: { when: vars.v == 1, disk: { path: / } } }\n",
            "none.json",
        ),
    ];
    for (playbook, expected) in cases {
        let folders = folders(playbook);
        let output = folders.run(&["plan", "test.yaml", "--format", "json"]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let found = json(&output);
        assert_eq!(found[0]["severity"], "error", "{found}");
        assert!(found[0]["message"].as_str().is_some_and(|words| words.contains(expected)), "{found}");
    }
    let output = Folders::new().run(&["plan", "none.yaml", "--format", "json"]);
    assert_eq!((output.status.code(), json(&output)[0]["severity"].as_str()), (Some(3), Some("error")));
}
