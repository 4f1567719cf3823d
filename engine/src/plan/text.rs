//! A plan for people, as aligned lines, and for machines, as JSON. Says what is seen now, what will be done and what
//! only the run can tell; never that something will succeed.

use super::{Forecast, PLAN_VERSION, Plan, PlannedStep, Totals};
use crate::{
    error::{ErrorClass, StepError},
    event::{Phase, StepId},
    playbook::{Keep, Template},
    quantity::Millis,
    report::{Style, Tone, console::count, escape, escape_lines, hint, pad, shorten, width},
    step::{Effect, Probe, Prospect},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// The widest column of titles and of states; what is longer stands out of it.
const TITLE_COLUMN: usize = 72;
const STATE_COLUMN: usize = 30;
/// A title is never shortened below this.
const LEAST_TITLE: usize = 24;

/// How a plan is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Its colours.
    pub style: Style,
    /// The columns of the terminal; without one nothing is shortened.
    pub width: Option<usize>,
    /// Whether conditions, limits and retries are shown below each step.
    pub verbose: bool,
    /// Whether the system was asked at all.
    pub probed: bool,
}

/// A plan as JSON.
#[derive(Serialize, JsonSchema)]
pub struct Document<'a> {
    /// The version of the plan's form.
    pub schema_version: u32,
    /// The plan in numbers.
    pub totals: Totals,
    /// The plan.
    pub plan: &'a Plan,
}

/// The plan as JSON, with a newline at its end.
#[must_use]
pub fn json(plan: &Plan) -> String {
    let document = Document { schema_version: PLAN_VERSION, totals: plan.totals(), plan };
    crate::report::json::pretty(&document)
}

/// The JSON Schema of [`json`].
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Document<'_>).to_value()
}

/// The exit code of `shakedown plan`: 0 runnable, 1 a step would fail, 5 a target could not be asked.
#[must_use]
pub fn exit_code(plan: &Plan) -> u8 {
    let unasked = |error: &StepError| {
        matches!(error.class, ErrorClass::Unreachable | ErrorClass::Timeout | ErrorClass::Internal)
    };
    let failures: Vec<(&PlannedStep, &StepError)> = plan.predicted_failures().collect();
    let would_fail = failures.iter().any(|(step, error)| !step.continue_on_error && !unasked(error));
    match (would_fail, failures.iter().any(|(_, error)| unasked(error))) {
        (true, _) => 1,
        (false, true) => 5,
        (false, false) => 0,
    }
}

/// The plan in lines.
#[must_use]
pub fn lines(plan: &Plan, options: &Options) -> Vec<String> {
    let rows: Vec<Row> = (0..plan.steps.len()).map(|i| Row::new(plan, StepId(i), options)).collect();
    let columns = Columns::fit(&rows, options.width);
    let mut lines = vec![head(plan, options)];
    for phase in Phase::ALL {
        let mut of_phase = rows.iter().filter(|row| row.phase == phase).peekable();
        if of_phase.peek().is_none() {
            continue;
        }
        lines.push(String::new());
        let note = match phase {
            Phase::OnFailure => "  only if the run fails",
            _ => "",
        };
        let name = options.style.paint(Tone::Strong, phase.name());
        lines.push(format!("{name}{}", options.style.paint(Tone::Faint, note)));
        of_phase.for_each(|row| row.write(&columns, options.style, &mut lines));
    }
    lines.push(String::new());
    lines.push(foot(plan, options.style));
    lines
}

fn head(plan: &Plan, options: &Options) -> String {
    let title = format!("plan {} on {}", escape(&plan.playbook), escape(&plan.run.host));
    let asked = plan.steps.iter().filter(|step| matches!(step.forecast, Forecast::Observed(_))).count();
    let probes = match (options.probed, asked) {
        (false, _) => "probes: none, the system was not asked".to_owned(),
        (true, n) => format!("probes: {n} read-only"),
    };
    let title = pad(&title, 48);
    format!("{}{}   {probes}", options.style.paint(Tone::Strong, &title), plan.short_hash())
}

