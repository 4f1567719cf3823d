//! A real terminal, as a person sees it: a pane of a tmux of its own, with a size, a keyboard, and a screen to look at.

use std::{
    io::Write as _,
    process::{Command, Output},
    time::{Duration, Instant},
};

/// How long an answer may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(90);

/// The pane stays when the program has ended, so that its last words can be read.
const CONFIG: &str = "set -g remain-on-exit on\nset -g history-limit 20000\nset -g default-terminal screen-256color\nset -g status off\n";

/// A program in a terminal of its own. Both end with this value.
#[derive(Debug)]
pub struct Terminal {
    dir: tempfile::TempDir,
}

impl Terminal {
    /// Starts a program in a terminal of so many columns. None, after it has said why in a line that a CI script can
    /// count, where there is no tmux.
    ///
    /// # Panics
    /// It does not start, or `SHAKEDOWN_LAB=required` and there is no tmux.
    #[must_use]
    #[track_caller]
    pub fn start_or_skip(command: &Command, columns: u16) -> Option<Self> {
        if !Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success()) {
            let required = std::env::var("SHAKEDOWN_LAB").is_ok_and(|value| value == "required");
            assert!(!required, "SHAKEDOWN_LAB=required, but there is no tmux");
            // Not eprintln: the test runner would keep it to itself, for the test passes.
            let _unread = writeln!(std::io::stderr(), "SKIPPED lab test: no tmux");
            return None;
        }
        let terminal = Self { dir: tempfile::tempdir().expect("a folder") };
        std::fs::write(terminal.dir.path().join("tmux.conf"), CONFIG).expect("the settings");
        let columns = columns.to_string();
        let mut words: Vec<String> =
            ["new-session", "-d", "-x", &columns, "-y", "24"].iter().map(|word| (*word).to_owned()).collect();
        if let Some(dir) = command.get_current_dir() {
            words.extend(["-c".into(), dir.display().to_string()]);
        }
        // tmux does not always come to know how a program ended: a shell around it writes that down, whatever is pressed.
        let script = "trap : INT QUIT; \"$@\"; echo $? > \"$0\"";
        let status = terminal.status();
        words.extend(["--", "/bin/sh", "-c", script, &status, "env"].map(str::to_owned));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => words.push(format!("{}={}", name.display(), value.display())),
                None => words.extend(["-u".into(), name.display().to_string()]),
            }
        }
        words.push(command.get_program().display().to_string());
        words.extend(command.get_args().map(|arg| arg.display().to_string()));
        let started = terminal.tmux(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(started.status.success(), "{}", crate::folders::said(&started));
        Some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.args(["-u", "-S"]).arg(self.dir.path().join("socket"));
        command.arg("-f").arg(self.dir.path().join("tmux.conf"));
        command.args(words).env_remove("TMUX").output().expect("tmux starts")
    }

    /// Types text and the enter key.
    pub fn enter(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.press("Enter");
    }

    /// Presses a key as tmux calls it: `C-c`, `C-d`, `Enter`.
    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Gives the terminal another width.
    pub fn resize(&self, columns: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string()]);
    }

    /// Everything that is shown and was scrolled away, lines that the terminal broke joined again.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p", "-J", "-S", "-"]).stdout).into_owned()
    }

    /// The same with the escapes of colours, and lines as the terminal broke them.
    #[must_use]
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p", "-e", "-S", "-"]).stdout).into_owned()
    }

    /// Waits until a text is shown for the `times`th time.
    ///
    /// # Panics
    /// It never is.
    #[track_caller]
    pub fn until(&self, text: &str, times: usize) {
        let begun = Instant::now();
        while self.text().matches(text).count() < times {
            assert!(
                begun.elapsed() < LIMIT,
                "never shown {times} times: `{text}`; shown is:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of the program: its exit code, or 128 and the number of the signal that ended it.
    ///
    /// # Panics
    /// It does not end.
    #[must_use]
    #[track_caller]
    pub fn end(&self) -> i32 {
        let begun = Instant::now();
        loop {
            let written = std::fs::read_to_string(self.status()).unwrap_or_default();
            if let Some(status) = written.strip_suffix('\n') {
                return status.parse().expect("a status");
            }
            assert!(begun.elapsed() < LIMIT, "it does not end; shown is:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn status(&self) -> String {
        self.dir.path().join("status").display().to_string()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
