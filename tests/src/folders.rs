//! Where a run on the bare machine works, and how `shakedown` is started there.

use crate::lab::binaries;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// A folder for the run and one for Shakedown's own state, both gone with this value.
#[derive(Debug)]
pub struct Folders {
    pub dir: tempfile::TempDir,
    pub state: tempfile::TempDir,
}

impl Folders {
    /// Two that are empty.
    ///
    /// # Panics
    /// They cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes folders")]
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), state: tempfile::tempdir().expect("a folder") }
    }

    /// A path in the folder of the run.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program that works in the folder, with its output kept apart.
    pub fn command(&self, program: &Path, argv: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(argv).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("SHAKEDOWN_STATE_DIR", self.state.path()).env("NO_COLOR", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `shakedown` to its end.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn run(&self, argv: &[&str]) -> Output {
        self.command(binaries::shakedown(), argv).output().expect("it starts")
    }

    /// Starts `shakedown`; the test goes on beside it.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(&self, argv: &[&str]) -> Child {
        self.command(binaries::shakedown(), argv).spawn().expect("it starts")
    }
}

/// Everything that a program said.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
