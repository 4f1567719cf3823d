//! The step type `http` against nginx, and against servers that do what no server should.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

mod changes;
mod errors;
mod evil;
mod reads;
mod secrets;

use tests::{
    folders::{Folders, said},
    lab::binaries,
};

/// Where playbooks are run.
struct Stage(Folders);

impl std::ops::Deref for Stage {
    type Target = Folders;

    fn deref(&self) -> &Folders {
        &self.0
    }
}

impl Stage {
    fn new() -> Self {
        Self(Folders::new())
    }

    fn command(&self, program: &Path, argv: &[&str]) -> Command {
        let mut command = self.0.command(program, argv);
        // Nobody listens there: who heeds these reaches nothing.
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env(name, "http://127.0.0.1:9/");
        }
        command.env("COLUMNS", "400");
        command
    }

    fn write(&self, phases: &str) {
        fs::write(self.path("it.yaml"), format!("name: it\n{phases}")).expect("written");
    }

    fn shakedown(&self, argv: &[&str]) -> Output {
        self.command(binaries::shakedown(), argv).output().expect("it starts")
    }

    fn run(&self, phases: &str) -> Output {
        self.write(phases);
        self.shakedown(&["run", "it.yaml", "--no-input"])
    }
}

#[track_caller]
fn assert_code(output: &Output, code: i32) -> String {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// What a step that only reads says when it fails.
#[track_caller]
fn error_of(step: &str) -> String {
    let output = Stage::new().run(&format!("monitor:\n  it:\n    http: {step}\n"));
    assert!(!output.status.success(), "{}", said(&output));
    said(&output)
}

#[track_caller]
fn assert_words(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
}
