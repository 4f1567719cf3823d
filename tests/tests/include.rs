//! Reuse: fragments with params, defaults, lists of maps; and that every mistake names its own file.

use std::process::Output;

use serde_json::Value;
use tests::{
    folders::{Folders, said},
    lab::{CONFIG, DAEMON, binaries, lab_or_skip},
};

/// A folder with these files.
fn folders(files: &[(&str, &str)]) -> Folders {
    let folders = Folders::new();
    for (name, text) in files {
        let path = folders.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    folders
}

#[track_caller]
fn expect(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    said(output)
}

/// The ids of the steps of a plan, and the plan.
fn planned(folders: &Folders) -> (Vec<String>, Value) {
    let output = folders.run(&["plan", "main.yaml", "--no-probe", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let plan = document["plan"].clone();
    let steps = plan["steps"].as_array().expect("steps");
    (steps.iter().map(|step| step["id"].as_str().unwrap_or_default().to_owned()).collect(), plan)
}

const GREET: &str = r#"
name: greet
description: Says a name twice.
params:
  who: { type: string }
  times: { type: int, default: 2 }
vars: { words: "${{ params.who + ' x' + string(params.times) }}" }
steps:
  say: { command: { run: [echo, "${{ vars.words }}"], reads: true } }
  check:
    command: { run: [echo, "${{ steps.say.out.stdout }}"], reads: true }
    expect: out.stdout == params.who + " x" + string(params.times)
    hint: ask ${{ params.who }} about ${{ steps.say.out.stdout }}
"#;

#[test]
fn the_steps_of_a_fragment_stand_in_the_place_of_its_entry_with_its_own_names() {
    let main = r#"
name: main
params: { who: { type: string, default: 媒体 } }
precheck:
  before: { disk: { path: / } }
  first:
    include: parts/greet.yaml
    with: { who: "${{ params.who }}" }
    needs: [before]
  second:
    include: parts/greet.yaml
    with: { who: b, times: 3 }
  after:
    needs: [first]
    command: { run: [echo, "${{ steps.second_say.out.stdout }}"], reads: true }
    expect: out.stdout == "b x3" && steps.first_check.out.stdout == params.who + " x2"
"#;
    let folders = folders(&[("main.yaml", main), ("parts/greet.yaml", GREET)]);
    let (ids, plan) = planned(&folders);
    assert_eq!(ids, ["before", "first_say", "first_check", "second_say", "second_check", "after"]);
    let needs = |id: &str| -> Vec<&str> {
        let step =
            plan["steps"].as_array().expect("steps").iter().find(|step| step["id"] == id).expect("the step");
        step["needs"]
            .as_array()
            .expect("needs")
            .iter()
            .filter_map(|n| ids.get(n.as_u64()? as usize))
            .map(String::as_str)
            .collect()
    };
    assert_eq!(needs("first_say"), ["before"], "the steps of an include need what its entry needs");
    assert_eq!(needs("first_check"), ["before", "first_say"]);
    assert_eq!(needs("second_say"), [] as [&str; 0]);
    assert_eq!(
        needs("after"),
        ["first_say", "first_check", "second_say"],
        "who needs an include needs all of it"
    );
    let text = expect(&folders.run(&["run", "main.yaml", "--no-input"]), 0);
    assert!(text.contains("planned 6, ran 6"), "{text}");
}

#[test]
fn a_failure_in_a_fragment_names_the_fragments_file_and_renders_its_hint() {
    let main = "name: main\nprecheck:\n  it: { include: greet.yaml, with: { who: a } }\n";
    let wrong = GREET.replace("params.who + \" x\"", "params.who + \" y\"");
    let folders = folders(&[("main.yaml", main), ("greet.yaml", &wrong)]);
    for argv in [&["run", "main.yaml", "--no-input"][..], &["plan", "main.yaml"]] {
        let text = expect(&folders.run(argv), 1);
        assert!(text.contains("greet.yaml:10:3"), "{text}");
        assert!(text.contains("hint: ask a about a x2") || text.contains("hint: ask a about ${{"), "{text}");
    }
}

#[test]
fn a_mistake_in_a_fragment_is_shown_in_its_own_file_with_a_caret() {
    let main = "name: main\nprecheck:\n  it:\n    include: parts/bad.yaml\n    with: { who: a }\n";
    let bad = "name: bad\nparams: { who: { type: string } }\nsteps:\n  one: { disc: { path: / } }\n  two: { disk: { path: \"${{ params.wo }}\" } }\n  three: { needs: [on], disk: { path: / }, expect: steps.fuor.out.free > 0 }\n";
    let folders = folders(&[("main.yaml", main), ("parts/bad.yaml", bad)]);
    let output = folders.run(&["check", "main.yaml"]);
    insta::assert_snapshot!("mistakes_in_a_fragment", expect(&output, 3));
    let output = folders.run(&["check", "main.yaml", "--format", "json"]);
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    for (found, line) in list.iter().filter(|found| found["severity"] == "error").zip([4, 5, 6, 6]) {
        assert_eq!((&found["file"], &found["line"]), (&"parts/bad.yaml".into(), &line.into()));
    }
}

#[test]
fn what_is_wrong_with_an_include_is_told_at_the_entry() {
    let main = r#"
name: main
params: { n: { type: int, default: 1 } }
precheck:
  unknown: { include: greet.yaml, with: { who: a, tmies: 3 } }
  missing: { include: greet.yaml }
  wrong: { include: greet.yaml, with: { who: a, times: often } }
  nowhere: { include: no/such.yaml }
  nobody: { include: bundled:daemn, with: {} }
  forgot: { include: daemon }
  dynamic: { include: "${{ params.n }}" }
  never: { include: greet.yaml, with: { who: a }, when: params.n == 1, timeout: 3s, disk: { path: / } }
  each: { include: greet.yaml, with: { who: "${{ steps.never.out }}" }, foreach: [1] }
  whole: { disk: { path: / }, expect: steps.unknown.out.free > 0 }
  unknown_say: { disk: { path: / } }
"#;
    let folders = folders(&[("main.yaml", main), ("greet.yaml", GREET)]);
    insta::assert_snapshot!("mistakes_of_includes", expect(&folders.run(&["check", "main.yaml"]), 3));
}

#[test]
fn fragments_that_include_each_other_are_found_with_their_places() {
    let main = "name: main\nprecheck: { x: { include: a/one.yaml } }\n";
    let one = "steps: { y: { include: ../b/two.yaml } }\n";
    let two = "steps:\n  z: { include: ../a/./one.yaml }\n";
    let folders = folders(&[("main.yaml", main), ("a/one.yaml", one), ("b/two.yaml", two)]);
    let text = expect(&folders.run(&["check", "main.yaml"]), 3);
    assert!(
        text.contains("these files include each other: a/one.yaml -> b/two.yaml -> a/one.yaml"),
        "{text}"
    );
    assert!(text.contains("b/two.yaml:2:17"), "the place that closes the circle: {text}");
    assert!(text.contains("a/one.yaml:1:24"), "the other places: {text}");
    let selfish = self::folders(&[("main.yaml", "name: main\nprecheck: { x: { include: main.yaml } }\n")]);
    let text = expect(&selfish.run(&["check", "main.yaml"]), 3);
    assert!(text.contains("include each other: main.yaml -> main.yaml"), "{text}");
    let text = expect(&folders.run(&["check", "b/two.yaml"]), 3);
    assert!(text.contains("a fragment has `steps`"), "a fragment is no playbook: {text}");
}

#[test]
fn includes_have_limits_and_end_at_once() {
    // Each of eight texts includes the next one ten times: a hundred million steps, if nobody counted.
    let main = "name: main\nprecheck: { x: { include: f0.yaml } }\n".to_owned();
    let mut files = vec![("main.yaml".to_owned(), main)];
    for i in 0..9 {
        let entries: Vec<String> =
            (0..10).map(|n| format!("  s{n}: {{ include: f{}.yaml }}\n", i + 1)).collect();
        files.push((format!("f{i}.yaml"), format!("steps:\n{}", entries.concat())));
    }
    files.push(("f9.yaml".into(), "steps: { d: { disk: { path: / } } }\n".into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let text = expect(&folders(&files).run(&["check", "main.yaml"]), 3);
    assert!(text.contains("fragments include each other more than 8 deep"), "{text}");
    assert_eq!(text.matches("error[").count(), 1, "it is told once: {text}");
}

#[test]
fn a_fragment_of_a_fragment_gets_its_values_from_it() {
    let main = "name: main\nprecheck:\n  out: { include: outer.yaml, with: { name: deep } }\n  last: { needs: [out], disk: { path: / } }\n";
    let outer = "params: { name: { type: string } }\nvars: { full: \"${{ params.name + '!' }}\" }\nsteps:\n  in: { include: greet.yaml, with: { who: \"${{ vars.full }}\" }, needs: [root] }\n  root: { disk: { path: / } }\n";
    let folders = folders(&[("main.yaml", main), ("outer.yaml", outer), ("greet.yaml", GREET)]);
    let (ids, plan) = planned(&folders);
    assert_eq!(ids, ["out_in_say", "out_in_check", "out_root", "last"]);
    assert_eq!(plan["includes"]["out_in"]["vars"]["words"], "deep! x2");
    assert_eq!(plan["steps"][3]["needs"].as_array().map(Vec::len), Some(3), "it needs all, however deep");
    expect(&folders.run(&["run", "main.yaml", "--no-input"]), 0);
}

#[test]
fn a_changed_fragment_is_a_change_of_the_plan() {
    let main = "name: main\nprecheck:\n  it: { include: greet.yaml, with: { who: a } }\n";
    let folders = folders(&[("main.yaml", main), ("greet.yaml", GREET)]);
    expect(&folders.run(&["plan", "main.yaml", "--out", "it.plan"]), 0);
    std::fs::write(folders.path("greet.yaml"), GREET.replace("default: 2", "default: 5")).expect("a change");
    let text = expect(&folders.run(&["run", "--plan", "it.plan"]), 3);
    assert!(text.contains("it: params.times: 2 -> 5") && text.contains("it: vars.words: "), "{text}");
}

#[test]
fn effects_of_a_fragment_are_undone_and_a_precheck_takes_none() {
    let fragment = "params: { name: { type: string } }\nsteps:\n  made: { file: { create: \"${{ run.dir }}/${{ params.name }}\", text: x } }\n  seen: { hash: { path: \"${{ steps.made.out.path }}\" } }\n";
    let main = |phase: &str| {
        format!("name: main\n{phase}: {{ it: {{ include: f.yaml, with: {{ name: made-here }} }} }}\n")
    };
    let folders = folders(&[("main.yaml", &main("prepare")), ("f.yaml", fragment)]);
    let text = expect(&folders.run(&["run", "main.yaml", "--no-input"]), 0);
    assert!(text.contains("undone 1 of 1") && !folders.path("made-here").exists(), "{text}");
    std::fs::write(folders.path("main.yaml"), main("precheck")).expect("a file");
    let text = expect(&folders.run(&["check", "main.yaml"]), 3);
    assert!(text.contains("`made` changes something, and `precheck` may only read"), "{text}");
    assert!(text.contains("f.yaml:3:3"), "{text}");
}

#[test]
fn an_include_on_a_group_runs_on_each_of_its_hosts() {
    let main = "name: main\nhosts: { a: { ssh: a }, b: { ssh: b } }\ngroups: { all_two: [a, b] }\nprecheck:\n  box: { include: bundled:host, on: all_two }\n  one: { include: bundled:host, on: a, with: { path: /data } }\n";
    let folders = folders(&[("main.yaml", main)]);
    let (ids, plan) = planned(&folders);
    assert_eq!(ids[..2], ["box_answers[a]", "box_answers[b]"]);
    assert!(ids.contains(&"one_load".to_owned()));
    let hosts: Vec<&Value> =
        plan["steps"].as_array().expect("steps").iter().map(|step| &step["body"]["on"]["literal"]).collect();
    assert!(hosts.iter().all(|host| **host == "a" || **host == "b"), "{hosts:?}");
}

#[test]
fn defaults_fill_what_a_step_does_not_say() {
    let main = r#"
name: main
defaults:
  timeout: 20s
  retry: { attempts: 2, delay: 1s, jitter: 0 }
  precheck: { timeout: 3s }
  command: { ok_codes: [0, 1] }
  disk: { min_free: 1B }
precheck:
  short: { command: { run: ["false"], reads: true } }
  own: { timeout: 1s, command: { run: ["true"], reads: true, ok_codes: [0] }, retry: { attempts: 1 } }
prepare:
  long: { disk: { path: / } }
  waits: { wait: { until: { disk: { path: / } }, succeed_when: out.free > 0 } }
"#;
    let folders = folders(&[("main.yaml", main)]);
    let (_, plan) = planned(&folders);
    let of = |i: usize, pointer: &str| plan["steps"][i].pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(
        [of(0, "/timeout"), of(1, "/timeout"), of(2, "/timeout")],
        ["3000ms", "1000ms", "20000ms"].map(Value::from)
    );
    assert_eq!([of(0, "/retry/attempts"), of(1, "/retry/attempts")], [2, 1].map(Value::from));
    let params = plan["steps"].to_string();
    assert!(params.contains("\"min_free\":\"1B\""), "{params}");
    assert_eq!(params.matches("\"min_free\":\"1B\"").count(), 2, "also inside of a wait: {params}");
    let text = expect(&folders.run(&["run", "main.yaml", "--no-input"]), 0);
    assert!(text.contains("planned 4, ran 4"), "`false` may end with 1 by default: {text}");
}

#[test]
fn mistakes_in_defaults_are_told_once_at_their_place() {
    let main = "name: main\ndefaults:\n  timout: 3s\n  retry: { attempts: 0 }\n  keep: never\n  monitor: { when: x, timeout: 3s }\n  disk: 3\n  command: { rnu: [a] }\n  sqlite: { database: x }\nprecheck:\n  a: { command: { run: [a], reads: true } }\n  b: { command: { run: [b], reads: true } }\n";
    let folders = folders(&[("main.yaml", main)]);
    insta::assert_snapshot!("mistakes_in_defaults", expect(&folders.run(&["check", "main.yaml"]), 3));
}

#[test]
fn foreach_goes_over_a_list_of_maps() {
    let main = r#"
name: main
params:
  units: { type: list, default: [{ name: a, size: 1B }, { name: "媒体", size: 2B }] }
prepare:
  made:
    foreach: ${{ params.units }}
    as: unit
    file: { create: "${{ run.dir }}/${{ unit.name }}.bin", size: "${{ unit.size }}" }
    expect: out.size == each.key + 1
  also:
    foreach: [{ x: 1, deep: { y: [2] } }]
    command: { run: [echo, "${{ each.value.x + each.value.deep.y[0] }}"], reads: true }
    expect: out.stdout == "3"
"#;
    let folders = folders(&[("main.yaml", main)]);
    let text = expect(&folders.run(&["run", "main.yaml", "--no-input"]), 0);
    assert!(text.contains("planned 3, ran 3") && text.contains("undone 2 of 2"), "{text}");
    let text = expect(&folders.run(&["plan", "main.yaml"]), 0);
    assert!(text.contains("made[0]") && text.contains("/媒体.bin"), "{text}");
}

#[test]
fn the_bundled_fragments_are_listed_printed_and_valid() {
    let folders = Folders::new();
    let listed = expect(&folders.run(&["playbooks"]), 0);
    for name in ["daemon", "database", "host"] {
        let line = listed.lines().find(|line| line.starts_with(&format!("bundled:{name} "))).expect("a line");
        assert!(line.len() > 30, "with its description: {line}");
        let text = expect(&folders.run(&["playbooks", "show", &format!("bundled:{name}")]), 0);
        assert!(text.contains("\nsteps:\n"), "{text}");
    }
    let main = "name: main\nhosts: { nas: { ssh: nas } }\nprecheck:\n  d: { include: bundled:daemon, with: { unit: media-sync-daemon } }\n  b: { include: bundled:database, with: { path: m.db, table: t, columns: [id] } }\n  h: { include: bundled:host, on: nas }\n";
    std::fs::write(folders.path("main.yaml"), main).expect("a file");
    let text = expect(&folders.run(&["check", "main.yaml", "--strict"]), 0);
    assert!(text.contains("valid, 9 steps"), "{text}");
}

#[test]
fn the_database_and_the_host_of_this_machine_pass_their_fragments_and_problems_are_named() {
    let folders = Folders::new();
    let database = folders.path("m.db");
    let connection = rusqlite::Connection::open(&database).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);")
        .expect("a table");
    let main = |columns: &str| {
        format!(
            "name: main\nprecheck:\n  b: {{ include: bundled:database, with: {{ path: m.db, table: t, columns: {columns}, min_free: 1B }} }}\n  h: {{ include: bundled:host, with: {{ min_free: 1B, max_load_per_core: 100000 }} }}\n"
        )
    };
    std::fs::write(folders.path("main.yaml"), main("[id, name]")).expect("a file");
    for argv in [&["plan", "main.yaml"][..], &["run", "main.yaml", "--no-input"]] {
        let text = expect(&folders.run(argv), 0);
        assert!(!text.contains("WOULD FAIL"), "{text}");
    }
    std::fs::write(folders.path("main.yaml"), main("[id, nmae]")).expect("a file");
    let text = expect(&folders.run(&["run", "main.yaml", "--no-input"]), 1);
    assert!(text.contains("has no column `nmae`") && text.contains("did you mean `name`?"), "{text}");
    assert!(text.contains("bundled:database:"), "the place is in the fragment: {text}");
}

#[test]
fn on_a_real_system_all_three_fragments_pass_and_a_stopped_daemon_is_refused() {
    let lab = lab_or_skip!();
    lab.edge().install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    let main = format!(
        r#"
name: fragments
params: {{ config: {{ type: path, default: {CONFIG} }} }}
vars: {{ cfg: "${{{{ load(params.config) }}}}" }}
hosts: {{ nas: {{ ssh: "${{{{ vars.cfg.nas_settings.ssh_alias }}}}" }} }}
precheck:
  daemon: {{ include: bundled:daemon, with: {{ unit: {DAEMON}, quiet_for: 1s }} }}
  database: {{ include: bundled:database, with: {{ path: "${{{{ vars.cfg.database.path }}}}", table: media_transfer_status, columns: [file_hash] }} }}
  nas: {{ include: bundled:host, on: nas, with: {{ min_free: 1MiB, max_load_per_core: 1000 }} }}
  here: {{ include: bundled:host, needs: [nas, database, daemon], with: {{ min_free: 1MiB, max_load_per_core: 1000 }} }}
"#
    );
    lab.edge().write("/root/fragments.yaml", main);
    for argv in [
        &["shakedown", "plan", "/root/fragments.yaml"][..],
        &["shakedown", "run", "/root/fragments.yaml", "--no-input"],
    ] {
        let output = lab.edge().run(argv);
        assert_eq!(output.status.code(), Some(0), "{output}");
    }
    lab.stop_daemon();
    let output = lab.edge().run(["shakedown", "run", "/root/fragments.yaml", "--no-input"]);
    assert_eq!(output.status.code(), Some(1), "{output}");
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("daemon_active") && said.contains(&format!("restart {DAEMON}")), "{output}");
}
