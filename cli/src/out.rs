//! Where text goes: what was asked for to stdout, what a person reads while waiting to stderr.

use crate::{
    args::{Global, When},
    failure::Failure,
    stream::{STDERR, STDOUT},
};
use engine::report::{Style, Tone};
use std::{
    io::{self, ErrorKind, IsTerminal},
    os::{fd::AsFd, unix::fs::MetadataExt},
};

/// What both streams may carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    color: When,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Whether stdout is read by a program, which is told there what is wrong.
    pub(crate) json: bool,
    /// Whether stderr is the system's journal, which notes the time by itself and wants to know how bad a line is.
    pub(crate) journaled: bool,
}

/// Whether stderr leads to the journal, as systemd says it does by device and inode.
fn is_journaled() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let found = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| std::fs::File::from(fd).metadata());
    found.is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

impl Out {
    pub(crate) fn new(global: &Global, json: bool) -> Self {
        Self {
            color: global.color,
            quiet: global.quiet,
            verbose: global.verbose,
            json,
            journaled: is_journaled(),
        }
    }

    /// The colours of stdout.
    pub(crate) fn stdout_style(&self) -> Style {
        Style { color: self.colors(io::stdout().is_terminal()) }
    }

    /// The colours of stderr.
    pub(crate) fn stderr_style(&self) -> Style {
        Style { color: self.colors(io::stderr().is_terminal()) }
    }

    /// Whether stderr is a terminal on which lines can be drawn again.
    pub(crate) fn stderr_can_move(&self) -> bool {
        io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
    }

    fn colors(&self, terminal: bool) -> bool {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }

    /// Writes to stdout. Somebody who stops reading, as `head` does, is no error.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        match STDOUT.write(io::stdout(), text.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::environment(format!("cannot write to stdout: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes lines to stdout.
    pub(crate) fn print_lines(&self, lines: &[String]) -> Result<(), Failure> {
        self.print(&joined(lines))
    }

    /// Writes to stderr. Whoever closed it does not want to know.
    pub(crate) fn tell(&self, text: &str) {
        let _unread = STDERR.write(io::stderr(), text.as_bytes());
    }

    /// Writes lines to stderr.
    pub(crate) fn tell_lines(&self, lines: &[String]) {
        self.tell(&joined(lines));
    }

    pub(crate) fn error(&self, message: &str) {
        self.noted("<3>", Tone::Bad, "error:", message);
    }

    pub(crate) fn warning(&self, message: &str) {
        self.noted("<4>", Tone::Warn, "warning:", message);
    }

    pub(crate) fn hint(&self, hint: &str) {
        self.noted("<6>", Tone::Change, "hint:", hint);
    }

    fn noted(&self, priority: &str, tone: Tone, word: &str, text: &str) {
        let priority = if self.journaled { priority } else { "" };
        self.tell(&format!("{priority}{} {text}\n", self.stderr_style().paint(tone, word)));
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
