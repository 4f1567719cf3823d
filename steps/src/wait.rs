//! `wait`: for a time, or until read-only steps show what is wanted.

use engine::{
    Step, StepError,
    error::ErrorClass,
    quantity::Millis,
    step::{Condition, Context, Description, Docs, Nested, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// The first pause between two looks; it grows up to `every`, so that quick changes are noticed at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause unless `every` says otherwise.
const EVERY: Millis = Millis(500);
/// The most changes that the time line keeps.
const TIMELINE: usize = 200;

/// The step type.
pub struct Wait;

/// Exactly one of `for`, `until` and `watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Wait this long and no longer.
    #[serde(default, rename = "for")]
    duration: Option<Millis>,
    /// A read-only step that is run again and again; conditions see its output as `out`.
    #[serde(default)]
    until: Option<Nested>,
    /// Several read-only steps; conditions see their outputs under these names.
    #[serde(default)]
    watch: Option<BTreeMap<String, Nested>>,
    /// Ends the wait well. Without it, `until` ends once its step succeeds.
    #[serde(default)]
    succeed_when: Option<Condition>,
    /// Ends the wait as a failure, at once.
    #[serde(default)]
    fail_when: Option<Condition>,
    /// The longest pause between two looks; 500 ms if not given. The first pauses are shorter.
    #[serde(default)]
    every: Option<Millis>,
    /// `succeed_when` must hold this long without a break.
    #[serde(default)]
    stable_for: Option<Millis>,
}

/// What a wait saw.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The last output of the `until` step, so that others read `steps.ID.out.out.row`.
    #[serde(default)]
    pub out: Value,
    /// The last outputs of the `watch` steps by name.
    #[serde(default)]
    pub watch: BTreeMap<String, Value>,
    /// How often it looked.
    pub attempts: u64,
    /// How long it waited, in milliseconds.
    pub waited_ms: u64,
    /// Each change of what it saw, with its time.
    pub timeline: Vec<Seen>,
}

/// A change of what a wait saw.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Milliseconds since the wait began.
    pub at_ms: u64,
    /// What it saw.
    pub saw: String,
}

impl Step for Wait {
    const KIND: &'static str = "wait";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "waits for a time, or until something holds",
            details: "`for` waits a fixed time. `until` runs a read-only step again and again, `watch` several of \
                      them side by side; `succeed_when` ends the wait well and `fail_when` ends it as a failure at \
                      once, rather than at the timeout. The first looks follow each other quickly, then the pause \
                      grows up to `every`.\n\nWhile it waits, errors that may pass (a file that is not there yet, a \
                      busy database, a host that is away) count as \"not yet\". Errors that cannot pass (a wrong \
                      parameter, no permission) end the wait. The step's `timeout` bounds it; 30 minutes if not \
                      given. The message of a timeout ends with what was last seen.\n\nIts output holds the last \
                      output of the watched step as `out`: others read `steps.ID.out.out.row`.",
            example: "transferred:\n  wait:\n    until:\n      sqlite:\n        database: /data/media_status.db\n        \
                      query: SELECT transfer_status FROM media_transfer_status WHERE id = 7\n    \
                      succeed_when: out.row.transfer_status == \"completed\"\n    \
                      fail_when: out.row.transfer_status == \"failed\"\n  timeout: 12m\n",
            errors: &[
                ("expectation", "`fail_when` holds; the message quotes the values behind it"),
                ("timeout", "raise `timeout`, or add a `fail_when` for the state that never ends"),
                ("invalid", "a condition is neither true nor false; look at the fields of the watched step"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let title = if view.has("for") {
            format!("wait {}", view.show("for"))
        } else if view.has("succeed_when") {
            format!("until {}", view.show("succeed_when"))
        } else {
            "until the step succeeds".to_owned()
        };
        Description::waits(title)
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut wrong = view.exactly_one(&["for", "until", "watch"]);
        if view.has("for") {
            for key in view.present(&["succeed_when", "fail_when", "every", "stable_for"]) {
                wrong.push((key.to_owned(), format!("`{key}` cannot go with `for`")));
            }
        }
        if view.has("watch") && !view.has("succeed_when") {
            wrong.push((
                "watch".into(),
                "`watch` needs `succeed_when`: which of its steps is the one to wait for?".into(),
            ));
        }
        wrong
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        let begun = Instant::now();
        if let Some(duration) = params.duration {
            pause(cx, duration.duration()).await?;
            return Ok(Output { waited_ms: ms_since(begun), ..Output::default() });
        }
        Watching::new(cx, params, begun).run().await
    }

    fn summary(&self, output: &Output) -> String {
        output.timeline.last().map(|seen| seen.saw.clone()).unwrap_or_default()
    }
}

fn ms_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn pause(cx: &Context, duration: Duration) -> Result<(), StepError> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        () = cx.cancel.cancelled() => Err(StepError::new(ErrorClass::Cancelled, "the wait was stopped")),
    }
}

