//! Where a step acts: this machine or another. A step asks its host to run a command and never cares which.

use crate::{
    degraded::Degraded,
    error::{ErrorClass, StepError},
    report::is_unsafe,
    secret::Secrets,
};
use std::{
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
};
use tokio::sync::watch;

/// A future that can be sent between threads; what the object-safe traits here return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells a running step that it has to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Receiver<bool>);

/// The other end of [`Cancel`].
#[derive(Debug)]
pub struct CancelSource(watch::Sender<bool>);

impl CancelSource {
    /// A source and the signal it raises.
    #[must_use]
    pub fn new() -> (Self, Cancel) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Cancel(receiver))
    }

    /// Another receiver of the signal.
    #[must_use]
    pub fn signal(&self) -> Cancel {
        Cancel(self.0.subscribe())
    }

    /// Raises the signal; raising it twice is the same as once.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl Cancel {
    /// A signal that is never raised.
    #[must_use]
    pub fn never() -> Self {
        let (source, cancel) = CancelSource::new();
        drop(source);
        cancel
    }

    /// Whether the signal has been raised.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends once the signal is raised, and never if it can no longer be.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|raised| *raised).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a command reads from its standard input.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    /// Nothing: end of file at once.
    #[default]
    Null,
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a file of this machine, streamed.
    File(PathBuf),
    /// The same without that many bytes at its beginning.
    FileFrom(PathBuf, u64),
}

/// A command for a host. The argv never passes through a shell of ours.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables added to the environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; without one the host's default.
    pub dir: Option<String>,
    /// What it reads.
    pub stdin: Stdin,
    /// How many bytes of each of stdout and stderr are kept; the rest is read, counted and dropped.
    /// 0 means [`Exec::KEEP`]. Of a stream that is longer, the head and the tail are kept, with a line between
    /// them that says how much was cut.
    pub keep: usize,
    /// Where stdout goes instead: a file of this machine, made anew with mode 0600. It is counted, not kept.
    pub stdout_file: Option<PathBuf>,
    /// How many bytes at the beginning of an earlier `stdout_file` stay; with 0 it is made anew.
    pub stdout_at: u64,
    /// Is added, while the command runs, the bytes that went into `stdout_file` and, on another host, those of stdin that
    /// were sent.
    pub moved: Arc<AtomicU64>,
    /// Whether running it twice is harmless: it is then run again after a connection that broke.
    pub repeatable: bool,
    /// What is masked in its output before it is cut.
    pub secrets: Arc<Secrets>,
}

impl Exec {
    /// Bytes of each output stream that are kept unless a step asks for more: 256 KiB.
    pub const KEEP: usize = 256 * 1024;

    /// A command with these arguments and defaults for all else.
    #[must_use]
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// With this standard input.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// As one that may be run twice.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Keeping up to `bytes` of each output stream.
    #[must_use]
    pub fn keep(mut self, bytes: usize) -> Self {
        self.keep = bytes;
        self
    }
}

/// A word for a POSIX sh, for a person to type or copy: whatever it holds stays as it stands, and all of it can be shown in
/// one line. What a terminal would take for a command, or would not show, stands as its bytes in octal.
#[must_use]
pub fn shell_word(word: &str) -> String {
    typed_word(word.as_bytes())
}

/// The same for a path, whose bytes need be no text.
#[must_use]
pub fn shell_path(path: &Path) -> String {
    typed_word(path.as_os_str().as_encoded_bytes())
}

/// A word for a script that no person sees.
#[must_use]
pub fn script_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn typed_word(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(is_unsafe)
    {
        return script_word(text);
    }
    // `$(…)` drops line feeds at the end. The last of the three characters of `IFS` is one.
    let feeds = bytes.iter().rev().take_while(|byte| **byte == b'\n').count();
    let mut format = String::new();
    let octal = |format: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|byte| format.push_str(&format!("\\{byte:03o}")));
    };
    for chunk in bytes[..bytes.len() - feeds].utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => format.push_str(r"\\"),
                '%' => format.push_str("%%"),
                // `!` calls up the history of an interactive shell, and a `-` at the beginning would be an option.
                '\'' | '!' => octal(&mut format, c.encode_utf8(&mut [0; 4]).as_bytes()),
                '-' if format.is_empty() => octal(&mut format, b"-"),
                c if is_unsafe(c) => octal(&mut format, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => format.push(c),
            }
        }
        octal(&mut format, chunk.invalid());
    }
    let text = if format.is_empty() { String::new() } else { format!("\"$(printf '{format}')\"") };
    text + &"\"${IFS#??}\"".repeat(feeds)
}

