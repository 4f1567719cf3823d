//! What the command line tells of itself: help, topics, tips, completions and man pages.

use std::process::{Command, Output};

use tests::folders::{Folders, said};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_command_has_help_with_an_example_on_stdout() {
    let folders = Folders::new();
    let commands = [
        "run",
        "plan",
        "check",
        "playbooks",
        "new",
        "steps",
        "schema",
        "runs",
        "recover",
        "resume",
        "completions",
        "man",
        "help",
    ];
    for command in commands {
        for argv in [&[command, "--help"][..], &["help", command]] {
            let output = folders.run(argv);
            assert_eq!(output.status.code(), Some(0), "{argv:?}");
            assert!(
                out(&output).contains(&format!("\n  shakedown {command}")),
                "{argv:?}: {}",
                said(&output)
            );
            assert!(output.stderr.is_empty(), "{argv:?}: {}", said(&output));
        }
    }
    let listed = out(&folders.run(&["--help"]));
    assert!(commands.iter().all(|command| listed.contains(&format!("\n  {command} "))), "{listed}");
}

#[test]
fn topics_are_the_documentation() {
    let folders = Folders::new();
    let listed = out(&folders.run(&["help"]));
    for topic in ["guide", "language", "recipes", "moving", "troubleshooting", "guarantees"] {
        assert!(listed.contains(&format!("\n  {topic} ")), "{listed}");
        let file = format!("{}/../docs/{topic}.md", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(out(&folders.run(&["help", topic])), std::fs::read_to_string(file).expect("the page"));
    }
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    let folders = Folders::new();
    std::fs::write(folders.path("mine.yaml"), "name: x\n").expect("a playbook");
    for (argv, tip) in [
        (&["chek", "x"][..], "'check'"),
        (&["run", "--parm", "a=b", "x"], "'--param'"),
        (&["help", "langauge"], "`language`"),
        (&["steps", "sqlit"], "`sqlite`"),
        (&["playbooks", "show", "quickstrat"], "`quickstart`"),
        (&["quickstart"], "shakedown run quickstart"),
        (&["mine.yaml"], "shakedown run mine.yaml"),
        (&[], "Usage: shakedown"),
    ] {
        let output = folders.run(argv);
        assert_eq!(output.status.code(), Some(3), "{argv:?}: {}", said(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains(tip), "{argv:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "stdout is for what was asked: {argv:?}: {}", said(&output));
    }
}

#[test]
fn bash_completes_commands_playbooks_and_step_types() {
    let folders = Folders::new();
    let script = folders.run(&["completions", "bash"]);
    assert_eq!(script.status.code(), Some(0), "{}", said(&script));
    std::fs::write(folders.path("completions"), &script.stdout).expect("the script");
    for (words, offered) in [
        ("shakedown pl", "playbooks"),
        ("shakedown run quick", "quickstart"),
        ("shakedown plan med", "media-sync-diagnostics"),
        ("shakedown steps sq", "sqlite"),
        ("shakedown playbooks show host", "host-health"),
        ("shakedown run quickstart --no", "--no-input"),
    ] {
        let ask = format!(
            "set -eu; source ./completions; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _shakedown shakedown \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = folders.command("bash".as_ref(), &["--norc", "-c", &ask]).output().expect("bash");
        assert!(out(&output).lines().any(|line| line == offered), "{words}: {}", said(&output));
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = folders.run(&["completions", shell]);
        assert!(out(&script).contains("quickstart"), "{shell}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a CI script counts these lines")]
fn man_pages_are_written_and_can_be_read() {
    let folders = Folders::new();
    let written = folders.run(&["man", "--dir", "man"]);
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    for page in ["shakedown", "shakedown-run", "shakedown-runs-show"] {
        let text = std::fs::read_to_string(folders.path(&format!("man/{page}.1"))).expect("a page");
        assert!(text.contains(".TH ") && text.contains(".SH EXAMPLE"), "{page}: {text}");
    }
    assert!(!folders.path("man/shakedown-stand-in.1").exists(), "what is hidden has no page");
    assert_eq!(
        folders.run(&["man", "run"]).stdout,
        std::fs::read(folders.path("man/shakedown-run.1")).expect("a page")
    );
    if !Command::new("man").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED lab test: no man");
        return;
    }
    let mut man = folders.command("man".as_ref(), &["--warnings", "-l", "man/shakedown-run.1"]);
    let shown = man.env("MANWIDTH", "100").env("MAN_KEEP_FORMATTING", "").output().expect("man");
    assert!(shown.stderr.is_empty(), "{}", said(&shown));
    assert!(out(&shown).contains("\n         shakedown run quickstart\n"), "{}", said(&shown));
}

#[test]
fn lists_are_pure_and_tell_what_can_be_set() {
    let folders = Folders::new();
    let listed = folders.run(&["playbooks"]);
    assert!(out(&listed).contains("params: size=256KiB"), "{}", said(&listed));
    assert!(!out(&listed).contains("shakedown playbooks show"), "tips go to stderr: {}", said(&listed));
    let kinds = out(&folders.run(&["steps"]));
    let registry = steps::builtin();
    assert_eq!(kinds.lines().count(), registry.iter().count(), "{kinds}");
    for step in registry.iter() {
        let told = out(&folders.run(&["steps", step.kind()]));
        for (title, schema) in [("params", step.params_schema()), ("output", step.output_schema())] {
            assert!(told.contains(&format!("\n{title}\n")), "{told}");
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            assert!(
                properties.keys().all(|key| told.contains(&format!("\n  {key} "))),
                "{}: {told}",
                step.kind()
            );
        }
        assert!(told.contains("\nexample\n") && told.contains("\nerrors\n"), "{told}");
    }
}

#[test]
fn warnings_are_told_and_refused_only_when_asked() {
    let folders = Folders::new();
    let text = "name: x\nprepare:\n  a:\n    command: { run: [touch, x] }\n";
    std::fs::write(folders.path("mine.yaml"), text).expect("a playbook");
    let told = folders.run(&["check", "mine.yaml"]);
    assert_eq!(told.status.code(), Some(0), "{}", said(&told));
    assert!(out(&told).contains("warning[no-undo]"), "{}", said(&told));
    let refused = folders.run(&["check", "--strict", "mine.yaml"]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    let excused = text.replace("  a:", "  # shakedown: allow no-undo: it may stay\n  a:");
    std::fs::write(folders.path("mine.yaml"), excused).expect("a playbook");
    let accepted = folders.run(&["check", "--strict", "mine.yaml"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", said(&accepted));
    // They are for who writes the playbook, not for who runs it.
    let ran = folders.run(&["run", "mine.yaml"]);
    assert!(!said(&ran).contains("no-undo"), "{}", said(&ran));
}
