//! From what the user typed to a valid playbook, and on to a plan.

use crate::{
    bundled,
    failure::{Failure, unplaced},
    library::Files,
    out::Out,
};
use clap::Args;
use engine::{
    Registry, Source,
    diagnostic::{Code, Diagnostic, Diagnostics, decode, did_you_mean},
    local::reading,
    plan::{self, Plan, PlanProblem},
    playbook::{self, Inventory, MAX_BYTES, Playbook},
    report::{escape, json},
};
use std::{
    io::{ErrorKind, Read},
    path::Path,
    sync::Arc,
};

/// Where the caller stands: paths that are typed count from there.
pub(crate) const HERE: &str = "";

/// The text of a playbook: a file, seen from the folder `dir`, or else a bundled one of that name.
pub(crate) fn source(given: &str, dir: &Path) -> Result<Arc<Source>, Failure> {
    match dir.join(given).metadata() {
        Ok(found) if found.is_file() => text_of(given, dir),
        // A folder, for example, may have the name of a bundled one.
        Ok(_) => bundled(given).map_or_else(|| text_of(given, dir), Ok),
        Err(error) if error.kind() == ErrorKind::NotFound => bundled(given).ok_or_else(|| unknown(given)),
        Err(error) => Err(Failure::invalid(format!("cannot read `{given}`: {error}"))),
    }
}

/// The text of a file, seen from the folder `dir`; it keeps the name that was given.
pub(crate) fn text_of(given: &str, dir: &Path) -> Result<Arc<Source>, Failure> {
    let mut bytes = Vec::new();
    // One byte more than is allowed, so that the reader can tell that it is too large.
    let read = reading::open_given(&dir.join(given))
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::unread(given, &error))?;
    decode(given, bytes).map_err(Failure::bad_text)
}

fn bundled(name: &str) -> Option<Arc<Source>> {
    bundled::find(name).map(|found| {
        Arc::new(Source { name: format!("bundled:{}", found.name), text: found.text.to_owned() })
    })
}

/// There is neither a file nor a bundled playbook of that name.
pub(crate) fn unknown(given: &str) -> Failure {
    let names = bundled::ALL.iter().map(|bundled| bundled.name);
    let list = names.clone().collect::<Vec<_>>().join(", ");
    let near = did_you_mean(given, names).map(|near| format!("{near} ")).unwrap_or_default();
    Failure::invalid(format!("there is no file and no bundled playbook `{given}`"))
        .hint(format!("{near}the bundled ones are: {list}"))
}

/// A valid playbook. Its warnings, or everything that is wrong with it, are told on stderr.
pub(crate) fn read(
    given: &str,
    dir: &Path,
    registry: &Registry,
    inventory: &Inventory,
    out: &Out,
) -> Result<Playbook, Failure> {
    match playbook::read(source(given, dir)?, registry, inventory, &Files { dir }) {
        Ok((playbook, warnings)) => {
            if !warnings.is_empty() && !out.quiet {
                tell(&warnings, out);
            }
            Ok(playbook)
        }
        Err(diagnostics) => Err(Failure::bad_text(diagnostics)),
    }
}

/// The plan of a playbook, or everything that keeps it from being planned, told on stderr.
pub(crate) fn plan(
    playbook: &Playbook,
    inputs: &plan::Inputs,
    registry: &Registry,
    out: &Out,
) -> Result<Plan, Failure> {
    plan::build(playbook, inputs, registry).map_err(|problems| {
        tell_problems(playbook, problems, out);
        Failure::told()
    })
}

fn tell_problems(playbook: &Playbook, problems: Vec<PlanProblem>, out: &Out) {
    let mut placed = Diagnostics::of(playbook.sources.clone());
    let mut others = Vec::new();
    for problem in problems {
        match problem.span {
            Some(span) => {
                let diagnostic = Diagnostic::error(Code::Plan, problem.message, span);
                placed.push(match problem.hint {
                    Some(hint) => diagnostic.hint(hint),
                    None => diagnostic,
                });
            }
            None if out.json => others.push(unplaced(&problem.message, problem.hint.as_ref())),
            None => {
                out.error(&escape(&problem.message));
                if let Some(hint) = &problem.hint {
                    out.hint(&escape(hint));
                }
            }
        }
    }
    if out.json {
        others.extend(placed.to_json().as_array().cloned().unwrap_or_default());
        // Who asked for it has gone.
        let _unread = out.print(&json::pretty(&others));
    } else if !placed.is_empty() {
        tell(&placed, out);
    }
}

/// The hosts that the caller names.
#[derive(Args, Debug, Default)]
pub(crate) struct HostArgs {
    /// Take hosts and groups from an inventory, a YAML or JSON file; they win over the playbook's
    #[arg(id = "hosts", long = "hosts", value_name = "FILE")]
    pub(crate) file: Option<String>,
}

impl HostArgs {
    /// The file's absolute path.
    pub(crate) fn absolute(&self, dir: &Path) -> Option<String> {
        self.file.as_ref().map(|file| dir.join(file).display().to_string())
    }

    /// The inventory, or everything that is wrong with it.
    pub(crate) fn read(&self) -> Result<Inventory, Failure> {
        let Some(file) = &self.file else { return Ok(Inventory::default()) };
        playbook::read_inventory(&text_of(file, Path::new(HERE))?).map_err(Failure::bad_text)
    }
}

fn tell(diagnostics: &Diagnostics, out: &Out) {
    out.tell(&format!("{}\n", diagnostics.render(out.stderr_style().color)));
}
