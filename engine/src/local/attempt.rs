//! One attempt of a step, as a task: it renders, intends, waits for the go, works within its timeout.

use super::{
    execute::Message,
    faults::Faults,
    locks::{self, Held},
    machines,
};
use crate::{
    error::{ErrorClass, StepError},
    event::{Intent, Outcome, Phase, Progress, ProgressSink, SkipReason, StepId, UndoMethod, UndoStep},
    expr::Scope,
    host::{Cancel, CancelSource},
    plan::{PlannedStep, render_body},
    quantity::Millis,
    step::{Amend, Chronicle, Context, DynStep, Effect, Recovery, Services},
};
use serde_json::{Map, Value};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// How long a step may take to stop once it is told to.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The same once a second signal has come; enough for a transaction to be rolled back.
const KILL_GRACE: Duration = Duration::from_millis(500);

/// Everything an attempt needs.
pub(super) struct Job {
    pub(super) id: StepId,
    pub(super) step: PlannedStep,
    pub(super) attempt: u32,
    pub(super) delay: Duration,
    pub(super) services: Arc<Services>,
    pub(super) scope: Scope,
    /// A step that this one reads and that has no output.
    pub(super) missing: Option<String>,
    pub(super) messages: mpsc::UnboundedSender<Message>,
    pub(super) progress: ProgressSink,
    /// Raised when the run stops.
    pub(super) stop: Cancel,
    /// Raised when it must stop at once.
    pub(super) kill: Cancel,
    pub(super) locks: PathBuf,
    pub(super) faults: Faults,
}

impl Job {
    /// Runs the attempt; everything that comes of it goes out as messages.
    pub(super) async fn run(self) {
        tokio::select! {
            () = tokio::time::sleep(self.delay) => {}
            () = self.stop.cancelled() => {
                self.send(Message::Withdrawn(self.id));
                return;
            }
        }
        match self.skip_reason() {
            Ok(None) => {}
            Ok(Some(reason)) => {
                self.send(Message::Skip { step: self.id, reason });
                return;
            }
            Err(error) => {
                if self.start(None).await {
                    self.finish(Instant::now(), Outcome::Failed { error, out: None });
                }
                return;
            }
        }
        match self.take_lock().await {
            Ok(held) => {
                self.work().await;
                drop(held);
            }
            Err(error) if error.class == ErrorClass::Cancelled => self.send(Message::Withdrawn(self.id)),
            Err(error) => {
                if self.start(None).await {
                    self.finish(Instant::now(), Outcome::Failed { error, out: None });
                }
            }
        }
    }

    /// Waits in the queue of the step's lock; that takes nothing of its timeout.
    async fn take_lock(&self) -> Result<Option<Held>, StepError> {
        let Some(name) = &self.step.lock else { return Ok(None) };
        let waits = |words: String| self.progress.send(&self.step.id, Progress::Sees(words));
        locks::acquire(&self.locks, name, &self.services.run.id, &self.stop, waits).await.map(Some)
    }

    fn send(&self, message: Message) {
        // The loop outlives its tasks; without it nobody is there to tell.
        let _gone = self.messages.send(message);
    }

    fn finish(&self, begun: Instant, outcome: Outcome) {
        let took_ms = Millis::from(begun.elapsed()).0;
        self.send(Message::Finished { step: self.id, attempt: self.attempt, outcome, took_ms });
    }

    /// Asks the loop to make the start durable; false if the step must not start.
    async fn start(&self, intent: Option<Box<Intent>>) -> bool {
        let (go, answer) = oneshot::channel();
        self.send(Message::Start { step: self.id, attempt: self.attempt, intent, go });
        answer.await.unwrap_or(false)
    }

    /// What makes a better intent durable; a step that only reads has none.
    fn amend(&self) -> Amend {
        if !self.step.is_effect() {
            return Amend::none();
        }
        let (id, attempt, messages) = (self.id, self.attempt, self.messages.clone());
        Amend::new(move |intent| {
            let messages = messages.clone();
            Box::pin(async move {
                let (go, answer) = oneshot::channel();
                let _gone = messages.send(Message::Amend { step: id, attempt, intent, go });
                answer.await.unwrap_or(false)
            })
        })
    }