/// One wait on steps.
struct Watching<'a> {
    cx: &'a Context,
    params: &'a Params,
    begun: Instant,
    output: Output,
    /// Since when `succeed_when` has held.
    holds_since: Option<Instant>,
}

/// What one look came to.
enum Look {
    /// All steps gave an output: the names that conditions see.
    Seen(Map<String, Value>),
    /// A step failed in a way that may pass.
    NotYet(String),
}

impl<'a> Watching<'a> {
    fn new(cx: &'a Context, params: &'a Params, begun: Instant) -> Self {
        Self { cx, params, begun, output: Output::default(), holds_since: None }
    }

    async fn run(mut self) -> Result<Output, StepError> {
        let longest = self.params.every.unwrap_or(EVERY).duration().max(Duration::from_millis(1));
        let mut next = FIRST_PAUSE.min(longest);
        loop {
            if self.cx.cancel.is_cancelled() {
                return Err(StepError::new(ErrorClass::Cancelled, "the wait was stopped"));
            }
            self.output.attempts += 1;
            match self.look().await? {
                Look::NotYet(why) => {
                    self.holds_since = None;
                    self.note(why);
                }
                Look::Seen(names) => {
                    if self.judge(&names)? {
                        self.output.waited_ms = ms_since(self.begun);
                        return Ok(self.output);
                    }
                }
            }
            pause(self.cx, next).await?;
            next = (next * 3 / 2).min(longest);
        }
    }

