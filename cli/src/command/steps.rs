//! `shakedown steps`.

use crate::{
    failure::Failure,
    out::Out,
    wrap::{beside, columns, wrap},
};
use clap::Args;
use engine::{
    diagnostic::did_you_mean,
    report::{Style, Tone, pad, width},
    step::DynStep,
};
use serde_json::Value;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown steps
  shakedown steps sqlite
  shakedown steps --markdown > steps.md")]
pub(crate) struct StepsArgs {
    /// The step type to explain
    kind: Option<String>,
    /// Print the whole reference as Markdown
    #[arg(long, conflicts_with = "kind")]
    markdown: bool,
}

pub(crate) fn run(args: &StepsArgs, out: &Out) -> Result<u8, Failure> {
    let registry = steps::builtin();
    if args.markdown {
        out.print(&reference())?;
        return Ok(0);
    }
    let style = out.stdout_style();
    let Some(kind) = &args.kind else {
        let widest = registry.kinds().iter().map(|kind| kind.len()).max().unwrap_or(0);
        let lines: Vec<String> = registry
            .iter()
            .map(|step| {
                let name = style.paint(Tone::Strong, &pad(step.kind(), widest));
                format!("{name}  {}", step.docs().summary)
            })
            .collect();
        out.print_lines(&lines)?;
        if !out.quiet {
            out.tell("one of them, with its keys and an example: shakedown steps KIND\n");
        }
        return Ok(0);
    };
    match registry.get(kind) {
        Some(step) => {
            out.print_lines(&explain(&**step, style))?;
            Ok(0)
        }
        None => {
            let near =
                did_you_mean(kind, registry.kinds()).map(|near| format!("{near} ")).unwrap_or_default();
            let known = registry.kinds().join(", ");
            Err(Failure::invalid(format!("there is no step type `{kind}`"))
                .hint(format!("{near}the step types are: {known}")))
        }
    }
}

/// The step reference of the documentation.
fn reference() -> String {
    let mut text = String::from(
        "# Step reference\n\nDrawn from the code by `shakedown steps --markdown`; `shakedown steps KIND` prints one.\n",
    );
    for step in steps::builtin().iter() {
        let docs = step.docs();
        let on = if docs.on_host { "Takes `on: HOST`." } else { "Acts on this machine only." };
        text.push_str(&format!(
            "\n## {}\n\n{}\n\n{}\n\n{on}\n",
            step.kind(),
            docs.summary,
            docs.details.trim()
        ));
        for (title, schema) in [("param", step.params_schema()), ("output", step.output_schema())] {
            text.push_str(&table(title, &schema));
        }
        if !docs.errors.is_empty() {
            text.push_str("\n| error | next step |\n| --- | --- |\n");
            for (error, next) in docs.errors {
                text.push_str(&format!("| {} | {} |\n", cell(error), cell(next)));
            }
        }
        text.push_str(&format!("\n```yaml\n{}\n```\n", docs.example.trim_end()));
    }
    text
}

fn cell(text: &str) -> String {
    in_one_line(text).replace('|', "\\|")
}

fn table(title: &str, schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty())
    else {
        return String::new();
    };
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut text = format!("\n| {title} | type | meaning |\n| --- | --- | --- |\n");
    for (name, property) in properties {
        let mark =
            if title == "param" && required.iter().any(|key| key == name) { " (required)" } else { "" };
        let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default();
        text.push_str(&format!("| `{name}`{mark} | {} | {} |\n", cell(&type_of(property)), cell(meaning)));
    }
    text
}

fn explain(step: &dyn DynStep, style: Style) -> Vec<String> {
    let docs = step.docs();
    let title = |text: &str| style.paint(Tone::Strong, text);
    let columns = columns();
    let mut lines = vec![format!("{}: {}", title(step.kind()), docs.summary), String::new()];
    lines.extend(docs.details.trim().lines().flat_map(|line| wrap(line, columns)));
    lines.push(String::new());
    lines.push(title("params"));
    fields(&step.params_schema(), true, columns, &mut lines);
    lines.push(String::new());
    lines.push(title("output"));
    fields(&step.output_schema(), false, columns, &mut lines);
    if !docs.errors.is_empty() {
        lines.push(String::new());
        lines.push(title("errors"));
        for (error, next) in docs.errors {
            lines.push(format!("  {error}"));
            lines.extend(beside("    ", next, columns));
        }
    }
    lines.push(String::new());
    let on = if docs.on_host { "takes `on: HOST`" } else { "acts on this machine only" };
    lines.push(format!("{}  {on}", title("where")));
    lines.push(String::new());
    lines.push(title("example"));
    lines.extend(docs.example.trim_end().lines().map(|line| format!("  {line}").trim_end().to_owned()));
    lines
}

/// The fields of an object's schema.
fn fields(schema: &Value, params: bool, columns: usize, lines: &mut Vec<String>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let Some(properties) = properties.filter(|properties| !properties.is_empty()) else {
        match schema.get("description").and_then(Value::as_str) {
            Some(text) => lines.extend(beside("  ", text, columns)),
            None => lines.push("  none".into()),
        }
        return;
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .filter(|_| params)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let rows: Vec<(String, String, &str)> = properties
        .iter()
        .map(|(name, schema)| {
            let mut kind = type_of(schema);
            if required.contains(&name.as_str()) {
                kind.push_str(", required");
            }
            (name.clone(), kind, schema.get("description").and_then(Value::as_str).unwrap_or_default())
        })
        .collect();
    let names = rows.iter().map(|(name, ..)| width(name)).max().unwrap_or(0);
    let kinds = rows.iter().map(|(_, kind, _)| width(kind)).filter(|wide| *wide <= 28).max().unwrap_or(0);
    for (name, kind, text) in rows {
        let first = format!("  {}  {}  ", pad(&name, names), pad(&kind, kinds));
        lines.extend(beside(&first, text, columns));
    }
}

/// The type of a value, in words.
fn type_of(schema: &Value) -> String {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> =
            values.iter().map(|value| value.as_str().map_or(value.to_string(), str::to_owned)).collect();
        return words.join(" | ");
    }
    if let Some(format) =
        schema.get("format").and_then(Value::as_str).filter(|format| !format.contains("int"))
    {
        return format.to_owned();
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array()) {
        let mut words: Vec<String> = choices
            .iter()
            .map(|choice| {
                choice.get("const").and_then(Value::as_str).map_or_else(|| type_of(choice), str::to_owned)
            })
            .filter(|word| word != "null")
            .collect();
        words.dedup();
        return words.join(" | ");
    }
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "array" => match schema.get("items") {
            Some(items) => format!("list of {}", type_of(items)),
            None => "list".into(),
        },
        Some(Value::String(kind)) => word(kind).to_owned(),
        Some(Value::Array(kinds)) => {
            let words: Vec<&str> =
                kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").map(word).collect();
            words.join(" | ")
        }
        _ => "any".into(),
    }
}

fn word(kind: &str) -> &str {
    match kind {
        "object" => "map",
        "array" => "list",
        "string" => "text",
        "boolean" => "true | false",
        other => other,
    }
}

/// A text of several lines in one.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
