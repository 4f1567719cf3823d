//! How a step can go wrong: a class that `retry.on` and the exit code know, a message, a next step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of trouble a step met. `retry: { on: [...] }` names these in `kebab-case`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// The system under test is not as expected: a false `expect`, a check that does not hold, `fail_when`.
    Expectation,
    /// An attempt took longer than its `timeout`.
    Timeout,
    /// A command ended with a status other than 0, or by a signal.
    Exit,
    /// A file, unit, table or program does not exist.
    NotFound,
    /// Something that was to be created exists already.
    Exists,
    /// The operating system or a server refused permission.
    Denied,
    /// No space, no inodes or a quota is used up.
    NoSpace,
    /// Another process holds what is needed: a locked database, a busy file.
    Busy,
    /// A host or port did not answer, or the connection broke.
    Unreachable,
    /// The data are not what they must be: a corrupt database, text that is no JSON.
    Corrupt,
    /// The parameters, once known, make no sense.
    Invalid,
    /// This machine or host lacks what the step needs.
    Unsupported,
    /// The run was stopped while the step ran.
    Cancelled,
    /// An error of Shakedown itself.
    Internal,
}

impl ErrorClass {
    /// All classes, in the order in which the documentation lists them.
    pub const ALL: [Self; 14] = [
        Self::Expectation,
        Self::Timeout,
        Self::Exit,
        Self::NotFound,
        Self::Exists,
        Self::Denied,
        Self::NoSpace,
        Self::Busy,
        Self::Unreachable,
        Self::Corrupt,
        Self::Invalid,
        Self::Unsupported,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The name that playbooks use, such as `no-space`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expectation => "expectation",
            Self::Timeout => "timeout",
            Self::Exit => "exit",
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::Denied => "denied",
            Self::NoSpace => "no-space",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Corrupt => "corrupt",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// Whether this class speaks of the system under test (exit 2) and not of the engine or its
    /// environment (exit 5).
    #[must_use]
    pub fn blames_the_system_under_test(self) -> bool {
        matches!(
            self,
            Self::Expectation | Self::Timeout | Self::Exit | Self::NotFound | Self::Corrupt | Self::Busy
        )
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a step, a probe or an undo did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// What kind of trouble it is.
    pub class: ErrorClass,
    /// Lower case, names the thing in backticks, says what was expected and what was found.
    pub message: String,
    /// What the user can do next, best a command that can be typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Evidence: lines of stderr or of a journal, the values behind a false expectation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// True if it is not known whether the effect happened: a lost connection, for example.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outcome_unknown: bool,
    /// True if it is certain that the effect did not happen: what looks like it is another's, and no undo may take it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_effect: bool,
}

impl StepError {
    /// An error of `class` with `message`, and nothing more.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            hint: None,
            details: Vec::new(),
            outcome_unknown: false,
            no_effect: false,
        }
    }

    /// The system under test is not as expected.
    #[must_use]
    pub fn expectation(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Expectation, message)
    }

    /// An error of Shakedown itself.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Internal, message)
    }

    /// Adds what the user can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a line of evidence.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Says that the effect may or may not have happened.
    #[must_use]
    pub fn unknown_outcome(mut self) -> Self {
        self.outcome_unknown = true;
        self.no_effect = false;
        self
    }

    /// Says that the effect certainly did not happen, unless it is unknown whether it did.
    #[must_use]
    pub fn without_effect(mut self) -> Self {
        self.no_effect = !self.outcome_unknown;
        self
    }

    /// Classifies an operating system error met while doing `what`, such as ``create `/data/x` ``.
    #[must_use]
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let (class, hint) = match error.kind() {
            K::NotFound => (ErrorClass::NotFound, None),
            K::AlreadyExists => (ErrorClass::Exists, None),
            K::PermissionDenied | K::ReadOnlyFilesystem => (
                ErrorClass::Denied,
                Some("run as a user that may, or check owner, mode and mount with: namei -l PATH"),
            ),
            K::StorageFull | K::QuotaExceeded => {
                (ErrorClass::NoSpace, Some("free space first; see: df -h && df -i"))
            }
            K::FileTooLarge => {
                (ErrorClass::NoSpace, Some("no file may become so large here; see: ulimit -f; df -hT PATH"))
            }
            K::ResourceBusy | K::WouldBlock => (ErrorClass::Busy, None),
            K::ConnectionRefused
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NotConnected
            | K::BrokenPipe
            | K::TimedOut => (ErrorClass::Unreachable, None),
            K::InvalidData => (ErrorClass::Corrupt, None),
            K::InvalidInput => (ErrorClass::Invalid, None),
            _ => (ErrorClass::Internal, None),
        };
        let mut made = Self::new(class, format!("cannot {what}: {error}"));
        made.hint = hint.map(str::to_owned);
        #[cfg(feature = "local")]
        {
            made.hint = made.hint.or_else(|| crate::local::reading::hint(error));
        }
        made
    }
}
