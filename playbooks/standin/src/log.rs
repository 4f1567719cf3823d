//! Log lines as the field's daemon writes them: plain text on stdout, `2025-01-23 10:15:00 ERROR text`.
//!
//! Under systemd all of them, errors too, reach the journal at priority info. That is the point: a check
//! that asks the journal for errors by priority finds none.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Where lines go; clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    sink: Arc<Mutex<dyn Write + Send>>,
}

impl Log {
    pub(crate) fn stdout() -> Self {
        Self { sink: Arc::new(Mutex::new(std::io::stdout())) }
    }

    pub(crate) fn info(&self, text: &str) {
        self.stamped("INFO", text);
    }

    pub(crate) fn warning(&self, text: &str) {
        self.stamped("WARNING", text);
    }

    pub(crate) fn error(&self, text: &str) {
        self.stamped("ERROR", text);
    }

    fn stamped(&self, level: &str, text: &str) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S");
        self.plain(&format!("{now} {level} {text}"));
    }

    /// A line without stamp and level. A reader that went away is no reason for a daemon to end.
    pub(crate) fn plain(&self, text: &str) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(sink, "{text}").and_then(|()| sink.flush());
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Log;
    use std::sync::{Arc, Mutex};

    /// A log and the bytes it collects.
    pub(crate) fn memory() -> (Log, Arc<Mutex<Vec<u8>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        (Log { sink: lines.clone() }, lines)
    }

    pub(crate) fn text(lines: &Arc<Mutex<Vec<u8>>>) -> String {
        String::from_utf8(lines.lock().expect("lock").clone()).expect("UTF-8")
    }
}
