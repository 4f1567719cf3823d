//! `--report FORMAT=FILE`: opened before the run begins, written when it is over.

use crate::{
    failure::Failure,
    out::Out,
    stream::{self, Stream},
};
use engine::{
    local::reading,
    report::{
        Summary, json,
        template::{Escaping, Template},
    },
};
use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// The bundled template for Markdown.
const MARKDOWN: &str = include_str!("../templates/report.md.hbs");
/// The forms that exist.
const FORMATS: &str = "`json=FILE`, `markdown=FILE` or `TEMPLATE.hbs=FILE`";

/// A report that is to be written.
pub(crate) struct Report {
    form: Form,
    target: Target,
    /// The file as the user wrote it.
    pub(crate) name: String,
}

enum Form {
    Json,
    Template(Box<Template>),
}

enum Target {
    Stdout,
    /// Written beside and renamed at the end, so that nobody ever reads half a report.
    Beside(NamedTempFile, PathBuf),
    /// Something that is no plain file, such as `/dev/stdout`.
    Direct(File),
}

impl Report {
    /// Reads `FORMAT=FILE`, compiles the template and opens the file.
    pub(crate) fn open(spec: &str) -> Result<Self, Failure> {
        let malformed = || {
            Failure::invalid(format!("`--report {spec}`: expected {FORMATS}"))
                .hint("as in: --report json=report.json")
        };
        // A path may hold a `=`: the one after the ending of a template counts.
        let split = spec.find(".hbs=").map(|at| at + 4).or_else(|| spec.find('=')).ok_or_else(malformed)?;
        let (format, file) = (&spec[..split], &spec[split + 1..]);
        if format.is_empty() || file.is_empty() {
            return Err(malformed());
        }
        let form = match format {
            "json" => Form::Json,
            "markdown" => Form::Template(Box::new(compile("markdown", MARKDOWN, Escaping::Text)?)),
            path if path.ends_with(".hbs") => {
                let text = read_template(path)?;
                Form::Template(Box::new(compile(path, &text, Escaping::for_file(file))?))
            }
            other => {
                return Err(Failure::invalid(format!(
                    "there is no report format `{other}`: expected {FORMATS}"
                )));
            }
        };
        Ok(Self { form, target: Target::open(file)?, name: file.to_owned() })
    }

    /// Whether it goes to stdout.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self.target, Target::Stdout)
    }

    /// Writes it.
    pub(crate) fn write(self, summary: &Summary, out: &Out) -> Result<(), Failure> {
        let text = match &self.form {
            Form::Json => json::report(summary),
            Form::Template(template) => template.render(summary).map_err(|error| {
                let failure =
                    Failure::environment(format!("cannot write the report `{}`: {error}", self.name));
                match error.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            })?,
        };
        let cannot = |error: std::io::Error| {
            Failure::environment(format!("cannot write the report `{}`: {error}", self.name))
        };
        match self.target {
            Target::Stdout => out.print(&text),
            Target::Direct(file) => Stream::new().write(&file, text.as_bytes()).map_err(cannot),
            Target::Beside(mut file, path) => {
                file.write_all(text.as_bytes()).map_err(cannot)?;
                file.as_file().sync_all().map_err(cannot)?;
                file.persist(path).map_err(|error| cannot(error.error)).map(drop)
            }
        }
    }
}

impl Target {
    fn open(file: &str) -> Result<Self, Failure> {
        if file == "-" {
            return Ok(Self::Stdout);
        }
        let path = Path::new(file);
        let cannot = |error: std::io::Error| {
            Failure::invalid(format!("cannot write the report `{file}`: {error}"))
                .hint("nothing has been run; choose another file")
        };
        match path.metadata() {
            Ok(found) if found.is_dir() => Err(cannot(std::io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => stream::open(path).map(Self::Direct).map_err(cannot),
            Ok(_) | Err(_) => {
                // Through a link to where the file really is, or the link would be replaced.
                let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                tempfile::Builder::new()
                    .prefix(".shakedown-report-")
                    .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                    .tempfile_in(folder.unwrap_or(Path::new(".")))
                    .map(|temporary| Self::Beside(temporary, path))
                    .map_err(cannot)
            }
        }
    }
}

fn read_template(path: &str) -> Result<String, Failure> {
    let most = engine::report::template::MAX_TEMPLATE as u64;
    let mut text = String::new();
    // One byte more than is allowed, so that the template itself can tell that it is too large.
    let read =
        reading::open_given(Path::new(path)).and_then(|file| file.take(most + 1).read_to_string(&mut text));
    read.map_err(|error| Failure::unread(path, &error))?;
    Ok(text)
}

fn compile(name: &str, text: &str, escaping: Escaping) -> Result<Template, Failure> {
    Template::compile(text, escaping).map_err(|error| {
        let failure = Failure::invalid(format!("the template `{name}`: {error}"));
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}
