//! Why a command did not do its work.

use crate::{INVALID, out::Out};
use engine::{journal::JournalError, report::escape};

/// The exit code when the engine or the environment failed.
const ENVIRONMENT: u8 = 5;

/// Why a command did not do its work, and the exit code that tells.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// Ready to be printed: an `error:` line, or diagnostics that have been rendered.
    message: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// The command line, a playbook or a param is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: INVALID, message: Some(message.into()), hint: None }
    }

    /// The machine does not let us.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self { code: ENVIRONMENT, message: Some(message.into()), hint: None }
    }

    /// Something invalid of which the user has been told already.
    pub(crate) fn told() -> Self {
        Self { code: INVALID, message: None, hint: None }
    }

    /// The run that was named cannot be had.
    pub(crate) fn unknown_run(error: JournalError) -> Self {
        Self { code: INVALID, message: Some(error.message), hint: error.hint }
    }

    /// What went wrong, in one line.
    pub(crate) fn message(&self) -> String {
        self.message.clone().unwrap_or_default()
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells the user, and gives the exit code.
    pub(crate) fn print(self, out: &Out) -> u8 {
        if let Some(message) = &self.message {
            out.error(&escape(message));
        }
        if let Some(hint) = &self.hint {
            out.hint(&escape(hint));
        }
        self.code
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self { code: ENVIRONMENT, message: Some(error.message), hint: error.hint }
    }
}