    fn skip_reason(&self) -> Result<Option<SkipReason>, StepError> {
        if let (Phase::Cleanup | Phase::OnFailure, Some(missing)) = (self.step.phase, &self.missing) {
            return Ok(Some(SkipReason::Missing(missing.clone())));
        }
        match &self.step.when {
            None => Ok(None),
            Some(when) => match when.truth(&self.scope) {
                Ok(true) => Ok(None),
                Ok(false) => Ok(Some(SkipReason::When)),
                Err(error) => Err(error.of(&format!("`when: {}`", when.text()))),
            },
        }
    }

    async fn work(&self) {
        let begun = Instant::now();
        let effect = self.step.is_effect();
        // A step that only reads has no intent to wait for: people see it begin at once.
        if !effect && !self.start(None).await {
            return;
        }
        let (source, cancel) = CancelSource::new();
        let last_seen = Arc::new(Mutex::new(String::new()));
        let started = Arc::new(Mutex::new(Started { told: !effect, refused: false }));
        let work = self.try_once(cancel, last_seen.clone(), started.clone());
        tokio::pin!(work);
        let stopped_by = tokio::select! {
            result = &mut work => Ended::ByItself(result),
            () = tokio::time::sleep(self.step.timeout.duration()) => Ended::TimedOut,
            () = self.stop.cancelled() => Ended::Stopped,
        };
        let result = match stopped_by {
            Ended::ByItself(result) => result,
            ended => {
                source.cancel();
                let stopping = async { tokio::time::timeout(STOP_GRACE, &mut work).await.ok() };
                // One that does not stop even then is dropped, and its processes are killed.
                let killed = async {
                    self.kill.cancelled().await;
                    tokio::time::sleep(KILL_GRACE).await;
                };
                let result = tokio::select! {
                    result = stopping => result,
                    () = killed => None,
                };
                let error = match ended {
                    Ended::TimedOut => self.timed_out(&last_seen),
                    _ => StepError::new(ErrorClass::Cancelled, format!("`{}` was stopped", self.step.id)),
                };
                match result {
                    // It ended in the very moment it was told to stop: that counts.
                    Some(Ok(out)) => Ok(out),
                    Some(Err((found, out))) if found.class != ErrorClass::Cancelled => Err((found, out)),
                    // It stopped, and knows whether its effect can have happened.
                    Some(Err((found, _))) if !found.outcome_unknown => {
                        Err((if found.no_effect { error.without_effect() } else { error }, None))
                    }
                    // Nobody saw its end.
                    _ => Err((error.unknown_outcome(), None)),
                }
            }
        };
        let Started { told, refused } = *lock(&started);
        if refused {
            return;
        }
        if !told && !self.start(None).await {
            return;
        }
        self.finish(begun, self.outcome(result));
    }

    fn timed_out(&self, last_seen: &Mutex<String>) -> StepError {
        let seen = lock(last_seen).clone();
        let message = format!("`{}` did not finish within {}", self.step.id, self.step.timeout);
        let mut error = StepError::new(ErrorClass::Timeout, message);
        if !seen.is_empty() {
            error.message.push_str(&format!("; last seen: {seen}"));
            error = error.detail(format!("last seen: {seen}"));
        }
        error
    }

    fn outcome(&self, result: Result<Value, (StepError, Option<Value>)>) -> Outcome {
        match result {
            Ok(out) => {
                let summary = self.kind().map(|kind| kind.summary(&out)).unwrap_or_default();
                Outcome::Done { out, summary }
            }
            Err((error, None))
                if error.outcome_unknown && self.step.description.recovery != Recovery::Rerun =>
            {
                Outcome::Unknown { error }
            }
            Err((error, out)) => Outcome::Failed { error, out },
        }
    }

    fn kind(&self) -> Result<&Arc<dyn DynStep>, StepError> {
        let kind = &self.step.body.kind;
        self.services.registry.get(kind).ok_or_else(|| StepError::internal(format!("no step type `{kind}`")))
    }

