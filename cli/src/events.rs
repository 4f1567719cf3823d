//! `--events`: the history of a run as JSON Lines.

use crate::{
    failure::Failure,
    out::Out,
    stream::{self, STDOUT, Stream},
    watch::View,
};
use engine::{
    event::Record,
    report::{Summary, json},
};
use std::{
    fs::File,
    io::{self, ErrorKind},
    path::Path,
};

/// Writes each event as a line of JSON, at once.
pub(crate) struct Events {
    sink: Option<Sink>,
    reader: Stream,
    name: String,
    out: Out,
}

enum Sink {
    Stdout,
    File(File),
}

impl Events {
    /// Opens the file, or stdout for `-`.
    pub(crate) fn open(name: &str, out: &Out) -> Result<Self, Failure> {
        let opened = |path: &Path| match path.metadata() {
            Ok(found) if !found.is_file() && !found.is_dir() => stream::open(path),
            _ => File::create(path),
        };
        let sink = match name {
            "-" => Sink::Stdout,
            path => Sink::File(opened(Path::new(path)).map_err(|error| {
                Failure::invalid(format!("cannot write the events to `{path}`: {error}"))
                    .hint("nothing has been run; choose another file, or `-` for stdout")
            })?),
        };
        Ok(Self { sink: Some(sink), reader: Stream::new(), name: name.to_owned(), out: *out })
    }
}

impl View for Events {
    fn event(&mut self, _: &Summary, record: &Record) {
        let Some(sink) = &self.sink else { return };
        let line = format!("{}\n", json::line(record));
        let written = match sink {
            Sink::Stdout => STDOUT.write(io::stdout(), line.as_bytes()),
            Sink::File(file) => self.reader.write(file, line.as_bytes()),
        };
        if let Err(error) = written {
            self.sink = None;
            if error.kind() != ErrorKind::BrokenPipe {
                self.out.warning(&format!("no more events in `{}`: {error}", self.name));
            }
        }
    }
}
