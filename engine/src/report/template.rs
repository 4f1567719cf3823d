//! Reports by handlebars templates of the user's: bounded, without partials and decorators.

use super::{Summary, is_unsafe, turns::Turns};
use crate::{
    expr::size_of,
    quantity::{Bytes, Millis},
};
use handlebars::{Handlebars, handlebars_helper};
use serde_json::Value;
use std::io::{self, Write};

/// The longest template, in bytes.
pub const MAX_TEMPLATE: usize = 256 * 1024;
/// The longest report, in bytes.
pub const MAX_REPORT: usize = 64 << 20;
/// The most blocks (`{{#each …}}` and the like) in a template: each may stand inside the one before it.
const MAX_BLOCKS: usize = 200;
/// The longest `{{…}}`, in bytes, and how deep its brackets may nest.
const MAX_TAG: usize = 2_048;
const MAX_NESTING: usize = 16;
/// The parser and the renderer recurse; this is ample for what the limits above let through.
const STACK: usize = 64 << 20;

/// A template that is fit to be rendered.
pub struct Template {
    registry: Handlebars<'static>,
    turns: Turns,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// For HTML: `<`, `>`, `&` and quotes become entities. Control and direction characters are spelled out.
    Html,
    /// For text: as they are, but control and direction characters are spelled out; newlines and tabs stay.
    Text,
}

/// What is wrong with a template, or kept it from being rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong, with line and column where they are known.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Escaping {
    /// What a file of this name needs: HTML for `.html` and `.htm`, text for all else.
    #[must_use]
    pub fn for_file(name: &str) -> Self {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        match ending.as_deref() {
            Some("html" | "htm") => Self::Html,
            _ => Self::Text,
        }
    }

    fn apply(self, text: &str) -> String {
        let mut safe = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\n' | '\t' => safe.push(c),
                '<' if self == Self::Html => safe.push_str("&lt;"),
                '>' if self == Self::Html => safe.push_str("&gt;"),
                '&' if self == Self::Html => safe.push_str("&amp;"),
                '"' if self == Self::Html => safe.push_str("&quot;"),
                '\'' if self == Self::Html => safe.push_str("&#39;"),
                '`' | '=' if self == Self::Html => safe.push_str(&format!("&#{};", u32::from(c))),
                c if is_unsafe(c) => safe.extend(c.escape_default()),
                c => safe.push(c),
            }
        }
        safe
    }
}

mod helpers {
    use super::{Bytes, Millis, Value, handlebars_helper};

    handlebars_helper!(duration: |value: Value| value.as_u64().map(|ms| Millis(ms).to_string()).unwrap_or_default());
    handlebars_helper!(bytes: |value: Value| value.as_u64().map(|n| Bytes(n).to_string()).unwrap_or_default());
    handlebars_helper!(cell: |text: str| text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" "));
    handlebars_helper!(json: |value: Value| crate::report::json::pretty(&value).trim_end().to_owned());
}

impl Template {
    /// Compiles a template. Its helpers beyond the usual ones: `duration` (of milliseconds), `bytes`, `json`, and
    /// `cell` (text for a cell of a Markdown table).
    ///
    /// # Errors
    /// It is too large, uses partials or decorators, or is no handlebars.
    pub fn compile(text: &str, escaping: Escaping) -> Result<Self, TemplateError> {
        check(text)?;
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(move |text| escaping.apply(text));
        registry.register_helper("duration", Box::new(helpers::duration));
        registry.register_helper("bytes", Box::new(helpers::bytes));
        registry.register_helper("cell", Box::new(helpers::cell));
        registry.register_helper("json", Box::new(helpers::json));
        // It would write to the program's own log.
        registry.unregister_helper("log");
        stacker::grow(STACK, || registry.register_template_string("report", text)).map_err(|error| {
            let place = error.pos().map(|(line, column)| format!("line {line}, column {column}: "));
            TemplateError {
                message: format!("{}{}", place.unwrap_or_default(), error.reason()),
                hint: Some("templates are handlebars: https://handlebarsjs.com/guide".into()),
            }
        })?;
        let turns = Turns::default();
        turns.bound(&mut registry, "report");
        Ok(Self { registry, turns })
    }

