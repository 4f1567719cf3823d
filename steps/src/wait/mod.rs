//! `wait`: for a time, or until read-only steps show what is wanted.

mod source;
mod watching;

use crate::sqlite::Effort;
use engine::{
    Step, StepError,
    error::ErrorClass,
    quantity::Millis,
    step::{Condition, Context, Description, Docs, Nested, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;
use watching::Watching;

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
    /// The longest pause between two looks. Without it 500 ms for what has to be asked, after shorter first pauses; 2 s
    /// and more for what gives word of its changes by itself.
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
    /// How often it was given word of a change, rather than looking because it was time to.
    #[serde(default)]
    pub notices: u64,
    /// How long it waited, in milliseconds: the time until it was true, and had been for `stable_for`.
    pub waited_ms: u64,
    /// When the condition came true for good, in milliseconds since the wait began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_at_ms: Option<u64>,
    /// What its looks at databases took, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db: Option<Effort>,
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
                      once, rather than at the timeout; if both hold, it ends well. Of `watch` a condition is \
                      judged as soon as the steps that it names have shown something.\n\nFiles, SQLite databases, units and the journal of this machine give \
                      word of their changes (inotify, D-Bus, pidfd), so that a wait on them ends within \
                      milliseconds and costs next to nothing. All else, and everything on other hosts, is asked again and \
                      again: the first looks follow each other quickly, then the pause grows up to `every`. \
                      With `stable_for` the condition must be seen to hold that long without a break.\n\nThe output keeps a \
                      `timeline`: each change of what was seen, with its time.\n\nWhile it waits, errors that may pass (a file that is not there yet, a \
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
        Watching::new(cx, params, begun).await.run().await
    }

    fn summary(&self, output: &Output) -> String {
        output.timeline.last().map(|seen| seen.saw.clone()).unwrap_or_default()
    }
}

fn ms_since(begun: Instant) -> u64 {
    Millis::from(begun.elapsed()).0
}

async fn pause(cx: &Context, duration: Duration) -> Result<(), StepError> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        () = cx.cancel.cancelled() => Err(StepError::new(ErrorClass::Cancelled, "the wait was stopped")),
    }
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
    async fn fail_when_alone_ends_it_though_its_step_succeeds() {
        let bench = Bench::new();
        std::fs::write(bench.path("s.json"), r#"{"state": "failed"}"#).unwrap();
        let until = |condition: &str| {
            let get = json!({ "json": { "path": bench.at("s.json"), "get": "/state" } });
            json!({ "until": get, "fail_when": condition })
        };
        let error = bench.run("wait", until("out.value == 'failed'")).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Expectation, "{error:?}");
        assert!(bench.run("wait", until("out.value == 'other'")).await.is_ok());
    }

    #[tokio::test]
    async fn one_that_shows_nothing_does_not_hide_the_others() {
        let bench = Bench::new();
        std::fs::write(bench.path("s.json"), r#"{"state": "failed"}"#).unwrap();
        let watch = |succeed: &str, fail: &str| {
            json!({
                "watch": {
                    "job": { "json": { "path": bench.at("s.json"), "get": "/state" } },
                    "queue": { "sqlite": { "database": bench.at("none.db"), "query": "SELECT 1 AS one" } },
                },
                "succeed_when": succeed, "fail_when": fail, "every": "10ms",
            })
        };
        let done = "queue.row.one == 1";
        let error = bench.run("wait", watch(done, "job.value == 'failed'")).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Expectation, "{error:?}");
        assert!(bench.run("wait", watch("job.value == 'failed'", "queue.row.one == 2")).await.is_ok());
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
