//! What a step is handed when it runs: its host, the services of the run, a way to report progress.

use super::{Changes, Chronicle, DynStep};
use crate::{
    degraded::Degradations,
    error::{ErrorClass, StepError},
    event::{Phase, Progress, ProgressSink},
    expr::{Expr, Scope},
    host::{BoxFuture, Cancel, Connector, Exec, Host, HostSpec, Output},
    registry::Registry,
    secret::{Revealed, Secrets},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio::sync::{Mutex, OnceCell};

/// What is known of the run itself; `run` in expressions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// The run's id: 26 characters, sortable by time.
    pub id: String,
    /// When it was planned, local time, as `20250123_101500`.
    pub stamp: String,
    /// When it was planned, RFC 3339 with offset.
    pub started_at: String,
    /// The name of this machine.
    pub host: String,
    /// The user that runs it.
    pub user: String,
    /// The working directory, absolute.
    pub dir: String,
    /// The running program, absolute; the quickstart starts its stand-in daemon by it.
    pub exe: String,
}

/// A host that is connected when it is first asked for.
type Opened = OnceCell<Arc<dyn Host>>;

/// What all steps of a run share.
pub struct Services {
    /// The step types.
    pub registry: Registry,
    /// This machine.
    pub local: Arc<dyn Host>,
    /// Opens connections to other hosts.
    pub connector: Arc<dyn Connector>,
    /// The hosts that the playbook names.
    pub hosts: BTreeMap<String, HostSpec>,
    /// Connections that are open, by the host's name.
    pub open: Mutex<BTreeMap<String, Arc<Opened>>>,
    /// The run.
    pub run: RunInfo,
    /// A private folder (mode 0700) of the run for sockets, logs and the like; removed at its end.
    pub scratch: PathBuf,
    /// Things that live from one step of the run to its end, such as background processes, by step.
    pub resident: Mutex<BTreeMap<String, Box<dyn std::any::Any + Send>>>,
    /// The secrets that the playbook names.
    pub secrets: Arc<Secrets>,
    /// What could not be used.
    pub degraded: Degradations,
    /// Whether a plan looks ahead rather than a run works: nothing may be opened for writing, not even to see whether
    /// it could be.
    pub looks_only: bool,
}

impl Services {
    /// The host of that name, connected once per run; without a name this machine.
    ///
    /// # Errors
    /// The name is unknown or the host does not answer.
    pub async fn host(&self, name: Option<&str>) -> Result<Arc<dyn Host>, StepError> {
        let Some(name) = name.filter(|name| *name != "local") else { return Ok(self.local.clone()) };
        let spec = self.hosts.get(name).ok_or_else(|| {
            let known = self.hosts.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            StepError::new(ErrorClass::Invalid, format!("unknown host `{name}`"))
                .hint(format!("the playbook's `hosts` are: {known}"))
        })?;
        // Each host has a cell of its own: one that does not answer holds up no other.
        let cell = self.open.lock().await.entry(name.to_owned()).or_default().clone();
        cell.get_or_try_init(|| self.connector.connect(spec)).await.cloned()
    }

    /// A command as a person types it on this machine, if it belongs on that host; without a name it stays as it is.
    #[must_use]
    pub fn typed_on(&self, host: Option<&str>, command: &str) -> String {
        match host.filter(|host| *host != "local").and_then(|host| self.hosts.get(host)) {
            Some(spec) if !command.is_empty() => spec.typed(command),
            _ => command.to_owned(),
        }
    }

    /// Notes what could not be used for a command of the playbook that ran on a host.
    pub fn note_degraded(&self, host: &dyn Host) {
        if let Some(degraded) = host.degraded() {
            self.degraded.note(degraded);
        }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        for (_, cell) in std::mem::take(&mut *self.open.lock().await) {
            if let Some(host) = cell.get() {
                host.close().await;
            }
        }
    }
}

/// What [`Amend`] calls: true once the intent is durable.
type TakeIntent = dyn Fn(Value) -> BoxFuture<'static, bool> + Send + Sync;

/// Makes a better intent durable in the middle of an effect; see [`Context::amend`].
#[derive(Clone)]
pub struct Amend(Arc<TakeIntent>);

impl Amend {
    /// One that hands intents to `take`.
    pub fn new(take: impl Fn(Value) -> BoxFuture<'static, bool> + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// For what has no journal: a probe, an undo, a step within another.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| Box::pin(async { true }))
    }
}

/// What one attempt of a step is handed.
#[derive(Clone)]
pub struct Context {
    /// What all steps share.
    pub services: Arc<Services>,
    /// The step's id, with the index of a `foreach` such as `media[2]`.
    pub step: String,
    /// The phase it stands in.
    pub phase: Phase,
    /// Whether this is a written undo at work.
    pub undoing: bool,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The host that `on` names, else this machine.
    pub host: Arc<dyn Host>,
    /// Raised when the step has to stop.
    pub cancel: Cancel,
    /// The values that the step's own conditions may use.
    pub scope: Arc<Scope>,
    /// Takes progress; may drop it.
    pub progress: ProgressSink,
    /// Takes a better intent while the effect is under way.
    pub amend: Amend,
    /// What the run has intended so far, for an undo and a look at what is left; empty for all others.
    pub chronicle: Chronicle,
}

impl Context {
    /// Runs a command on the step's host.
    ///
    /// # Errors
    /// It cannot be started, the connection broke, or the step was cancelled. A status other than 0 is no error.
    pub async fn exec(&self, exec: Exec) -> Result<Output, StepError> {
        let exec = Exec { secrets: self.services.secrets.clone(), ..exec };
        self.host.exec(exec, &self.cancel).await
    }

