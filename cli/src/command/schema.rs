//! `shakedown schema`.

use crate::{failure::Failure, out::Out};
use clap::{Args, ValueEnum};
use engine::{event::Record, plan, report, schema};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown schema > playbook.schema.json
  shakedown schema report | jq .properties
  shakedown schema --write schemas
  shakedown schema --check schemas     # in CI: exit 3 if a file there is not what --write would write")]
pub(crate) struct SchemaArgs {
    /// Which schema to print
    #[arg(value_enum, default_value_t = Which::Playbook)]
    which: Which,
    /// Write all schemas as NAME.schema.json to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    write: Option<PathBuf>,
    /// Compare the files of this folder with what --write would write
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Playbook,
    Fragment,
    Plan,
    Events,
    Report,
}

impl Which {
    fn file(self) -> String {
        let name = match self {
            Self::Playbook => "playbook",
            Self::Fragment => "fragment",
            Self::Plan => "plan",
            Self::Events => "events",
            Self::Report => "report",
        };
        format!("{name}.schema.json")
    }

    fn text(self) -> String {
        let schema: Value = match self {
            Self::Playbook => schema::playbook(&steps::builtin()),
            Self::Fragment => schema::fragment(&steps::builtin()),
            Self::Plan => plan::text::schema(),
            Self::Events => schemars::schema_for!(Record).to_value(),
            Self::Report => report::json::schema(),
        };
        format!("{schema:#}\n")
    }
}

pub(crate) fn run(args: &SchemaArgs, out: &Out) -> Result<u8, Failure> {
    match (&args.write, &args.check) {
        (Some(dir), _) => write(dir, out)?,
        (None, Some(dir)) => check(dir, out)?,
        (None, None) => out.print(&args.which.text())?,
    }
    Ok(0)
}

fn write(dir: &Path, out: &Out) -> Result<(), Failure> {
    let cannot =
        |path: &Path, error| Failure::environment(format!("cannot write `{}`: {error}", path.display()));
    std::fs::create_dir_all(dir).map_err(|error| cannot(dir, error))?;
    for which in Which::value_variants() {
        let path = dir.join(which.file());
        std::fs::write(&path, which.text()).map_err(|error| cannot(&path, error))?;
        if !out.quiet {
            out.tell(&format!("wrote {}\n", path.display()));
        }
    }
    Ok(())
}

fn check(dir: &Path, out: &Out) -> Result<(), Failure> {
    let mut stale = Vec::new();
    for which in Which::value_variants() {
        let path = dir.join(which.file());
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&which.text()) {
            stale.push(format!("`{}`", path.display()));
        }
    }
    if stale.is_empty() {
        if !out.quiet {
            out.tell(&format!("the schemas in {} are up to date\n", dir.display()));
        }
        return Ok(());
    }
    Err(Failure::invalid(format!("missing or out of date: {}", stale.join(", ")))
        .hint(format!("shakedown schema --write {}", dir.display())))
}
