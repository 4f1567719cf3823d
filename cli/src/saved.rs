//! A plan in a file: written by `plan --out`, carried out by `run --plan` if nothing has changed since.

use crate::{
    failure::Failure,
    out::Out,
    playbook::{self, HostArgs},
    services,
};
use engine::{
    Registry,
    local::{reading, run_info},
    plan::{Forecast, Inputs, PLAN_VERSION, Plan, PlannedStep, checksum, drift},
    report::escape,
    step::{Probe, Prospect, RunInfo},
};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// What the file says of itself.
const FORM: &str = "shakedown plan";
/// The largest file that is read, in bytes.
const MAX: u64 = 512 << 20;
/// The version of this program: another one may read the same playbook in another way.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// What stands for the checksum in what it is of.
const NO_SUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The checksum over the whole file.
fn sum(text: &str) -> String {
    checksum(text.as_bytes())
}

/// A plan as it was kept. It holds marks of secrets, never what they are.
#[derive(Debug)]
struct Saved {
    /// The version of the program that made it.
    program: String,
    /// Whether the system was asked.
    probed: bool,
    plan: Plan,
}

/// Where a plan goes: known to be free, or a plan that is replaced, before anything is asked.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    replaces: bool,
}

impl Target {
    /// A file that is not there, or holds an older plan.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let foreign = |what: &str| {
            Failure::invalid(format!("`{shown}` {what}: it is not overwritten"))
                .hint("choose another file, or remove that one first")
        };
        let replaces = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(Failure::invalid(format!("cannot look at `{shown}`: {error}"))),
            Ok(found) if found.file_type().is_symlink() => return Err(foreign("is a symbolic link")),
            Ok(found) if !found.is_file() => return Err(foreign("is no plain file")),
            Ok(_) if !is_plan(path) => return Err(foreign("exists and holds no plan")),
            Ok(_) => true,
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(Failure::invalid(format!("the folder `{}` does not exist", folder.display()))
                .hint(format!("mkdir -p {}", folder.display())));
        }
        Ok(Self { path: path.to_owned(), replaces })
    }

    /// Writes the plan: for its owner alone, whole or not at all.
    pub(crate) fn write(&self, plan: &Plan, probed: bool, out: &Out) -> Result<(), Failure> {
        let shown = self.path.display();
        let cannot =
            |error: &dyn std::fmt::Display| Failure::environment(format!("cannot write `{shown}`: {error}"));
        let saved = json!({
            "form": FORM,
            "sum": NO_SUM,
            "schema_version": PLAN_VERSION,
            "program": PROGRAM,
            "probed": probed,
            "totals": plan.totals(),
            "plan": plan,
        });
        let text = engine::report::json::pretty(&saved);
        let text = text.replacen(NO_SUM, &sum(&text), 1);
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A temporary file has mode 0600 from its first moment.
        let mut file = tempfile::Builder::new()
            .prefix(".shakedown-plan-")
            .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))
            .map_err(|error| cannot(&error))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(|error| cannot(&error))?;
        let done = match self.replaces {
            true => file.persist(&self.path),
            // Whoever made a file there meanwhile keeps it.
            false => file.persist_noclobber(&self.path),
        };
        done.map_err(|error| cannot(&error.error))?;
        if !out.quiet {
            let word = if self.replaces { "replaced the plan in" } else { "wrote" };
            let name = escape(&shown.to_string()).into_owned();
            out.tell(&format!("{word} {name}; carry it out: shakedown run --plan {name}\n"));
        }
        Ok(())
    }
}

/// Whether a file holds a plan of ours, of whatever version.
fn is_plan(path: &Path) -> bool {
    let form =
        |text: Vec<u8>| serde_json::from_slice::<Value>(&text).ok()?.get("form")?.as_str().map(str::to_owned);
    reading::bytes(path, MAX).ok().and_then(form).is_some_and(|form| form == FORM)
}