    /// Whether nobody will take back what this attempt does: it stands in `cleanup`, or is a written undo. Such a step
    /// puts nothing by for an undo of its own, neither copies nor records nor reserves, and leaves nothing beside its
    /// effect. It may be run again after a kill, and must then end as if it had run once.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.undoing || self.phase == Phase::Cleanup
    }

    /// Where a command of the playbook runs that names no working folder: on this machine where the run was planned,
    /// also when its undo is left to a recovery; on a host where the login puts it.
    #[must_use]
    pub fn default_dir(&self) -> Option<String> {
        self.host.is_local().then(|| self.services.run.dir.clone())
    }

    /// Tells what the step sees now, for a person who watches: lossy, never journaled.
    pub fn sees(&self, now: impl Into<String>) {
        let mut now = now.into();
        self.services.secrets.mask_text(&mut now);
        self.progress.send(&self.step, Progress::Sees(now));
    }

    /// Tells how many of how many bytes are done.
    pub fn bytes(&self, done: u64, total: u64) {
        self.progress.send(&self.step, Progress::Bytes { done, total });
    }

    /// Puts a better intent in the place of the one that [`Step::intend`](super::Step::intend) made, durable before this
    /// returns. For an effect in two steps: what is known only once it is half done, such as the key that a database
    /// gave or the inode of a file that has no name yet, is written down before the second half makes it visible. Whoever
    /// settles or undoes the attempt after a crash is handed the last intent.
    ///
    /// # Errors
    /// The journal cannot take it any more: the caller takes back what it has half done, and fails with this error.
    pub async fn amend<I: Serialize + Sync>(&self, intent: &I) -> Result<(), StepError> {
        let mut value = serde_json::to_value(intent)
            .map_err(|error| StepError::internal(format!("an intent is no JSON: {error}")))?;
        self.services.secrets.mask_value(&mut value);
        match (self.amend.0)(value).await {
            true => Ok(()),
            false => Err(StepError::internal("the journal takes no more: what was begun is not finished")),
        }
    }

    /// A value with its secrets put in, for what sends it on and keeps it nowhere: not in an output, an intent, an
    /// error, a log or an argument list.
    ///
    /// # Errors
    /// A secret was not found.
    pub fn reveal(&self, text: &str) -> Result<Revealed, StepError> {
        self.services.secrets.reveal(text)
    }

    /// Runs a nested, read-only step and gives its output.
    ///
    /// # Errors
    /// As that step type does.
    pub fn run_nested<'a>(&'a self, nested: &'a Nested) -> BoxFuture<'a, Result<Value, StepError>> {
        Box::pin(async move {
            let (step, cx) = self.nested(nested).await?;
            let intent = step.intend(&cx, &nested.params).await?;
            step.run(&cx, &nested.params, &intent).await
        })
    }

    /// Word of changes of what a nested step looks at, if there is any to be had.
    pub async fn nested_changes(&self, nested: &Nested) -> Option<Box<dyn Changes>> {
        let (step, cx) = self.nested(nested).await.ok()?;
        step.changes(&cx, &nested.params).await
    }

    async fn nested(&self, nested: &Nested) -> Result<(Arc<dyn DynStep>, Self), StepError> {
        let step = self.services.registry.get(&nested.kind).ok_or_else(|| {
            StepError::internal(format!("no step type `{}` for a nested step", nested.kind))
        })?;
        let mut cx = self.clone();
        cx.amend = Amend::none();
        if let Some(on) = &nested.on {
            cx.host = self.services.host(Some(on)).await?;
        }
        Ok((step.clone(), cx))
    }

    /// Evaluates a condition of this step's parameters over the run's values and `extra` names.
    ///
    /// # Errors
    /// It cannot be evaluated, or is neither true nor false.
    pub fn holds(&self, condition: &Condition, extra: &Map<String, Value>) -> Result<bool, StepError> {
        let scope = self.scope.with(extra);
        let fail = |message: String| StepError::new(ErrorClass::Invalid, message);
        let expr =
            Expr::compile(&condition.0).map_err(|e| fail(format!("`{}`: {}", condition.0, e.message)))?;
        match expr.eval(&scope).map_err(|error| error.of(&format!("`{}`", condition.0)))? {
            Value::Bool(truth) => Ok(truth),
            other => Err(fail(format!("`{}` is `{other}`, expected true or false", condition.0))),
        }
    }

    /// The values behind a condition, a line each, such as `out.row.status is "failed"`.
    #[must_use]
    pub fn explain(&self, condition: &Condition, extra: &Map<String, Value>) -> Vec<String> {
        Expr::compile(&condition.0).map(|expr| expr.explain(&self.scope.with(extra))).unwrap_or_default()
    }
}

/// A bare CEL expression among a step's parameters, such as `succeed_when`. The engine checks it while reading
/// and finds its references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition(pub String);

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "boolean"], "format": "condition" })
    }
}

/// A read-only step inside another's parameters, such as `wait.until`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nested {
    /// The step type.
    pub kind: String,
    /// Its rendered parameters.
    pub params: Value,
    /// The host to ask, if not the step's own.
    pub on: Option<String>,
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let mut map = Map::deserialize(deserializer)?;
        let on = match map.shift_remove("on") {
            None | Some(Value::Null) => None,
            Some(Value::String(on)) => Some(on),
            Some(other) => {
                return Err(D::Error::custom(format!("expected the name of a host, found `{other}`")));
            }
        };
        let mut rest = map.into_iter();
        match (rest.next(), rest.next()) {
            (Some((kind, params)), None) => Ok(Self { kind, params, on }),
            _ => Err(D::Error::custom("expected exactly one step type")),
        }
    }
}

impl JsonSchema for Nested {
    fn schema_name() -> Cow<'static, str> {
        "NestedStep".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "format": "step" })
    }
}