fn foot(plan: &Plan, style: Style) -> String {
    let totals = plan.totals();
    let Totals { undone, without_undo, .. } = totals;
    let effects =
        format!("{} ({undone} undone, {without_undo} without undo)", count(totals.effects, "effect"));
    let kinds = [
        (totals.checks, count(totals.checks, "check")),
        (totals.effects, effects),
        (totals.waits, count(totals.waits, "wait")),
        (totals.cleanup, format!("{} cleanup", totals.cleanup)),
        (totals.diagnostics, format!("{} only after a failure", totals.diagnostics)),
        (totals.skipped, format!("{} skipped", totals.skipped)),
    ];
    let kinds: Vec<String> = kinds.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect();
    let mut parts = vec![match kinds.as_slice() {
        [] => "no steps".to_owned(),
        kinds => format!("{}: {}", count(totals.steps, "step"), kinds.join(", ")),
    }];
    // The undo has a limit for each step; it is not what a run that passes waits for.
    let apart = if undone > 0 { ", undo apart" } else { "" };
    parts.push(format!("at worst {}{apart}", Millis(totals.worst_case_ms)));
    if !totals.locks.is_empty() {
        let names: Vec<_> = totals.locks.iter().map(|name| escape(name)).collect();
        let word = if names.len() == 1 { "lock" } else { "locks" };
        parts.push(format!("{word} {}", names.join(", ")));
    }
    if totals.predicted_failures > 0 {
        parts.push(style.paint(Tone::Bad, &count(totals.predicted_failures, "predicted failure")));
    }
    parts.join(" · ")
}

/// A step, column by column.
struct Row {
    phase: Phase,
    mark: (char, Tone),
    id: String,
    title: String,
    state: String,
    outlook: Vec<(Option<Tone>, String)>,
    below: Vec<String>,
}

struct Columns {
    id: usize,
    title: usize,
    state: usize,
    /// The columns of the terminal: titles are cut to their column, and what does not fit goes on below.
    terminal: Option<usize>,
}

impl Columns {
    fn fit(rows: &[Row], terminal: Option<usize>) -> Self {
        let widest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
        let id = widest(&|row| width(&row.id)).min(TITLE_COLUMN);
        let state = widest(&|row| width(&row.state)).min(STATE_COLUMN);
        let title = widest(&|row| width(&row.title));
        let Some(terminal) = terminal else {
            return Self { id, title: title.min(TITLE_COLUMN), state, terminal: None };
        };
        let outlook = widest(&|row| row.outlook.iter().map(|(_, text)| width(text) + 2).sum());
        let room = terminal.saturating_sub(4 + id + 2 + 2 + state + 2 + outlook).max(LEAST_TITLE);
        Self { id, title: title.min(room), state, terminal: Some(terminal) }
    }
}

impl Row {
    fn new(plan: &Plan, id: StepId, options: &Options) -> Self {
        let step = plan.step(id);
        let mut title = match &step.body.on {
            None => String::new(),
            Some(Template::Literal(Value::String(host))) if host == "local" => String::new(),
            Some(Template::Literal(Value::String(host))) => format!("{}: ", escape(host)),
            Some(_) => "on a host known in the run: ".into(),
        };
        title.push_str(&escape(&step.description.title));
        let mut row = Self {
            phase: step.phase,
            mark: mark(step),
            id: escape(&step.id).into_owned(),
            title,
            state: String::new(),
            outlook: Vec::new(),
            below: Vec::new(),
        };
        row.forecast(plan, id);
        if step.is_effect() && !matches!(step.forecast, Forecast::Skipped(_)) {
            row.undo(step);
        }
        if let Some(lock) = &step.lock {
            row.outlook.push((Some(Tone::Faint), format!("lock {}", escape(lock))));
        }
        if options.verbose {
            row.particulars(step);
        }
        row
    }

    fn forecast(&mut self, plan: &Plan, id: StepId) {
        let step = plan.step(id);
        match &step.forecast {
            Forecast::Observed(Probe { now, prospect }) => {
                let now = escape(now);
                if !now.is_empty() {
                    self.state = if step.is_effect() { now.into_owned() } else { format!("now: {now}") };
                }
                match prospect {
                    Prospect::WouldPass if step.is_effect() => {}
                    Prospect::WouldPass => self.outlook.push((None, "would pass".into())),
                    Prospect::Unknown => self.outlook.push((None, "known in the run".into())),
                    Prospect::WouldFail(error) => self.would_fail(plan, id, error),
                }
            }
            Forecast::Will if step.description.waits => self.state = at_most(step),
            Forecast::Will => {}
            Forecast::Skipped(why) => {
                self.state = "skipped".into();
                self.below.extend(escape_lines(why));
            }
            Forecast::Unknown(why) if step.description.waits => {
                self.state = at_most(step);
                self.outlook.push((None, escape(why).into_owned()));
            }
            Forecast::Unknown(why) => self.state = escape(why).into_owned(),
        }
    }