/// The plan in a file, made anew for a run of now; refused with the difference if it would do anything else.
pub(crate) fn renewed(file: &Path, registry: &Registry, out: &Out) -> Result<Plan, Failure> {
    let shown = file.display().to_string();
    let saved = load(file)?;
    let then = &saved.plan;
    let mut lines = Vec::new();
    if saved.program != PROGRAM {
        lines.push(format!("shakedown: {} -> {PROGRAM}", saved.program));
    }
    for kind in missing_kinds(then, registry) {
        lines.push(format!("the step type `{kind}` does not exist any more"));
    }
    if !lines.is_empty() {
        return Err(drifted(&shown, &lines));
    }
    let dir = PathBuf::from(&then.run.dir);
    let now = run_info(&dir);
    // Under the run of then both must be the same to the letter.
    let same =
        RunInfo { host: now.host.clone(), user: now.user.clone(), exe: now.exe.clone(), ..then.run.clone() };
    let source = then.source.strip_prefix("bundled:").unwrap_or(&then.source);
    let hosts = HostArgs { file: then.inventory.clone() };
    let inputs = |run: RunInfo| Inputs {
        params: then.params.clone(),
        run,
        max_parallel: Some(then.max_parallel),
        default_parallel: then.max_parallel,
        keep: None,
        outside: services::outside(&dir),
        inventory: then.inventory.clone(),
    };
    let playbook = playbook::read(source, &dir, registry, &hosts.read()?, out)?;
    let compared = playbook::plan(&playbook, &inputs(same), registry, out)?;
    let lines = drift(then, &compared);
    if !lines.is_empty() {
        return Err(drifted(&shown, &lines));
    }
    let plan = playbook::plan(&playbook, &inputs(now), registry, out)?;
    if plan.hash != then.hash {
        return Err(drifted(&shown, &[format!("hash: {} -> {}", then.hash, plan.hash)]));
    }
    if saved.probed {
        let mut seen = plan.clone();
        services::look_ahead(&mut seen, registry, &dir)?;
        let lines: Vec<String> =
            then.steps.iter().zip(&seen.steps).filter_map(|(a, b)| turned(a, b)).collect();
        if !lines.is_empty() {
            return Err(drifted(&shown, &lines));
        }
    }
    Ok(plan)
}

fn load(file: &Path) -> Result<Saved, Failure> {
    let shown = file.display();
    let bytes = reading::bytes(file, MAX).map_err(|error| Failure::unread(&shown.to_string(), &error))?;
    let no_plan = |why: &str| {
        Failure::invalid(format!("`{shown}` holds no plan: {why}"))
            .hint("write one: shakedown plan PLAYBOOK --out FILE")
    };
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|error| no_plan(&error.to_string()))?;
    if value.get("form").and_then(Value::as_str) != Some(FORM) {
        return Err(no_plan("expected what `plan --out` writes"));
    }
    if value.get("schema_version").and_then(Value::as_u64) != Some(u64::from(PLAN_VERSION)) {
        let found = value.get("schema_version").cloned().unwrap_or_default();
        return Err(no_plan(&format!("expected version {PLAN_VERSION} of its form, found {found}")));
    }
    let kept = value.get("sum").and_then(Value::as_str).filter(|sum| sum.len() == NO_SUM.len());
    let kept = kept.ok_or_else(|| no_plan("expected its checksum, `sum`"))?;
    if kept != sum(&String::from_utf8_lossy(&bytes).replacen(kept, NO_SUM, 1)) {
        return Err(Failure::invalid(format!("the plan `{shown}` was changed since it was written")).hint(
            "nothing was changed; make the plan anew and read it: shakedown plan PLAYBOOK --out FILE",
        ));
    }
    let plan = value.get_mut("plan").map(Value::take).unwrap_or_default();
    Ok(Saved {
        program: value.get("program").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
        probed: value.get("probed").and_then(Value::as_bool).unwrap_or(false),
        plan: serde_json::from_value(plan).map_err(|error| no_plan(&error.to_string()))?,
    })
}

fn missing_kinds<'p>(plan: &'p Plan, registry: &Registry) -> Vec<&'p str> {
    let undos = plan.steps.iter().filter_map(|step| step.undo.as_ref());
    let bodies = plan.steps.iter().map(|step| &step.body).chain(undos);
    let mut kinds: Vec<&str> =
        bodies.map(|body| body.kind.as_str()).filter(|kind| registry.get(kind).is_none()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// A step that would have passed when it was planned, and would fail now.
fn turned(then: &PlannedStep, now: &PlannedStep) -> Option<String> {
    let failed = |step: &PlannedStep| match &step.forecast {
        Forecast::Observed(Probe { prospect: Prospect::WouldFail(error), .. }) => Some(error.message.clone()),
        _ => None,
    };
    let seen = match &then.forecast {
        Forecast::Observed(Probe { now, .. }) if !now.is_empty() => format!(" (`{now}`)"),
        _ => String::new(),
    };
    match (failed(then), failed(now)) {
        (None, Some(why)) => {
            Some(format!("step `{}` did not fail then{seen}, and would fail now: {why}", now.id))
        }
        _ => None,
    }
}

fn drifted(file: &str, lines: &[String]) -> Failure {
    let lines = lines.iter().map(|line| format!("\n  {line}")).collect::<String>();
    Failure::invalid(format!("the plan `{file}` does not hold any more:{lines}"))
        .hint("nothing was changed; make the plan anew and read it: shakedown plan PLAYBOOK --out FILE")
}