    /// The report.
    ///
    /// # Errors
    /// It asks for a value that a report does not have, grows too large, or goes through too many parts of blocks.
    pub fn render(&self, summary: &Summary) -> Result<String, TemplateError> {
        let mut out = Bounded { bytes: Vec::new(), full: false };
        let wrong = |message: String| TemplateError { message, hint: None };
        let summary = serde_json::to_value(summary).map_err(|error| wrong(error.to_string()))?;
        self.turns.begin(size_of(&summary, u64::MAX));
        let rendered = stacker::grow(STACK, || self.registry.render_to_write("report", &summary, &mut out));
        if out.full {
            let message = format!("the report grows beyond {}", Bytes(MAX_REPORT as u64));
            return Err(TemplateError { message, hint: Some("loop over less".into()) });
        }
        rendered.map_err(|error| {
            let place = match (error.line_no, error.column_no) {
                (Some(line), Some(column)) => format!("line {line}, column {column}: "),
                _ => String::new(),
            };
            if self.turns.over() {
                return TemplateError {
                    message: format!("{place}the blocks loop too often"),
                    hint: Some("loop over less: each block inside another multiplies".into()),
                };
            }
            TemplateError {
                message: format!("{place}{}", error.reason()),
                hint: Some("the fields of a report are those of `--report json=FILE`".into()),
            }
        })?;
        String::from_utf8(out.bytes).map_err(|error| TemplateError { message: error.to_string(), hint: None })
    }
}

/// Collects up to [`MAX_REPORT`] bytes.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_REPORT {
            self.full = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses what would recurse without bound, before anything is compiled: 41 bytes of a recursive inline partial
/// overflow the stack.
fn check(text: &str) -> Result<(), TemplateError> {
    let refuse = |at: usize, message: String| {
        let line = text[..at].matches('\n').count() + 1;
        Err(TemplateError { message: format!("line {line}: {message}"), hint: None })
    };
    if text.len() > MAX_TEMPLATE {
        let size = Bytes(text.len() as u64);
        return refuse(
            0,
            format!("the template has {size}, at most {} are allowed", Bytes(MAX_TEMPLATE as u64)),
        );
    }
    let mut blocks = 0;
    // Each `{{`, also one that overlaps another, inside a comment or escaped: too strict there, never too lax.
    for (at, _) in text.char_indices().filter(|(at, _)| text[*at..].starts_with("{{")) {
        let skip = |c: char| c.is_whitespace() || c == '~';
        let inside = text[at + 2..].trim_start_matches(skip);
        let (is_block, name) = match inside.strip_prefix('#') {
            Some(rest) => (true, rest.trim_start_matches(skip)),
            None => (inside.starts_with('^'), inside),
        };
        if name.starts_with('>') {
            return refuse(at, "partials (`{{> …}}`, `{{#> …}}`) are not allowed".into());
        }
        if name.starts_with('*') {
            return refuse(at, "decorators (`{{* …}}`, `{{#* …}}`) are not allowed".into());
        }
        blocks += usize::from(is_block);
        if blocks > MAX_BLOCKS {
            return refuse(at, format!("more than {MAX_BLOCKS} blocks"));
        }
        if inside.starts_with('!') {
            continue;
        }
        if let Err(why) = check_tag(inside) {
            return refuse(at, why);
        }
    }
    Ok(())
}

/// Bounds what stands between `{{` and `}}`.
fn check_tag(inside: &str) -> Result<(), String> {
    let mut nesting = 0usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        if at > MAX_TAG {
            return Err(format!("a `{{{{…}}}}` of more than {MAX_TAG} bytes"));
        }
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => nesting += 1,
            (None, '}') if nesting == 0 => return Ok(()),
            (None, ')' | ']' | '}') => nesting = nesting.saturating_sub(1),
            (None, _) => {}
        }
        if nesting > MAX_NESTING {
            return Err(format!("brackets nest more than {MAX_NESTING} deep"));
        }
    }
    Ok(())
}
