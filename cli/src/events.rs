//! `--events`: the history of a run as JSON Lines.

use crate::{failure::Failure, out::Out, watch::View};
use engine::{event::Record, report::Summary};
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
};

/// Writes each event as a line of JSON, at once.
pub(crate) struct Events {
    sink: Option<Box<dyn Write + Send>>,
    name: String,
    out: Out,
}

impl Events {
    /// Opens the file, or stdout for `-`.
    pub(crate) fn open(name: &str, out: &Out) -> Result<Self, Failure> {
        let sink: Box<dyn Write + Send> = match name {
            "-" => Box::new(io::stdout()),
            path => Box::new(File::create(path).map_err(|error| {
                Failure::invalid(format!("cannot write the events to `{path}`: {error}"))
                    .hint("nothing has been run; choose another file, or `-` for stdout")
            })?),
        };
        Ok(Self { sink: Some(sink), name: name.to_owned(), out: *out })
    }
}

impl View for Events {
    fn event(&mut self, _: &Summary, record: &Record) {
        let Some(sink) = &mut self.sink else { return };
        let mut line = serde_json::to_vec(record).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = sink.write_all(&line).and_then(|()| sink.flush()) {
            self.sink = None;
            if error.kind() != ErrorKind::BrokenPipe {
                self.out.warning(&format!("no more events in `{}`: {error}", self.name));
            }
        }
    }
}
