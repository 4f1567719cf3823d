//! The question after a refused precheck, in a real terminal; and that nobody is asked without one.

use std::process::Stdio;

use tests::{
    folders::{Folders, said},
    lab::binaries,
    terminal::Terminal,
};

const QUESTION: &str = "[c]ontinue regardless, [q]uit, [r]echeck?";

/// One precheck that fails until `ready` is there, one effect that leaves a mark while it lasts.
const PLAYBOOK: &str = "name: asked
precheck:
  ready:
    command: { run: [test, -e, ready], reads: true }
    hint: touch ready
prepare:
  mark:
    command: { run: [touch, mark] }
    undo:
      command: { run: [rm, mark] }
monitor:
  seen:
    command: { run: [cp, mark, seen], reads: true }
";

fn folders() -> Folders {
    let folders = Folders::new();
    std::fs::write(folders.path("asked.yaml"), PLAYBOOK).expect("a playbook");
    folders
}

/// A run of the playbook in a terminal.
fn terminal(folders: &Folders, more: &[&str], columns: u16) -> Option<Terminal> {
    let mut command = folders.command(binaries::shakedown(), &[&["run", "asked.yaml"], more].concat());
    command.env_remove("NO_COLOR");
    Terminal::start_or_skip(&command, columns)
}

/// Nothing of the run is there; whether it went past its precheck.
fn went_on(folders: &Folders) -> bool {
    assert!(!folders.path("mark").exists(), "the effect was taken back");
    folders.path("seen").exists()
}

#[test]
fn quit_ends_the_run_before_anything_was_changed() {
    let folders = folders();
    let Some(terminal) = terminal(&folders, &[], 100) else { return };
    terminal.until(QUESTION, 1);
    assert!(terminal.text().contains("hint: touch ready"), "{}", terminal.text());
    terminal.enter("q");
    assert_eq!(terminal.end(), 1, "{}", terminal.text());
    assert!(terminal.text().contains("REFUSED asked"), "{}", terminal.text());
    assert!(!went_on(&folders));
}

#[test]
fn continue_goes_on_as_with_force() {
    let folders = folders();
    let Some(terminal) = terminal(&folders, &[], 100) else { return };
    terminal.until(QUESTION, 1);
    terminal.enter("what?");
    terminal.until("type c, q or r", 1);
    terminal.until(QUESTION, 2);
    terminal.enter("Continue");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(went_on(&folders), "{}", terminal.text());
}

#[test]
fn recheck_asks_again_until_the_problem_is_repaired() {
    let folders = folders();
    let Some(terminal) = terminal(&folders, &[], 100) else { return };
    terminal.until(QUESTION, 1);
    terminal.enter("r");
    terminal.until(QUESTION, 2);
    std::fs::write(folders.path("ready"), "").expect("the repair");
    terminal.enter("r");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(went_on(&folders), "{}", terminal.text());
    assert!(terminal.text().contains("PASSED asked"), "{}", terminal.text());
}

#[test]
fn an_interrupt_at_the_question_ends_the_run() {
    let folders = folders();
    let Some(terminal) = terminal(&folders, &[], 100) else { return };
    terminal.until(QUESTION, 1);
    terminal.press("C-c");
    assert_eq!(terminal.end(), 130, "{}", terminal.text());
    assert!(!went_on(&folders));
    let runs = said(&folders.run(&["recover"]));
    assert!(runs.contains("no run has died"), "the run was brought to its end: {runs}");
}

#[test]
fn the_end_of_the_input_is_no() {
    let folders = folders();
    let Some(terminal) = terminal(&folders, &[], 100) else { return };
    terminal.until(QUESTION, 1);
    terminal.press("C-d");
    assert_eq!(terminal.end(), 1, "{}", terminal.text());
    assert!(!went_on(&folders));
}

#[test]
fn a_narrow_terminal_and_one_that_changes_its_width_show_all_of_it() {
    let folders = folders();
    let Some(terminal) = terminal(&folders, &[], 40) else { return };
    terminal.until(QUESTION, 1);
    terminal.resize(30);
    terminal.until(QUESTION, 1);
    terminal.enter("r");
    terminal.until(QUESTION, 2);
    terminal.resize(120);
    terminal.until("hint: touch ready", 2);
    std::fs::write(folders.path("ready"), "").expect("the repair");
    terminal.enter("r");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(went_on(&folders), "{}", terminal.text());
}

#[test]
fn colours_are_for_those_who_want_them() {
    for (name, more, colour) in
        [("TERM", &[][..], true), ("NO_COLOR", &[], false), ("TERM", &["--color", "never"], false)]
    {
        let folders = folders();
        let mut command = folders.command(binaries::shakedown(), &[&["run", "asked.yaml"], more].concat());
        command.env_remove("NO_COLOR");
        if name == "NO_COLOR" {
            command.env(name, "1");
        }
        let Some(terminal) = Terminal::start_or_skip(&command, 100) else { return };
        terminal.until(QUESTION, 1);
        let shown = terminal.raw();
        assert_eq!(shown.contains("\u{1b}[3"), colour, "{name} {more:?}: {shown:?}");
        terminal.enter("q");
        assert_eq!(terminal.end(), 1);
    }
}

#[test]
fn nobody_is_asked_who_said_so() {
    for (more, code) in [(&["--no-input"][..], 1), (&["--force"], 0), (&["--force", "--no-input"], 0)] {
        let folders = folders();
        let Some(terminal) = terminal(&folders, more, 100) else { return };
        assert_eq!(terminal.end(), code, "{more:?}: {}", terminal.text());
        assert!(!terminal.text().contains(QUESTION), "{more:?}: {}", terminal.text());
    }
}

#[test]
fn nobody_is_asked_without_a_terminal_on_both_sides() {
    // Neither is one.
    let folders = folders();
    let output = folders.run(&["run", "asked.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!said(&output).contains(QUESTION), "{}", said(&output));
    // A pipe that would say yes is nobody who was asked.
    let mut command = folders.command(binaries::shakedown(), &["run", "asked.yaml"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    // It may have ended before.
    let _unread = std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"c\n");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    // In a terminal, with one side somewhere else.
    for (redirect, where_to) in [("</dev/null", "text"), ("2>said", "file")] {
        let mut command = folders.command("/bin/sh".as_ref(), &["-c"]);
        command.arg(format!("\"$0\" run asked.yaml {redirect}")).arg(binaries::shakedown());
        let Some(terminal) = Terminal::start_or_skip(&command, 100) else { return };
        assert_eq!(terminal.end(), 1, "{redirect}: {}", terminal.text());
        assert!(!terminal.text().contains(QUESTION), "{redirect}: {}", terminal.text());
        if where_to == "file" {
            let told = std::fs::read_to_string(folders.path("said")).expect("what it said");
            assert!(told.contains("precheck") && !told.contains(QUESTION), "{told}");
        }
    }
    assert!(!went_on(&folders));
}