/// How a command ended and what it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit status, or none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kept bytes of stdout.
    pub stdout: Vec<u8>,
    /// The kept bytes of stderr.
    pub stderr: Vec<u8>,
    /// How many bytes stdout had in all.
    pub stdout_bytes: u64,
    /// How many bytes stderr had in all.
    pub stderr_bytes: u64,
    /// How many processes it left behind, which were then ended: no process outlives its step.
    pub left_behind: usize,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// stdout as text; bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text; bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// This output if the command succeeded, else an error of class `exit` with the last lines of stderr.
    ///
    /// # Errors
    /// The command ended with a status other than 0, or by a signal.
    pub fn require_success(self, what: &str) -> Result<Self, StepError> {
        if self.success() {
            return Ok(self);
        }
        let how = match (self.code, self.signal) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".to_owned(),
        };
        let stderr = self.stderr_text();
        let mut error = StepError::new(ErrorClass::Exit, format!("`{what}` ended with {how}"));
        let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        error.details =
            lines[lines.len().saturating_sub(10)..].iter().map(|line| (*line).to_owned()).collect();
        Err(error)
    }
}

/// A machine on which steps act.
pub trait Host: Send + Sync {
    /// The name that the playbook gives it, `local` for this machine.
    fn name(&self) -> &str;

    /// Whether this is the machine that the engine runs on.
    fn is_local(&self) -> bool {
        false
    }

    /// Runs a command to its end. When `cancel` is raised, or the future is dropped, the whole process tree is
    /// ended; after `cancel` the answer comes only when it is gone, as an error of class `cancelled`.
    fn exec<'a>(&'a self, exec: Exec, cancel: &'a Cancel) -> BoxFuture<'a, Result<Output, StepError>>;

    /// Which machine it is, whatever name or address leads there: the same text for the same machine, also after it was
    /// started anew. Nothing for this machine, and for one that has nothing to be known by.
    ///
    /// # Errors
    /// It cannot be reached, or is another machine than it was earlier in this run.
    fn identity<'a>(&'a self, _cancel: &'a Cancel) -> BoxFuture<'a, Result<Option<String>, StepError>> {
        Box::pin(async { Ok(None) })
    }

    /// What would keep the processes of a command together, and could not be used for one that ran here.
    fn degraded(&self) -> Option<Degraded> {
        None
    }

    /// Ends the connection and removes what belongs to it.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// How to reach a host, as the playbook's `hosts` says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct HostSpec {
    /// The name in the playbook.
    pub name: String,
    /// The ssh destination: an alias of `ssh_config`, `user@host`, or `ssh://user@host:port`.
    pub ssh: String,
    /// An explicit `known_hosts` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// An explicit `ssh_config` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// An explicit private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Values of its own.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub vars: serde_json::Map<String, serde_json::Value>,
}

impl HostSpec {
    /// A command of this host as a person types it elsewhere: `ssh … HOST -- 'COMMAND'`, with the files that the playbook
    /// names for this host.
    #[must_use]
    pub fn typed(&self, command: &str) -> String {
        let mut line = "ssh".to_owned();
        let mut add = |flag: &str, value: &Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!(" {flag}{}", shell_word_if_needed(value)));
            }
        };
        add("-F ", &self.config);
        add("-i ", &self.identity);
        add("-o UserKnownHostsFile=", &self.known_hosts);
        format!("{line} {} -- {}", shell_word_if_needed(&self.ssh), shell_word(command))
    }
}

/// A word as a person would write it: quoted only where a POSIX sh needs it.
fn shell_word_if_needed(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { shell_word(word) }
}

/// Opens connections to hosts; one per host and run, shared by all steps.
pub trait Connector: Send + Sync {
    /// The host behind `spec`, connected.
    fn connect<'a>(&'a self, spec: &'a HostSpec) -> BoxFuture<'a, Result<Arc<dyn Host>, StepError>>;
}

#[cfg(test)]
mod tests {
    use super::{HostSpec, shell_path, shell_word};
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, process::Command};

    const ODD: [&[u8]; 12] = [
        b"plain",
        b"it's $HOME `x` \\ \"q\"",
        "媒体 文件".as_bytes(),
        b"a\nb",
        b"ends\n",
        b"\n\n",
        b"-\x1b[31m%s!\\012'\t1",
        b"\xff\xfe.bin",
        b"half \xe5\xaa",
        "turned \u{202e}txt".as_bytes(),
        b"\r\n",
        b"",
    ];

    #[test]
    fn a_word_comes_back_byte_for_byte_and_can_be_shown() {
        for bytes in ODD {
            let word = shell_path(Path::new(OsStr::from_bytes(bytes)));
            assert_eq!(crate::report::escape(&word), word, "a terminal shows it as it stands");
            let remote = HostSpec {
                name: "h".into(),
                ssh: "h".into(),
                known_hosts: None,
                config: None,
                identity: None,
                vars: serde_json::Map::new(),
            };
            for shell in ["/bin/sh", "/bin/bash"] {
                let said =
                    |line: &str| Command::new(shell).args(["-c", line]).output().expect("a shell").stdout;
                assert_eq!(said(&format!("printf %s {word}")), bytes, "{shell}: {word}");
                // `ssh` hands its last word to a shell.
                let line = remote.typed(&format!("printf %s {word}"));
                let line = line.strip_prefix("ssh h -- ").expect("a line for ssh");
                assert_eq!(said(&format!("{shell} -c {line}")), bytes, "{shell}: {line}");
            }
        }
        assert_eq!(shell_word("a b"), "'a b'");
    }
}
