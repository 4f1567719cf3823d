//! Nobody reads what a run tells: it goes on, undoes what it did, and ends. What could not be told is told as such, and is in the
//! history.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};
use tests::{
    folders::{Folders, said},
    lab::binaries,
};

/// More lines than a pipe holds.
const STEPS: usize = 600;

fn many() -> Folders {
    let folders = Folders::new();
    let items = (0..STEPS).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    let playbook = format!(
        "name: many\nprepare: {{ made: {{ file: {{ create: made.txt, text: x }} }} }}\nmonitor: {{ looks: {{ foreach: [{items}], file: {{ stat: made.txt }} }} }}\n"
    );
    std::fs::write(folders.path("it.yaml"), playbook).expect("a file");
    folders
}

/// Ends by itself. A watchdog would end it in another way.
fn ends(mut child: Child, folders: &Folders) -> ExitStatus {
    let status = child.wait().expect("it ends");
    assert!(!folders.path("made.txt").exists(), "it is undone");
    let mut rest = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut rest).expect("a text");
        assert!(rest.contains("left 0") && rest.contains("not all that was told was read"), "{rest}");
    }
    status
}

/// The program, ended after a while if it hangs.
fn watched(folders: &Folders, argv: &[&str]) -> Command {
    let program = binaries::shakedown().display().to_string();
    let words =
        [&["--foreground", "--signal=KILL", "300", &program, "run", "it.yaml", "--no-input"], argv].concat();
    folders.command(Path::new("timeout"), &words)
}

#[test]
fn lines_that_nobody_reads() {
    let folders = many();
    let child = watched(&folders, &[]).spawn().expect("it starts");
    assert_eq!(ends(child, &folders).code(), Some(0));
}

#[test]
fn neither_lines_nor_the_end_are_read() {
    let folders = many();
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = watched(&folders, &["--verbose"]);
    command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    let child = command.spawn().expect("it starts");
    drop(command);
    // It passed, and could not say so.
    assert_eq!(ends(child, &folders).code(), Some(5));
    let runs = folders.run(&["runs"]);
    assert!(said(&runs).contains("passed"), "{}", said(&runs));
}

#[test]
fn events_that_nobody_reads() {
    let folders = many();
    assert!(Command::new("mkfifo").arg(folders.path("events")).status().expect("it starts").success());
    let mut reader = {
        // Opened for both, so that nobody has to wait.
        let pipe = File::options().read(true).write(true).open(folders.path("events")).expect("a pipe");
        Command::new("sleep").arg("1000").stdin(pipe).spawn().expect("it starts")
    };
    let output = watched(&folders, &["--events", "events"]).output().expect("it starts");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("no more events in `events`: nobody has read it for 30 s"), "{text}");
    reader.kill().expect("it works");
    reader.wait().expect("it ends");
    let output = watched(&folders, &["--events", "events"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("it is a pipe that nobody reads"), "{}", said(&output));
}

#[test]
fn a_full_device_is_told_by_the_exit_code_unless_the_run_failed() {
    let folders = many();
    let full = || File::options().write(true).open("/dev/full").expect("it is there");
    let status = watched(&folders, &[]).stdout(full()).stderr(Stdio::null()).status();
    assert_eq!(status.expect("it starts").code(), Some(5));
    let failing = "name: x\nmonitor: { a: { command: { run: [\"false\"], reads: true } } }\n";
    std::fs::write(folders.path("it.yaml"), failing).expect("a file");
    let status = watched(&folders, &[]).stdout(full()).stderr(full()).status();
    assert_eq!(status.expect("it starts").code(), Some(2));
}
