//! A step type whose effects are lines in one shared log, and plans made of it by hand.

use engine::{
    Registry, Step, StepError,
    error::ErrorClass,
    event::{Decision, Phase, Purpose, Record, RunEvent},
    expr::{Expr, Outside},
    host::{BoxFuture, Cancel, Connector, Exec, Host, HostSpec, Output},
    journal::{Journal, JournalError, MemoryJournal},
    local::{Asker, DeadRun, FailedCheck, Faults, RunEnd, Setup, Signals, execute},
    plan::{Inputs, Plan, build},
    playbook::{self, Body, Foreach, Keep, Playbook, RetryDef, StepDef, Template},
    quantity::Millis,
    step::{Context, Description, Docs, Leftover, ParamsView, RunInfo, Services, Settled, Undone},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::Semaphore;

/// What happened, a word an effect.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// Whether the effect of that name has happened and has not been undone.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let lines = self.lines();
        let count = |line: &str| lines.iter().filter(|one| *one == line).count();
        count(name) > count(&format!("undo {name}"))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Writes its name to the log when it runs, and `undo NAME` when it is undone.
pub(crate) struct Mark {
    pub(crate) log: Log,
    /// A step with `gate: true` waits for a permit here.
    pub(crate) gate: Arc<Semaphore>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MarkParams {
    name: String,
    /// Only reads.
    #[serde(default)]
    #[expect(dead_code, reason = "`describe` looks at it before it is parsed")]
    reads: bool,
    /// The first so many attempts fail.
    #[serde(default)]
    fails: u32,
    /// The class of those failures.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    class: Option<ErrorClass>,
    /// Never ends by itself.
    #[serde(default)]
    hangs: bool,
    /// Takes so long.
    #[serde(default)]
    takes: Option<Millis>,
    /// Waits for the gate.
    #[serde(default)]
    gate: bool,
    /// Its undo is noted even if there is nothing to undo.
    #[serde(default = "yes")]
    counts: bool,
    /// Its undo fails.
    #[serde(default)]
    undo_fails: bool,
    /// Its undo may not look.
    #[serde(default)]
    hidden: bool,
    /// Only a written undo takes it back.
    #[serde(default)]
    #[expect(dead_code, reason = "`describe` looks at it before it is parsed")]
    lasts: bool,
    /// Half way it learns of a better token.
    #[serde(default)]
    amends: bool,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct MarkOutput {
    pub(crate) name: String,
    pub(crate) attempt: u32,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MarkIntent {
    token: String,
}

impl Step for Mark {
    const KIND: &'static str = "mark";
    type Params = MarkParams;
    type Output = MarkOutput;
    type Intent = MarkIntent;

    fn docs(&self) -> Docs {
        Docs { summary: "writes a line", details: "", example: "", errors: &[], on_host: false }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        match view.is_true("reads") {
            true => Description::reads(view.show("name")),
            false if view.is_true("lasts") => Description::needs_written_undo(view.show("name")),
            false => Description::changes(view.show("name"), "take the line back"),
        }
    }

    async fn intend(&self, _: &Context, params: &MarkParams) -> Result<MarkIntent, StepError> {
        Ok(MarkIntent { token: format!("token-{}", params.name) })
    }

    async fn run(
        &self,
        cx: &Context,
        params: &MarkParams,
        intent: &MarkIntent,
    ) -> Result<MarkOutput, StepError> {
        assert_eq!(intent.token, format!("token-{}", params.name));
        if params.gate {
            self.gate.acquire().await.unwrap().forget();
        }
        self.log.push(params.name.clone());
        if let Some(takes) = params.takes {
            tokio::time::sleep(takes.duration()).await;
        }
        if params.hangs {
            cx.cancel.cancelled().await;
            self.log.push(format!("stopped {}", params.name));
            return Err(StepError::new(ErrorClass::Cancelled, "stopped"));
        }
        if params.amends {
            cx.amend(&MarkIntent { token: format!("better-{}", params.name) }).await?;
        }
        if cx.attempt <= params.fails {
            return Err(StepError::new(params.class.unwrap_or(ErrorClass::Expectation), "told to fail"));
        }
        Ok(MarkOutput { name: params.name.clone(), attempt: cx.attempt })
    }

    async fn settle(
        &self,
        _: &Context,
        params: &MarkParams,
        _: &MarkIntent,
    ) -> Result<Settled<MarkOutput>, StepError> {
        Ok(match self.log.holds(&params.name) {
            true => Settled::Happened(MarkOutput { name: params.name.clone(), attempt: 1 }),
            false => Settled::NotHappened,
        })
    }

    async fn undo(
        &self,
        _: &Context,
        params: &MarkParams,
        intent: &MarkIntent,
        _: Option<&MarkOutput>,
    ) -> Result<Undone, StepError> {
        let token = if params.amends { "better" } else { "token" };
        assert_eq!(intent.token, format!("{token}-{}", params.name));
        if params.hidden {
            let left = Leftover {
                what: params.name.clone(),
                why: "it cannot be seen".into(),
                ..Leftover::default()
            };
            return Ok(Undone::CannotTell(left));
        }
        if !params.counts && !self.log.holds(&params.name) {
            return Ok(Undone::NothingToDo);
        }
        self.log.push(format!("undo {}", params.name));
        match params.undo_fails {
            true => Err(StepError::new(ErrorClass::Denied, "told to fail to undo")),
            false => Ok(Undone::Removed),
        }
    }
}

struct NoHost;

impl Host for NoHost {
    fn name(&self) -> &'static str {
        "local"
    }
    fn exec<'a>(&'a self, _: Exec, _: &'a Cancel) -> BoxFuture<'a, Result<Output, StepError>> {
        Box::pin(async { Err(StepError::internal("no commands here")) })
    }
}

impl Connector for NoHost {
    fn connect<'a>(&'a self, _: &'a HostSpec) -> BoxFuture<'a, Result<Arc<dyn Host>, StepError>> {
        Box::pin(async { Err(StepError::internal("no hosts here")) })
    }
}

struct NoFiles;

impl Outside for NoFiles {
    fn load(&self, _: &str) -> Result<Value, String> {
        Err("no files here".into())
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// Answers failed prechecks with these decisions, in turn; then quits.
pub(crate) struct Answers(pub(crate) Vec<Decision>);

impl Asker for Answers {
    fn ask<'a>(&'a mut self, _: &'a [FailedCheck]) -> BoxFuture<'a, Decision> {
        let decision = if self.0.is_empty() { Decision::Quit } else { self.0.remove(0) };
        Box::pin(async move { decision })
    }
}

/// A step of a test's playbook.
pub(crate) fn step(phase: Phase, id: &str) -> StepDef {
    StepDef {
        include: None,
        id: id.into(),
        phase,
        name: None,
        needs: Vec::new(),
        when: None,
        foreach: None,
        timeout: None,
        retry: None,
        expect: None,
        undo: None,
        keep: Keep::Never,
        continue_on_error: false,
        lock: None,
        hint: None,
        body: body(id, json!({})),
        span: engine::Span::default(),
    }
}

/// A `mark` step with these further parameters.
pub(crate) fn body(name: &str, more: Value) -> Body {
    let mut entries = vec![("name".to_owned(), Template::Literal(json!(name)))];
    if let Value::Object(more) = more {
        entries.extend(more.into_iter().map(|(key, value)| (key, Template::Literal(value))));
    }
    Body { kind: "mark".into(), params: Template::Map(entries), on: None }
}

/// What tests set on a step, in a row.
pub(crate) trait StepExt: Sized {
    fn with(self, more: Value) -> StepDef;
    fn needs(self, ids: &[&str]) -> StepDef;
    fn when(self, text: &str) -> StepDef;
    fn expect(self, text: &str) -> StepDef;
    fn timeout(self, text: &str) -> StepDef;
    fn retry(self, attempts: u32, delay: &str) -> StepDef;
    fn keep(self, keep: Keep) -> StepDef;
    fn foreach(self, items: Value) -> StepDef;
    fn undo(self, name: &str) -> StepDef;
}

impl StepExt for StepDef {
    fn with(mut self, more: Value) -> StepDef {
        self.body = body(&self.id, more);
        self
    }
    fn needs(mut self, ids: &[&str]) -> StepDef {
        self.needs = ids.iter().map(|id| ((*id).to_owned(), engine::Span::default())).collect();
        self
    }
    fn when(mut self, text: &str) -> StepDef {
        self.when = Some(Expr::compile(text).unwrap());
        self
    }
    fn expect(mut self, text: &str) -> StepDef {
        self.expect = Some(Expr::compile(text).unwrap());
        self
    }
    fn timeout(mut self, text: &str) -> StepDef {
        self.timeout = Some(Template::Literal(json!(text)));
        self
    }
    fn retry(mut self, attempts: u32, delay: &str) -> StepDef {
        self.retry = Some(RetryDef {
            attempts: Template::Literal(json!(attempts)),
            delay: Some(Template::Literal(json!(delay))),
            backoff: None,
            max_delay: None,
            jitter: Some(Template::Literal(json!(0.0))),
            on: Vec::new(),
        });
        self
    }
    fn keep(mut self, keep: Keep) -> StepDef {
        self.keep = keep;
        self
    }
    fn foreach(mut self, items: Value) -> StepDef {
        self.foreach = Some(Foreach { items: Template::Literal(items), alias: Some("item".into()) });
        if let Template::Map(entries) = &mut self.body.params {
            entries[0].1 = Template::Expr(Expr::compile("item").unwrap());
        }
        self
    }
    fn undo(mut self, name: &str) -> StepDef {
        self.undo = Some(body(name, json!({})));
        self
    }
}

/// A playbook of these steps, with all they need to run.
pub(crate) struct Stage {
    pub(crate) log: Log,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) plan: Plan,
    pub(crate) journal: MemoryJournal,
    pub(crate) answers: Vec<Decision>,
    pub(crate) faults: Faults,
    services: Arc<Services>,
}

impl Stage {
    pub(crate) fn new(mut steps: Vec<StepDef>) -> Self {
        steps.sort_by_key(|step| step.phase);
        Self::of(|_| Playbook {
            sources: engine::Sources::of(Arc::new(engine::Source {
                name: "test.yaml".into(),
                text: String::new(),
            })),
            name: "test".into(),
            description: String::new(),
            params: Vec::new(),
            vars: Vec::new(),
            inventory: engine::playbook::Inventory::default(),
            secrets: Vec::new(),
            max_parallel: None,
            includes: Vec::new(),
            steps,
            files: Vec::new(),
        })
    }

    /// With a playbook that is read.
    pub(crate) fn read(text: &str) -> Self {
        Self::of(|registry| {
            let source = Arc::new(engine::Source { name: "test.yaml".into(), text: text.into() });
            match playbook::read(source, registry, &playbook::Inventory::default(), &playbook::NoLibrary) {
                Ok((playbook, _)) => playbook,
                Err(wrong) => panic!("{}\n{text}", wrong.render(false)),
            }
        })
    }

    fn of(playbook: impl FnOnce(&Registry) -> Playbook) -> Self {
        let log = Log::default();
        let gate = Arc::new(Semaphore::new(0));
        let registry = Registry::new().with(Mark { log: log.clone(), gate: gate.clone() });
        let playbook = playbook(&registry);
        let run = RunInfo {
            id: "01TEST".into(),
            stamp: "20250123_101500".into(),
            started_at: "2025-01-23T10:15:00+00:00".into(),
            host: "here".into(),
            user: "tester".into(),
            dir: "/".into(),
            exe: "/bin/shakedown".into(),
        };
        let inputs = Inputs {
            params: Map::new(),
            run: run.clone(),
            max_parallel: Some(4),
            default_parallel: 4,
            keep: None,
            outside: Arc::new(NoFiles),
            inventory: None,
        };
        let plan = build(&playbook, &inputs, &registry).unwrap();
        let services = Arc::new(Services {
            registry,
            local: Arc::new(NoHost),
            connector: Arc::new(NoHost),
            hosts: BTreeMap::new(),
            open: tokio::sync::Mutex::default(),
            run,
            scratch: std::env::temp_dir().join("shakedown-none").join("scratch").join("run"),
            resident: tokio::sync::Mutex::default(),
            secrets: Arc::default(),
            degraded: engine::degraded::Degradations::default(),
            looks_only: false,
        });
        Self {
            log,
            gate,
            plan,
            journal: MemoryJournal::default(),
            answers: Vec::new(),
            faults: Faults::none(),
            services,
        }
    }

    pub(crate) async fn run(&mut self) -> RunEnd {
        self.carry_out(None).await
    }

    /// Takes the run over, whose journal holds what its dead owner wrote.
    pub(crate) async fn take_over(&mut self, purpose: Purpose) -> RunEnd {
        self.carry_out(Some(purpose)).await
    }

    /// Runs with a journal of the test's own.
    pub(crate) async fn run_with(&mut self, journal: &mut dyn Journal) -> Result<RunEnd, JournalError> {
        let mut asker = Answers(Vec::new());
        execute(Setup {
            plan: &self.plan,
            services: self.services.clone(),
            outside: Arc::new(NoFiles),
            journal,
            reporters: &mut [],
            asker: &mut asker,
            dead: None,
            signals: Signals::default(),
            faults: Faults::none(),
        })
        .await
    }

    async fn carry_out(&mut self, purpose: Option<Purpose>) -> RunEnd {
        let mut asker = Answers(std::mem::take(&mut self.answers));
        let history = self.journal.records.clone();
        let setup = Setup {
            plan: &self.plan,
            services: self.services.clone(),
            outside: Arc::new(NoFiles),
            journal: &mut self.journal,
            reporters: &mut [],
            asker: &mut asker,
            dead: purpose.map(|purpose| DeadRun { history: &history, purpose, lost: 0 }),
            signals: Signals::default(),
            faults: self.faults.clone(),
        };
        execute(setup).await.unwrap()
    }

    pub(crate) fn events(&self) -> Vec<&RunEvent> {
        self.journal.records.iter().map(|Record { event, .. }| event).collect()
    }

    /// The error that a step ended with.
    pub(crate) fn error(&self, id: &str) -> Option<StepError> {
        self.events().into_iter().rev().find_map(|event| match event {
            RunEvent::StepFinished {
                step, outcome: engine::event::Outcome::Failed { error, .. }, ..
            } if self.plan.step(*step).id == id => Some(error.clone()),
            _ => None,
        })
    }
}