    fn would_fail(&mut self, plan: &Plan, id: StepId, error: &StepError) {
        let step = plan.step(id);
        self.outlook.push((Some(Tone::Bad), "WOULD FAIL".into()));
        self.outlook.push((Some(Tone::Faint), escape(&plan.place(step)).into_owned()));
        self.below.extend(escape_lines(&error.message));
        self.below.extend(error.details.iter().take(8).flat_map(|detail| escape_lines(detail)));
        let own = hint(plan, id, &Map::new());
        for advice in own.iter().chain(error.hint.iter().filter(|hint| Some(*hint) != own.as_ref())) {
            let mut words = escape_lines(advice).into_iter();
            self.below.push(format!("hint: {}", words.next().unwrap_or_default()));
            self.below.extend(words.map(|line| format!("      {line}")));
        }
    }

    fn undo(&mut self, step: &PlannedStep) {
        let words = step.undo_words().unwrap_or_default();
        if step.phase == Phase::Cleanup {
            return;
        }
        if !step.is_undoable() {
            self.outlook.push((Some(Tone::Bad), "NO UNDO".into()));
            return;
        }
        let text = match step.keep {
            Keep::Never => format!("undo: {words}"),
            Keep::OnFailure => format!("undo: {words}; kept if the run fails"),
            Keep::OnSuccess => format!("undo: {words}; kept if the run passes"),
            Keep::Always => "kept: `keep` is `always`".into(),
        };
        self.outlook.push((None, escape(&text).into_owned()));
    }

    fn particulars(&mut self, step: &PlannedStep) {
        for (key, expr) in [("when", &step.when), ("expect", &step.expect)] {
            if let Some(expr) = expr {
                self.below.push(format!("{key}: {}", escape(expr.text().trim())));
            }
        }
        let mut limits = vec![format!("timeout: {}", step.timeout)];
        if step.retry.attempts > 1 {
            limits
                .push(format!("up to {} attempts, {} apart at first", step.retry.attempts, step.retry.delay));
        }
        if step.continue_on_error {
            limits.push("its failure is tolerated".into());
        }
        self.below.push(limits.join(" · "));
    }

    fn write(&self, columns: &Columns, style: Style, lines: &mut Vec<String>) {
        let title = match columns.terminal {
            Some(_) => shorten(&self.title, columns.title),
            None => self.title.clone(),
        };
        let indent = 4 + columns.id + 2;
        let mut line = format!(
            "  {} {}  {}",
            style.paint(self.mark.1, &self.mark.0.to_string()),
            pad(&self.id, columns.id),
            pad(&title, columns.title)
        );
        // What is wider than its column takes a line of its own: the columns behind it stay where they are.
        let mut wrap = |line: &mut String, column: usize| {
            lines.push(std::mem::replace(line, " ".repeat(column)).trim_end().to_owned());
        };
        let more = !self.state.is_empty() || !self.outlook.is_empty();
        if more && (width(&self.id) > columns.id || width(&title) > columns.title) {
            wrap(&mut line, indent + columns.title);
        }
        line.push_str("  ");
        line.push_str(&pad(&self.state, columns.state));
        let before_outlook = indent + columns.title + 2 + columns.state;
        let outlook: usize = self.outlook.iter().map(|(_, text)| width(text) + 2).sum();
        let too_wide = columns.terminal.is_some_and(|terminal| before_outlook + outlook > terminal);
        if !self.outlook.is_empty() && width(&self.state) > columns.state {
            wrap(&mut line, before_outlook);
        } else if !self.outlook.is_empty() && too_wide && !self.state.is_empty() {
            wrap(&mut line, indent);
        }
        for (tone, text) in &self.outlook {
            line.push_str("  ");
            line.push_str(&tone.map_or_else(|| text.clone(), |tone| style.paint(tone, text)));
        }
        lines.push(line.trim_end().to_owned());
        lines.extend(self.below.iter().map(|line| format!("{:indent$}{line}", "")));
    }
}

fn mark(step: &PlannedStep) -> (char, Tone) {
    match (&step.forecast, &step.description.effect) {
        (Forecast::Skipped(_), _) => ('.', Tone::Faint),
        (_, Effect::Reads) if step.description.waits => ('~', Tone::Faint),
        (_, Effect::Reads) => ('?', Tone::Faint),
        (..) if step.phase == Phase::Cleanup => ('-', Tone::Change),
        (..) => ('+', Tone::Change),
    }
}

fn at_most(step: &PlannedStep) -> String {
    let Millis(ms) = step.timeout;
    format!("at most {}", Millis(ms.saturating_mul(u64::from(step.retry.attempts))))
}
