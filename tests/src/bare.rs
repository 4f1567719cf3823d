//! Playbooks that are run on the bare machine, one after the other, in folders of their own.

use crate::{
    folders::{Folders, said},
    lab::{binaries, until},
};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Output},
};

/// Where playbooks are run.
#[derive(Debug)]
pub struct Bare {
    folders: Folders,
    env: Vec<(&'static str, &'static str)>,
}

impl std::ops::Deref for Bare {
    type Target = Folders;

    fn deref(&self) -> &Folders {
        &self.folders
    }
}

impl Bare {
    /// An empty place.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes folders")]
    pub fn new() -> Self {
        Self::with([])
    }

    /// An empty place with variables for what is started in it.
    #[must_use]
    pub fn with(env: impl Into<Vec<(&'static str, &'static str)>>) -> Self {
        Self { folders: Folders::new(), env: env.into() }
    }

    /// A program in this place, with a wide terminal.
    #[must_use]
    pub fn command(&self, program: &Path, argv: &[&str]) -> Command {
        let mut command = self.folders.command(program, argv);
        command.env("COLUMNS", "400").envs(self.env.iter().copied());
        command
    }

    /// Writes the playbook `it.yaml`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, phases: &str) {
        fs::write(self.path("it.yaml"), format!("name: it\n{phases}")).expect("written");
    }

    /// Runs `shakedown` to its end.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn shakedown(&self, argv: &[&str]) -> Output {
        self.command(binaries::shakedown(), argv).output().expect("it starts")
    }

    /// Writes the playbook and runs it.
    #[must_use]
    pub fn run(&self, phases: &str) -> Output {
        self.write(phases);
        self.shakedown(&["run", "it.yaml"])
    }

    /// As [`Bare::run`]; the test goes on beside it.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn begin(&self, phases: &str) -> Child {
        self.write(phases);
        self.command(binaries::shakedown(), &["run", "it.yaml"]).spawn().expect("it starts")
    }

    /// As [`Bare::run`], with something going wrong on purpose.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn run_with(&self, faults: &str, phases: &str) -> Output {
        self.write(phases);
        let mut command = self.command(binaries::shakedown_with_faults(), &["run", "it.yaml"]);
        command.env("SHAKEDOWN_FAULTS", faults).output().expect("it starts")
    }

    /// Runs it, lets another do something while it waits, and gives what came out. The phases must hold no `monitor`.
    ///
    /// # Panics
    /// It does not start, or is never ready.
    #[must_use]
    pub fn run_while(&self, phases: &str, ready: impl FnMut() -> bool, meanwhile: impl FnOnce()) -> Output {
        let wait = "monitor: { waits: { wait: { until: { file: { stat: go } }, succeed_when: out.exists, every: 20ms } } }";
        // From another run in the same place.
        let _none = fs::remove_file(self.path("go"));
        let child = self.begin(&format!("{phases}\n{wait}\n"));
        until("the step has done its work", ready);
        meanwhile();
        fs::write(self.path("go"), "").expect("written");
        child.wait_with_output().expect("it ends")
    }

    /// Goes on with the last run.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn resume(&self) -> Output {
        let list = self.shakedown(&["runs", "--format", "json"]);
        let runs: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
        self.shakedown(&["resume", runs[0]["id"].as_str().expect("an id")])
    }

    /// Types the command that a report gives, as it stands.
    ///
    /// # Panics
    /// There is none, or it fails.
    #[track_caller]
    pub fn type_in(&self, text: &str) -> String {
        let line = text
            .lines()
            .find_map(|line| crate::truth::HINTS.iter().find_map(|hint| line.trim().strip_prefix(hint)));
        let line = line.unwrap_or_else(|| panic!("no command: {text}"));
        let typed = self.command(Path::new("/bin/sh"), &["-c", line]).output().expect("sh");
        assert!(typed.status.success() && !said(&typed).contains("ERR"), "{line}: {}", said(&typed));
        line.to_owned()
    }
}

/// The output as text, once its exit code is as it has to be.
///
/// # Panics
/// It is another.
#[track_caller]
pub fn exited(output: &Output, code: i32) -> String {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}
