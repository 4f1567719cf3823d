//! What the tests of all step types share: a context over this machine and a way to call a step as the engine does.

use engine::{
    StepError,
    degraded::Degradations,
    event::{Phase, ProgressSink},
    expr::Scope,
    host::{BoxFuture, CancelSource, Connector, Host, HostSpec},
    local::process::LocalHost,
    step::{
        Amend, Chronicle, Context, Description, ParamsView, Presence, Probe, RunInfo, Services, Settled,
        Undone,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

/// A folder, a context and the built-in step types.
pub(crate) struct Bench {
    /// A folder of the test's own, removed with the bench.
    pub(crate) dir: TempDir,
    /// What steps are handed; change it at will.
    pub(crate) cx: Context,
    /// Raises `cx.cancel`.
    pub(crate) cancel: CancelSource,
    /// The intent that a step has put in the place of its first one.
    pub(crate) amended: Arc<Mutex<Option<Value>>>,
    /// What undos have put in the place of an intent, by that.
    noted: Mutex<BTreeMap<String, Value>>,
}

/// A step that has been started as the engine starts it: with its intent made before.
pub(crate) struct Started {
    kind: &'static str,
    params: Value,
    /// What would be in the journal.
    pub(crate) intent: Value,
    /// What it gave.
    pub(crate) result: Result<Value, StepError>,
}

/// Knows no host.
struct NoHosts;

impl Connector for NoHosts {
    fn connect<'a>(&'a self, spec: &'a HostSpec) -> BoxFuture<'a, Result<Arc<dyn Host>, StepError>> {
        Box::pin(async { Err(StepError::internal(format!("no connection to `{}` in this test", spec.name))) })
    }
}

impl Bench {
    /// A bench without other hosts.
    pub(crate) fn new() -> Self {
        Self::with_hosts(|_| Arc::new(NoHosts), [])
    }

    /// A bench whose steps can name `hosts`; `connector` is given the scratch folder.
    pub(crate) fn with_hosts(
        connector: impl FnOnce(&Path) -> Arc<dyn Connector>,
        hosts: impl IntoIterator<Item = HostSpec>,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let scratch = dir.path().join("scratch");
        std::fs::create_dir(&scratch).expect("a scratch folder");
        let local: Arc<dyn Host> = Arc::new(LocalHost::new());
        let services = Services {
            registry: crate::builtin(),
            local: local.clone(),
            connector: connector(&scratch),
            hosts: hosts.into_iter().map(|spec| (spec.name.clone(), spec)).collect(),
            open: tokio::sync::Mutex::default(),
            run: RunInfo {
                id: "01JH0000000000000000000000".into(),
                stamp: "20250123_101500".into(),
                started_at: "2025-01-23T10:15:00+00:00".into(),
                host: "bench".into(),
                user: "tester".into(),
                dir: dir.path().display().to_string(),
                exe: std::env::current_exe().expect("the test's program").display().to_string(),
            },
            scratch,
            resident: tokio::sync::Mutex::new(BTreeMap::new()),
            secrets: Arc::default(),
            degraded: Degradations::default(),
            looks_only: false,
        };
        let (cancel, signal) = CancelSource::new();
        let amended = Arc::new(Mutex::new(None));
        let journal = amended.clone();
        let cx = Context {
            services: Arc::new(services),
            step: "it".into(),
            phase: Phase::Prepare,
            attempt: 1,
            undoing: false,
            host: local,
            cancel: signal,
            scope: Arc::new(Scope::default()),
            progress: ProgressSink::none(),
            amend: Amend::new(move |intent| {
                *journal.lock().expect("whole") = Some(intent);
                Box::pin(async { true })
            }),
            chronicle: Chronicle::default(),
        };
        Self { dir, cx, cancel, amended, noted: Mutex::default() }
    }

    /// A path in the bench's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes the intent and runs the step.
    pub(crate) async fn start(&self, kind: &'static str, params: Value) -> Started {
        let step = step(kind);
        let intent = match step.accepts(&params) {
            Ok(()) => step.intend(&self.cx, &params).await,
            Err(error) => Err(error),
        };
        let (intent, result) = match intent {
            Ok(intent) => {
                // The journal keeps text; what does not survive it is lost in a recovery.
                let intent: Value = serde_json::from_str(&intent.to_string()).expect("an intent is JSON");
                let result = step.run(&self.cx, &params, &intent).await;
                let amended = self.amended.lock().expect("whole").take();
                (amended.unwrap_or(intent), result)
            }
            Err(error) => (Value::Null, Err(error)),
        };
        Started { kind, params, intent, result }
    }

    /// Runs the step and gives its output.
    pub(crate) async fn run(&self, kind: &'static str, params: Value) -> Result<Value, StepError> {
        self.start(kind, params).await.result
    }

    /// Makes the intent and no more, as before a crash.
    pub(crate) async fn intend(&self, kind: &'static str, params: Value) -> Started {
        let intent = step(kind).intend(&self.cx, &params).await.expect("an intent");
        let intent: Value = serde_json::from_str(&intent.to_string()).expect("an intent is JSON");
        Started { kind, params, intent, result: Err(StepError::internal("not run")) }
    }

    /// Runs a step whose intent was made before.
    pub(crate) async fn go_on(&self, it: &mut Started) {
        it.result = step(it.kind).run(&self.cx, &it.params, &it.intent).await;
        if let Some(amended) = self.amended.lock().expect("whole").take() {
            it.intent = amended;
        }
    }

    /// The intent that the journal holds now.
    fn last_intent(&self, it: &Started) -> Value {
        self.noted.lock().expect("whole").get(&it.intent.to_string()).unwrap_or(&it.intent).clone()
    }

    /// Asks what became of the step, as after a crash.
    pub(crate) async fn settle(&self, it: &Started) -> Result<Settled<Value>, StepError> {
        step(it.kind).settle(&self.cx, &it.params, &self.last_intent(it)).await
    }

    /// Takes the step back, as after its end.
    pub(crate) async fn undo(&self, it: &Started) -> Result<Undone, StepError> {
        self.take_back(it, it.result.as_ref().ok()).await
    }

    /// Takes the step back as after a crash: its output is not known.
    pub(crate) async fn undo_blindly(&self, it: &Started) -> Result<Undone, StepError> {
        self.take_back(it, None).await
    }

    async fn take_back(&self, it: &Started, output: Option<&Value>) -> Result<Undone, StepError> {
        let undone = step(it.kind).undo(&self.cx, &it.params, &self.last_intent(it), output).await;
        if let Some(intent) = self.amended.lock().expect("whole").take() {
            self.noted.lock().expect("whole").insert(it.intent.to_string(), intent);
        }
        undone
    }

    /// Removes what was put by for the undo, as of a step that is kept.
    pub(crate) async fn release(&self, it: &Started) -> Result<(), StepError> {
        step(it.kind).release(&self.cx, &it.params, &self.last_intent(it)).await
    }

    /// Looks for what the step made.
    pub(crate) async fn presence(&self, it: &Started) -> Result<Presence, StepError> {
        step(it.kind).presence(&self.cx, &it.params, &self.last_intent(it), it.result.as_ref().ok()).await
    }

    /// Looks ahead, as the plan does.
    pub(crate) async fn probe(&self, kind: &'static str, params: &Value) -> Result<Probe, StepError> {
        step(kind).probe(&self.cx, params).await
    }
}

fn step(kind: &'static str) -> Arc<dyn engine::step::DynStep> {
    crate::builtin().get(kind).unwrap_or_else(|| panic!("no step type `{kind}`")).clone()
}

/// What the plan says of fully known parameters.
pub(crate) fn describe(kind: &'static str, params: &Value) -> Description {
    step(kind).describe(&ParamsView::new(params, &BTreeSet::new()))
}

/// What reading a playbook says against these parameters: a line each, as `key: message`.
pub(crate) fn check(kind: &'static str, params: &Value) -> Vec<String> {
    let problems = step(kind).check(&ParamsView::new(params, &BTreeSet::new()));
    problems.into_iter().map(|(key, message)| format!("{key}: {message}")).collect()
}

/// Asks every few milliseconds until it holds. The limit only ends a test that would hang.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

#[test]
fn every_step_type_documents_a_step_that_its_own_schema_knows() {
    for step in crate::builtin().iter() {
        let docs = step.docs();
        let kind = step.kind();
        assert!(!docs.summary.is_empty() && !docs.details.is_empty() && !docs.errors.is_empty(), "{kind}");
        assert!(docs.example.contains(&format!("{kind}:")), "the example of `{kind}` does not use it");
        let schema = step.params_schema();
        let documented = |schema: &Value| {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            properties.iter().all(|(_, property)| property["description"].is_string())
        };
        assert!(documented(&schema), "a parameter of `{kind}` has no description: {schema}");
        let schema = step.output_schema();
        assert!(documented(&schema), "an output of `{kind}` has no description: {schema}");
    }
}
