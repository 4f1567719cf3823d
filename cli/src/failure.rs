//! Why a command did not do its work.

use crate::{INVALID, out::Out};
use engine::{
    diagnostic::Diagnostics,
    journal::JournalError,
    local::reading,
    report::{escape, json},
};
use serde_json::{Value, json};

/// The exit code when the engine or the environment failed.
const ENVIRONMENT: u8 = 5;

/// Why a command did not do its work, and the exit code that tells.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// Ready to be printed: an `error:` line, or diagnostics that have been rendered.
    message: Option<String>,
    hint: Option<String>,
    /// What is wrong with the text of a file.
    text: Option<Box<Diagnostics>>,
}

impl Failure {
    /// The command line, a playbook or a param is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: INVALID, message: Some(message.into()), hint: None, text: None }
    }

    /// A file that was named cannot be read.
    pub(crate) fn unread(named: &str, error: &std::io::Error) -> Self {
        let hint = reading::hint(error);
        Self { hint, ..Self::invalid(format!("cannot read `{named}`: {error}")) }
    }

    /// The machine does not let us.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self { code: ENVIRONMENT, message: Some(message.into()), hint: None, text: None }
    }

    /// Something invalid of which the user has been told already.
    pub(crate) fn told() -> Self {
        Self { code: INVALID, message: None, hint: None, text: None }
    }

    /// The run that was named cannot be had.
    pub(crate) fn unknown_run(error: JournalError) -> Self {
        Self { code: INVALID, message: Some(error.message), hint: error.hint, text: None }
    }

    /// A file holds no text that can be read.
    pub(crate) fn bad_text(found: Diagnostics) -> Self {
        Self { code: INVALID, message: None, hint: None, text: Some(Box::new(found)) }
    }

    /// What is wrong with the text of a file, if that is it.
    pub(crate) fn into_text(self) -> Result<Diagnostics, Self> {
        match self.text {
            Some(found) => Ok(*found),
            None => Err(self),
        }
    }

    /// What went wrong, in one line.
    pub(crate) fn message(&self) -> String {
        self.message.clone().unwrap_or_default()
    }

    /// What to do about it.
    pub(crate) fn own_hint(&self) -> Option<&String> {
        self.hint.as_ref()
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells the user, and gives the exit code.
    pub(crate) fn print(self, out: &Out) -> u8 {
        if out.json && (self.message.is_some() || self.text.is_some()) {
            let told = match (&self.text, &self.message) {
                (Some(found), _) => found.to_json(),
                (None, message) => {
                    json!([unplaced(message.as_deref().unwrap_or_default(), self.hint.as_ref())])
                }
            };
            // Who asked for it has gone.
            let _unread = out.print(&json::pretty(&told));
            return self.code;
        }
        if let Some(message) = &self.message {
            out.error(&escape(message));
        }
        if let Some(found) = &self.text {
            out.tell(&format!("{}\n", found.render(out.stderr_style().color)));
        }
        if let Some(hint) = &self.hint {
            out.hint(&escape(hint));
        }
        self.code
    }
}

/// An error without a place, in the form of those that have one.
pub(crate) fn unplaced(message: &str, hint: Option<&String>) -> Value {
    json!({ "severity": "error", "message": message, "hint": hint })
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self { code: ENVIRONMENT, message: Some(error.message), hint: error.hint, text: None }
    }
}
