//! `shakedown check`.

use crate::{
    INVALID, args::Format, failure::Failure, library::Files, out::Out, paths, playbook, playbook::HostArgs,
    services::working_dir,
};
use clap::Args;
use engine::{
    Registry,
    diagnostic::{Code, Diagnostics, Severity},
    playbook::{self as reading, Inventory},
    report::{Tone, console::count, escape},
};
use serde_json::Value;
use std::path::Path;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown check my-check.yaml
  shakedown check playbooks/*.yaml --strict
  shakedown check my-check.yaml --format json | jq '.[].message'

Lints:
  no-undo          an effect that nothing takes back
  no-timeout       a wait without a limit of its own
  unordered        two effects on the same path, table, key or unit, in no order
  secret-in-argv   a secret among the arguments of a program
  shell-value      a value pasted into the script of `sh -c`
  wildcard         a cleanup or an undo that removes by a wildcard
  ignored-effect   `continue_on_error` on an effect

Warnings, and errors with --strict. A comment beside or above a step's id excuses it:
  # shakedown: allow no-undo: the log line may stay

Exit codes:
  0  valid
  3  a file has a mistake, or with --strict a warning")]
pub(crate) struct CheckArgs {
    /// Files, or names of bundled playbooks
    #[arg(required = true, value_name = "PLAYBOOK")]
    playbooks: Vec<String>,
    #[command(flatten)]
    hosts: HostArgs,
    /// Refuse warnings too
    #[arg(long)]
    strict: bool,
    /// The form of the diagnostics
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn run(args: &CheckArgs, out: &Out) -> Result<u8, Failure> {
    let registry = steps::builtin();
    let inventory = args.hosts.read()?;
    let mut unreadable = false;
    let mut checked = Vec::new();
    for given in &args.playbooks {
        match check(given, &registry, &inventory) {
            Ok(done) => checked.push(done),
            // The other files have a right to their diagnostics.
            Err(failure) => {
                failure.print(out);
                unreadable = true;
            }
        }
    }
    match args.format {
        Format::Json => print_json(&checked, out)?,
        Format::Text => print_text(&checked, args.strict, out)?,
    }
    let failed = unreadable || checked.iter().any(|file| file.fails(args.strict));
    Ok(if failed { INVALID } else { 0 })
}

struct Checked {
    name: String,
    steps: usize,
    diagnostics: Diagnostics,
}

impl Checked {
    fn fails(&self, strict: bool) -> bool {
        // Another machine may have the file: that is no fault of the playbook.
        let refused = |code| code != Code::NoSuchPath;
        self.diagnostics.has_errors() || (strict && self.diagnostics.iter().any(|found| refused(found.code)))
    }
}

fn check(given: &str, registry: &Registry, inventory: &Inventory) -> Result<Checked, Failure> {
    let source = match playbook::source(given, Path::new(playbook::HERE)) {
        Ok(source) => source,
        Err(failure) => {
            let diagnostics = failure.into_text()?;
            return Ok(Checked { name: given.to_owned(), steps: 0, diagnostics });
        }
    };
    let (steps, diagnostics) =
        match reading::read(source, registry, inventory, &Files { dir: Path::new(playbook::HERE) }) {
            Ok((playbook, mut warnings)) => {
                reading::lint(&playbook, registry).iter().for_each(|found| warnings.push(found.clone()));
                paths::warn(&playbook, &working_dir()?, &mut warnings);
                (playbook.steps.len(), warnings)
            }
            Err(diagnostics) => (0, diagnostics),
        };
    Ok(Checked { name: given.to_owned(), steps, diagnostics })
}

/// One list for all files, as editors want it.
fn print_json(checked: &[Checked], out: &Out) -> Result<(), Failure> {
    let mut all = Vec::new();
    for file in checked {
        if let Value::Array(list) = file.diagnostics.to_json() {
            all.extend(list);
        }
    }
    out.print(&engine::report::json::pretty(&all))
}

fn print_text(checked: &[Checked], strict: bool, out: &Out) -> Result<(), Failure> {
    let style = out.stdout_style();
    for file in checked {
        if !file.diagnostics.is_empty() {
            out.print(&format!("{}\n\n", file.diagnostics.render(style.color)))?;
        }
        let of = |wanted| file.diagnostics.iter().filter(|found| found.severity == wanted).count();
        let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
        let mut parts = Vec::new();
        if errors > 0 {
            parts.push(count(errors, "error"));
        }
        if warnings > 0 {
            parts.push(count(warnings, "warning"));
        }
        let name = escape(&file.name);
        if file.fails(strict) {
            let words = format!("invalid, {}", parts.join(", "));
            out.print(&format!("{name}: {}\n", style.paint(Tone::Bad, &words)))?;
        } else if !out.quiet {
            parts.insert(0, count(file.steps, "step"));
            let valid = style.paint(Tone::Good, "valid");
            out.print(&format!("{name}: {valid}, {}\n", parts.join(", ")))?;
        }
    }
    Ok(())
}