    async fn try_once(
        &self,
        cancel: Cancel,
        last_seen: Arc<Mutex<String>>,
        started: Arc<Mutex<Started>>,
    ) -> Result<Value, (StepError, Option<Value>)> {
        let early = |error: StepError| (error, None);
        let kind = self.kind().map_err(early)?;
        let (params, on) = render_body(&self.step.body, &self.scope).map_err(early)?;
        let sink = self.progress.clone();
        let progress = ProgressSink::new(move |step, progress| {
            if let Progress::Sees(now) = &progress {
                lock(&last_seen).clone_from(now);
            }
            sink.send(step, progress);
        });
        let cx = Context {
            services: self.services.clone(),
            step: self.step.id.clone(),
            phase: self.step.phase,
            attempt: self.attempt,
            undoing: false,
            host: self.services.host(on.as_deref()).await.map_err(early)?,
            cancel,
            scope: Arc::new(self.scope.clone()),
            progress,
            amend: self.amend(),
            chronicle: Chronicle::default(),
        };
        let intent = kind.intend(&cx, &params).await.map_err(early)?;
        if self.step.is_effect() {
            let undo = self.undo_method().map_err(early)?;
            let (services, kind) = (&self.services, &self.step.body.kind);
            let machines = machines::of(services, kind, &params, on.as_deref(), &undo, &cx.cancel);
            let machines = machines.await.map_err(early)?;
            let durable = Intent { params: params.clone(), intent: intent.clone(), on, undo, machines };
            let go = self.start(Some(Box::new(durable))).await;
            *lock(&started) = Started { told: true, refused: !go };
            if !go {
                return Err(early(StepError::new(
                    ErrorClass::Cancelled,
                    "the run stopped before the step began",
                )));
            }
        }
        self.faults.point(|| format!("before:{}", self.step.id));
        let ran = kind.run(&cx, &params, &intent).await;
        self.faults.point(|| format!("after:{}", self.step.id));
        if let Some(error) = self.faults.fails(&self.step.id) {
            return Err(early(error));
        }
        let out = ran.map_err(early)?;
        match self.unmet(&out) {
            None => Ok(out),
            Some(error) => Err((error, Some(out))),
        }
    }

    /// The rendered undo, made before the effect so that it is durable with the intent.
    fn undo_method(&self) -> Result<UndoMethod, StepError> {
        match (&self.step.undo, &self.step.description.effect) {
            (Some(undo), _) => {
                let (params, on) = render_body(undo, &self.scope)?;
                Ok(UndoMethod::Written(UndoStep { kind: undo.kind.clone(), params, on }))
            }
            (None, Effect::Undoable(_)) => Ok(UndoMethod::Derived),
            (None, _) => Ok(UndoMethod::None),
        }
    }

    /// Why `expect` does not hold.
    fn unmet(&self, out: &Value) -> Option<StepError> {
        let expect = self.step.expect.as_ref()?;
        expectation(expect, out, &self.scope).err()
    }
}

/// Whether `expect` holds of an output.
///
/// # Errors
/// It does not: with the value of each operand.
pub(crate) fn expectation(expect: &crate::expr::Expr, out: &Value, scope: &Scope) -> Result<(), StepError> {
    let mut names = Map::new();
    names.insert("out".into(), out.clone());
    let scope = scope.with(&names);
    match expect.truth(&scope) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let values = expect.explain(&scope);
            let mut error = StepError::expectation(match values.as_slice() {
                [] => format!("expected `{}`", expect.text()),
                values => format!("expected `{}`, but {}", expect.text(), values.join(", ")),
            });
            error.details = values;
            Err(error)
        }
        Err(error) => Err(error.of(&format!("`expect: {}`", expect.text()))),
    }
}

enum Ended {
    ByItself(Result<Value, (StepError, Option<Value>)>),
    TimedOut,
    Stopped,
}

/// Whether the loop knows of the attempt, and whether it said no.
#[derive(Clone, Copy)]
struct Started {
    told: bool,
    refused: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
