//! Step types that take what the real ones take, so far as reading and planning go, and do nothing. Without the programs that the real
//! ones speak to, the targets build in a fraction of the time.

#![expect(dead_code, reason = "only the shapes of parameters count")]

use engine::{
    Registry, Step, StepError,
    quantity::{Bytes, Millis},
    step::{Condition, Context, Description, Docs, Nested, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An output of every type.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Out {
    code: i64,
    size: u64,
    share: f64,
    exists: bool,
    path: String,
    sha256: String,
    rowid: Option<i64>,
    row: Option<Map<String, Value>>,
    rows: Vec<Map<String, Value>>,
    out: Value,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandParams {
    /// The program and its words.
    #[serde(default)]
    pub run: Vec<String>,
    #[serde(default)]
    pub shell: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub stdin: Option<String>,
    #[serde(default)]
    pub ok_codes: Vec<i32>,
    #[serde(default)]
    pub reads: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitParams {
    #[serde(default, rename = "for")]
    pub duration: Option<Millis>,
    #[serde(default)]
    pub until: Option<Nested>,
    #[serde(default)]
    pub watch: Option<BTreeMap<String, Nested>>,
    #[serde(default)]
    pub succeed_when: Option<Condition>,
    #[serde(default)]
    pub fail_when: Option<Condition>,
    #[serde(default)]
    pub every: Option<Millis>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskParams {
    pub path: String,
    #[serde(default)]
    pub free: Option<Bytes>,
}

/// What it takes is told by its words alone: any map.
type Loose = Map<String, Value>;

macro_rules! kinds {
    ($($name:ident $kind:literal $params:ty, $describe:expr;)*) => {
        $(
            struct $name;

            impl Step for $name {
                const KIND: &'static str = $kind;
                type Params = $params;
                type Output = Out;
                type Intent = NoIntent;

                fn docs(&self) -> Docs {
                    Docs { summary: "", details: "", example: "", errors: &[], on_host: true }
                }
                fn describe(&self, view: &ParamsView<'_>) -> Description {
                    let describe: fn(&ParamsView<'_>) -> Description = $describe;
                    describe(view)
                }
                fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
                    vec![view.show("path")]
                }
                async fn intend(&self, _: &Context, _: &$params) -> Result<NoIntent, StepError> {
                    Ok(NoIntent {})
                }
                async fn run(&self, _: &Context, _: &$params, _: &NoIntent) -> Result<Out, StepError> {
                    Err(StepError::new(engine::ErrorClass::Invalid, "only for reading and planning"))
                }
            }
        )*
        /// All of them.
        pub fn registry() -> Registry {
            Registry::new()$(.with($name))*
        }
    };
}

fn acts(view: &ParamsView<'_>, reads: &[&str]) -> Description {
    match reads.iter().any(|key| view.has(key)) {
        true => Description::reads(view.show(reads[0])),
        false => Description::changes("change", "change it back"),
    }
}

kinds! {
    Command "command" CommandParams, |view| match view.is_true("reads") {
        true => Description::reads(view.show("run")),
        false => Description::needs_written_undo(view.show("run")),
    };
    Wait "wait" WaitParams, |view| Description::waits(view.show("succeed_when"));
    Disk "disk" DiskParams, |view| Description::reads(view.show("path"));
    File "file" Loose, |view| acts(view, &["stat"]);
    Hash "hash" Loose, |view| Description::reads(view.show("path"));
    Http "http" Loose, |view| acts(view, &["get"]);
    Journal "journal" Loose, |view| Description::reads(view.show("unit"));
    Json "json" Loose, |view| acts(view, &["get"]);
    Postgres "postgres" Loose, |view| acts(view, &["query", "check"]);
    Process "process" Loose, |view| acts(view, &["find"]);
    Redis "redis" Loose, |view| acts(view, &["get", "check"]);
    Sqlite "sqlite" Loose, |view| acts(view, &["query", "check"]);
    Ssh "ssh" Loose, |view| acts(view, &["reads", "download"]);
    Systemd "systemd" Loose, |view| acts(view, &["is"]);
    Tcp "tcp" Loose, |view| Description::reads(view.show("host"));
}