    /// Runs the watched steps once.
    async fn look(&mut self) -> Result<Look, StepError> {
        let mut names = Map::new();
        if let Some(nested) = &self.params.until {
            match self.cx.run_nested(nested).await {
                Ok(out) => {
                    self.output.out = out.clone();
                    names.insert("out".into(), out);
                }
                Err(error) if may_pass(error.class) => return Ok(Look::NotYet(error.message)),
                Err(error) => return Err(error),
            }
        }
        for (name, nested) in self.params.watch.iter().flatten() {
            match self.cx.run_nested(nested).await {
                Ok(out) => {
                    self.output.watch.insert(name.clone(), out.clone());
                    names.insert(name.clone(), out);
                }
                Err(error) if may_pass(error.class) => {
                    return Ok(Look::NotYet(format!("{name}: {}", error.message)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Look::Seen(names))
    }

    /// Whether the wait is over.
    fn judge(&mut self, names: &Map<String, Value>) -> Result<bool, StepError> {
        let Some(succeed_when) = &self.params.succeed_when else {
            self.note("it succeeds".into());
            return Ok(self.has_been_stable(true));
        };
        self.note(shorten(&self.cx.explain(succeed_when, names)));
        // Success wins when both hold: what was wanted has come true.
        let succeeds = self.evaluate(succeed_when, names)?;
        if !succeeds
            && let Some(fail_when) = &self.params.fail_when
            && self.evaluate(fail_when, names)?
        {
            return Err(self.failure(fail_when, names));
        }
        Ok(self.has_been_stable(succeeds))
    }

    fn has_been_stable(&mut self, holds: bool) -> bool {
        if !holds {
            self.holds_since = None;
            return false;
        }
        let since = *self.holds_since.get_or_insert_with(Instant::now);
        self.params.stable_for.is_none_or(|needed| since.elapsed() >= needed.duration())
    }

    /// A value that is not there yet (the row before it is written) is not yet, and no mistake.
    fn evaluate(&self, condition: &Condition, names: &Map<String, Value>) -> Result<bool, StepError> {
        match self.cx.holds(condition, names) {
            Err(error) if error.message.contains("no such key") || error.message.contains("null") => {
                Ok(false)
            }
            other => other,
        }
    }

    fn failure(&self, fail_when: &Condition, names: &Map<String, Value>) -> StepError {
        let values = self.cx.explain(fail_when, names);
        let quoted = quotes(names);
        let mut message = shorten(&values);
        for line in &quoted {
            message.push_str(&format!(": {line}"));
        }
        let mut error = StepError::expectation(message);
        error.details = quoted;
        error.details.push(format!("`fail_when: {}` holds", fail_when.0));
        error.details.extend(values);
        error
    }

    fn note(&mut self, saw: String) {
        if self.output.timeline.last().is_some_and(|last| last.saw == saw) {
            return;
        }
        self.cx.sees(saw.clone());
        if self.output.timeline.len() < TIMELINE {
            self.output.timeline.push(Seen { at_ms: ms_since(self.begun), saw });
        }
    }
}

/// Whether an error may go away by itself.
fn may_pass(class: ErrorClass) -> bool {
    !matches!(
        class,
        ErrorClass::Invalid
            | ErrorClass::Unsupported
            | ErrorClass::Denied
            | ErrorClass::Internal
            | ErrorClass::Cancelled
    )
}

/// `out.row.transfer_status is "failed"` as `transfer_status is "failed"`.
fn shorten(values: &[String]) -> String {
    let short = values.iter().map(|line| match line.split_once(" is ") {
        Some((path, value)) if !path.contains(['(', '[', ' ']) => {
            format!("{} is {value}", path.rsplit('.').next().unwrap_or(path))
        }
        _ => line.clone(),
    });
    short.collect::<Vec<_>>().join(", ")
}

/// What the watched things themselves say of a failure: error columns of rows, messages of a journal.
fn quotes(names: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for value in names.values() {
        if let Some(Value::Object(row)) = value.get("row") {
            let said =
                row.iter().filter(|(column, _)| column.contains("error") || column.contains("message"));
            lines.extend(
                said.filter_map(|(_, text)| text.as_str()).filter(|text| !text.is_empty()).map(str::to_owned),
            );
        }
        if let Some(Value::Array(entries)) = value.get("entries") {
            let messages: Vec<&str> =
                entries.iter().filter_map(|entry| entry.get("message")?.as_str()).collect();
            lines.extend(messages[messages.len().saturating_sub(3)..].iter().map(|line| (*line).to_owned()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use engine::error::ErrorClass;
    use serde_json::json;

    fn until(path: &str) -> serde_json::Value {
        json!({ "until": { "file": { "stat": path } }, "succeed_when": "out.exists", "every": "20ms" })
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_wait_takes_its_time_and_can_be_stopped() {
        let bench = Bench::new();
        let begun = tokio::time::Instant::now();
        bench.run("wait", json!({ "for": "10m" })).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 600, "on the paused clock");
        bench.cancel.cancel();
        assert_eq!(
            bench.run("wait", json!({ "for": "10m" })).await.unwrap_err().class,
            ErrorClass::Cancelled
        );
    }

    #[tokio::test]
    async fn it_ends_once_the_condition_holds_and_keeps_what_it_saw() {
        let bench = Bench::new();
        let path = bench.at("later");
        let appear = async {
            tokio::task::yield_now().await;
            std::fs::write(&path, "x").unwrap();
        };
        let (out, ()) = tokio::join!(bench.run("wait", until(&path)), appear);
        let out = out.unwrap();
        assert_eq!(out["out"]["exists"], true);
        let last = out["timeline"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["saw"], "exists is true");
    }

    #[tokio::test]
    async fn fail_when_ends_it_at_once_with_the_words_of_what_it_watches() {
        let bench = Bench::new();
        let owner = rusqlite::Connection::open(bench.path("q.db")).unwrap();
        owner
            .execute_batch(
                "CREATE TABLE q (state, last_error_message); INSERT INTO q VALUES ('failed', '连接中断')",
            )
            .unwrap();
        let watch = json!({
            "watch": { "job": { "sqlite": { "database": bench.at("q.db"), "query": "SELECT * FROM q" } } },
            "succeed_when": "job.row.state == 'completed'",
            "fail_when": "job.row.state == 'failed'",
        });
        let error = bench.run("wait", watch).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Expectation);
        assert_eq!(error.message, "state is \"failed\": 连接中断");
    }

    #[tokio::test]
    async fn what_cannot_pass_ends_it_and_what_may_pass_does_not() {
        let bench = Bench::new();
        let wrong = json!({ "until": { "file": { "stat": "" } }, "succeed_when": "out.exists" });
        assert_eq!(bench.run("wait", wrong).await.unwrap_err().class, ErrorClass::Invalid);
        let database = bench.at("late.db");
        let query = json!({ "until": { "sqlite": { "database": database, "query": "SELECT 1 AS one" } }, "every": "10ms" });
        let appear = async {
            tokio::task::yield_now().await;
            rusqlite::Connection::open(bench.path("late.db"))
                .unwrap()
                .execute_batch("CREATE TABLE t (x)")
                .unwrap();
        };
        let (out, ()) = tokio::join!(bench.run("wait", query), appear);
        assert_eq!(out.unwrap()["out"]["row"]["one"], 1);
    }
}
