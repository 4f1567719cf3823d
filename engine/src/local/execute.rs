//! The loop that carries out a plan. It alone owns the scheduler and the journal.

use super::{
    attempt::Job,
    outputs::Outputs,
    signal::Signals,
    undo::{UndoResult, Workshop, check_leftovers},
};
use crate::{
    error::StepError,
    event::{
        Decision, EVENT_VERSION, Intent, Leftovers, Outcome, Phase, Progress, ProgressSink, Record, Reporter,
        RunEvent, SkipReason, StepId, Verdict,
    },
    expr::{Outside, Scope},
    host::{BoxFuture, Cancel, CancelSource},
    journal::{Journal, JournalError},
    plan::{Plan, render, scope_of},
    schedule::{Command, Scheduler},
    step::{Services, Undone},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// A precheck that failed.
#[derive(Clone, Debug)]
pub struct FailedCheck {
    /// The step's id.
    pub step: String,
    /// Why.
    pub error: StepError,
    /// The playbook's hint.
    pub hint: Option<String>,
}

/// Answers what to do about failed prechecks.
pub trait Asker: Send {
    /// The decision.
    fn ask<'a>(&'a mut self, failed: &'a [FailedCheck]) -> BoxFuture<'a, Decision>;
}

/// What a run needs.
pub struct Setup<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// What the steps share.
    pub services: Arc<Services>,
    /// What expressions may read.
    pub outside: Arc<dyn Outside>,
    /// Where the history goes.
    pub journal: &'a mut dyn Journal,
    /// Who sees it.
    pub reporters: &'a mut [Box<dyn Reporter>],
    /// Who decides about failed prechecks.
    pub asker: &'a mut dyn Asker,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// The verdict.
    pub verdict: Verdict,
    /// What is left.
    pub leftovers: Leftovers,
    /// A third signal ended the run before its undo was over.
    pub aborted: bool,
}

impl RunEnd {
    /// The exit code of `run`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Interrupted { signal } if self.aborted => u8::try_from(128 + signal).unwrap_or(130),
            _ if !self.leftovers.left.is_empty() => 4,
            Verdict::Passed => 0,
            Verdict::Refused => 1,
            Verdict::Failed => 2,
            Verdict::Errored => 5,
            Verdict::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(130),
        }
    }
}

/// What the tasks tell the loop.
pub(super) enum Message {
    Withdrawn(StepId),
    Skip { step: StepId, reason: SkipReason },
    Start { step: StepId, attempt: u32, intent: Option<Box<Intent>>, go: oneshot::Sender<bool> },
    Finished { step: StepId, attempt: u32, outcome: Outcome, took_ms: u64 },
    Undone { step: StepId, result: Result<Undone, StepError>, took_ms: u64 },
}

/// Carries out a plan to its end: passed, failed or stopped, with everything undone.
///
/// # Errors
/// The journal could not be written. Even then everything has been undone.
pub async fn execute(setup: Setup<'_>) -> Result<RunEnd, JournalError> {
    let (messages, inbox) = mpsc::unbounded_channel();
    // Progress is lossy: a slow terminal must not hold up a step.
    let (progress, progress_inbox) = mpsc::channel(1024);
    let sink = ProgressSink::new(move |step, what| {
        let _full = progress.try_send((step.to_owned(), what));
    });
    let (stop, _) = CancelSource::new();
    let (kill, _) = CancelSource::new();
    let base = Scope::new(setup.outside.clone());
    let locks = setup
        .services
        .scratch
        .parent()
        .and_then(|dir| dir.parent())
        .map_or_else(PathBuf::new, |state| state.join("locks"));
    let run = Run {
        scheduler: Scheduler::for_plan(setup.plan),
        outputs: Outputs::new(setup.plan),
        base,
        messages,
        sink,
        stop,
        kill,
        locks,
        undos: Vec::new(),
        cleanup_errors: Vec::new(),
        precheck_errors: Vec::new(),
        journal_error: None,
        leftovers: Leftovers::default(),
        verdict: None,
        signals: 0,
        seq: 0,
        setup,
    };
    run.drive(inbox, progress_inbox).await
}

struct Run<'a> {
    setup: Setup<'a>,
    scheduler: Scheduler,
    outputs: Outputs,
    base: Scope,
    messages: mpsc::UnboundedSender<Message>,
    sink: ProgressSink,
    /// Stops the steps that run now.
    stop: CancelSource,
    /// Ends them without waiting for them to stop.
    kill: CancelSource,
    locks: PathBuf,
    undos: Vec<UndoResult>,
    cleanup_errors: Vec<(StepId, StepError)>,
    precheck_errors: Vec<FailedCheck>,
    /// Once the journal fails nothing new starts; what was done is undone without it.
    journal_error: Option<JournalError>,
    leftovers: Leftovers,
    verdict: Option<Verdict>,
    signals: u32,
    seq: u64,
}

impl Run<'_> {
    async fn drive(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Message>,
        mut progress: mpsc::Receiver<(String, Progress)>,
    ) -> Result<RunEnd, JournalError> {
        let mut signals = Signals::new();
        self.record(RunEvent::RunStarted {
            version: EVENT_VERSION,
            plan: self.setup.plan.hash.clone(),
            playbook: self.setup.plan.playbook.clone(),
        })
        .await;
        loop {
            self.carry_out(&mut signals).await;
            if self.scheduler.is_over() {
                break;
            }
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if self.signal(signal).await {
                        return Ok(RunEnd { verdict: Verdict::Interrupted { signal }, leftovers: self.leftovers, aborted: true });
                    }
                }
                Some(message) = inbox.recv() => self.receive(message).await,
                Some((step, what)) = progress.recv() => {
                    for reporter in self.setup.reporters.iter_mut() {
                        reporter.progress(&step, &what);
                    }
                }
            }
        }
        self.setup.services.close().await;
        match (self.journal_error, self.verdict) {
            (Some(error), _) => Err(error),
            (None, verdict) => {
                let verdict = verdict.unwrap_or(Verdict::Errored);
                Ok(RunEnd { verdict, leftovers: self.leftovers, aborted: false })
            }
        }
    }

    /// Makes an event durable, folds it into the state and shows it. False if it could not be made durable.
    async fn record(&mut self, event: RunEvent) -> bool {
        let record = match &self.journal_error {
            None => match self.setup.journal.append(&event).await {
                Ok(record) => record,
                Err(error) => {
                    self.journal_error = Some(error);
                    // The run goes on in memory only as far as it takes to undo everything.
                    self.apply(&Record {
                        seq: self.seq,
                        at_ms: 0,
                        event: RunEvent::Interrupted { signal: 0 },
                    });
                    return false;
                }
            },
            Some(_) => Record { seq: self.seq, at_ms: 0, event },
        };
        self.seq = record.seq + 1;
        self.apply(&record);
        self.journal_error.is_none()
    }

    fn apply(&mut self, record: &Record) {
        if let Err(illegal) = self.scheduler.apply(&record.event) {
            // A mistake of ours: the table of transitions is the authority, so the event is not shown either.
            self.journal_error.get_or_insert(JournalError::new(format!("internal: {illegal}")));
            return;
        }
        self.outputs.apply(&record.event);
        for reporter in self.setup.reporters.iter_mut() {
            reporter.event(record);
        }
    }

    /// Gives out everything that can begin.
    async fn carry_out(&mut self, signals: &mut Signals) {
        loop {
            let commands = self.scheduler.next_commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                self.command(command, signals).await;
            }
        }
    }

    async fn command(&mut self, command: Command, signals: &mut Signals) {
        match command {
            Command::StartPhase(phase) => {
                // Diagnostics and cleanup must not be stopped by what stopped the phases before.
                if matches!(phase, Phase::OnFailure | Phase::Cleanup) {
                    self.stop = CancelSource::new().0;
                }
                self.record(RunEvent::PhaseStarted { phase }).await;
            }
            Command::Run { step, attempt, delay_ms } => self.spawn(step, attempt, delay_ms),
            Command::StopRunning => self.stop.cancel(),
            Command::AskPrecheck => {
                let failed = std::mem::take(&mut self.precheck_errors);
                let answer = tokio::select! {
                    decision = self.setup.asker.ask(&failed) => Ok(decision),
                    signal = signals.next() => Err(signal),
                };
                match answer {
                    Ok(decision) => {
                        self.record(RunEvent::PrecheckDecided { decision }).await;
                    }
                    Err(signal) => {
                        self.signal(signal).await;
                    }
                }
            }
            Command::Keep(step) => {
                self.record(RunEvent::StepKept { step }).await;
            }
            Command::Undo(step) => {
                self.record(RunEvent::UndoStarted { step }).await;
                let workshop = self.workshop();
                let planned = self.setup.plan.step(step).clone();
                let touched = self.outputs.touched(step);
                let messages = self.messages.clone();
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let result = workshop.undo(&planned, &touched).await;
                    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let _gone = messages.send(Message::Undone { step, result, took_ms });
                });
            }
            Command::CheckLeftovers => {
                let workshop = self.workshop();
                let plan = self.setup.plan;
                let check = check_leftovers(
                    &workshop,
                    plan,
                    &self.scheduler,
                    &self.outputs,
                    &self.undos,
                    &self.cleanup_errors,
                );
                let leftovers = check.await;
                self.leftovers = leftovers.clone();
                self.record(RunEvent::LeftoversChecked { leftovers }).await;
            }
            Command::Finish(verdict) => {
                self.verdict = Some(verdict);
                self.record(RunEvent::RunFinished { verdict }).await;
            }
        }
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Withdrawn(step) => self.scheduler.withdraw(step),
            Message::Skip { step, reason } => {
                if self.scheduler.may_start(step) {
                    self.record(RunEvent::StepSkipped { step, reason }).await;
                } else {
                    self.scheduler.withdraw(step);
                }
            }
            Message::Start { step, attempt, intent, go } => {
                // Between the command and this moment the run may have begun to stop.
                let started = self.scheduler.may_start(step)
                    && self.record(RunEvent::StepStarted { step, attempt, intent }).await;
                if !started {
                    self.scheduler.withdraw(step);
                }
                let _gone = go.send(started);
            }
            Message::Finished { step, attempt, outcome, took_ms } => {
                self.note_failure(step, &outcome);
                self.record(RunEvent::StepFinished { step, attempt, outcome, took_ms }).await;
            }
            Message::Undone { step, result, took_ms } => {
                self.undos.push(UndoResult { step, result: result.clone() });
                self.record(RunEvent::UndoFinished { step, result, took_ms }).await;
            }
        }
    }

    /// Keeps what the prompt and the leftovers check have to say of a failure.
    fn note_failure(&mut self, id: StepId, outcome: &Outcome) {
        let (Outcome::Failed { error, .. } | Outcome::Unknown { error }) = outcome else { return };
        let step = self.setup.plan.step(id);
        match step.phase {
            Phase::Precheck => {
                let scope = self.scope(id);
                let hint = step.hint.as_ref().and_then(|hint| render(hint, &scope).ok());
                let hint = hint.and_then(|hint| hint.as_str().map(str::to_owned));
                self.precheck_errors.retain(|failed| failed.step != step.id);
                self.precheck_errors.push(FailedCheck { step: step.id.clone(), error: error.clone(), hint });
            }
            Phase::Cleanup => self.cleanup_errors.push((id, error.clone())),
            Phase::Prepare | Phase::Monitor | Phase::OnFailure => {}
        }
    }

    /// The first signal stops, undoes and cleans up; the second also ends steps that do not stop; true for the
    /// third: the run is given up where it is.
    async fn signal(&mut self, signal: i32) -> bool {
        self.signals += 1;
        match self.signals {
            1 => {
                self.record(RunEvent::Interrupted { signal }).await;
                false
            }
            2 => {
                self.kill.cancel();
                self.kill = CancelSource::new().0;
                false
            }
            _ => {
                self.stop.cancel();
                self.kill.cancel();
                true
            }
        }
    }

    fn scope(&self, id: StepId) -> Scope {
        let step = self.setup.plan.step(id);
        let mut scope = scope_of(self.setup.plan, step, &self.base);
        scope.set("steps", self.outputs.visible_to(self.setup.plan, step));
        scope
    }

    fn spawn(&self, id: StepId, attempt: u32, delay_ms: u64) {
        let step = self.setup.plan.step(id).clone();
        let job = Job {
            id,
            attempt,
            delay: Duration::from_millis(delay_ms),
            services: self.setup.services.clone(),
            scope: self.scope(id),
            missing: self.outputs.missing_for(self.setup.plan, &step),
            step,
            messages: self.messages.clone(),
            progress: self.sink.clone(),
            stop: self.stop.signal(),
            kill: self.kill.signal(),
            locks: self.locks.clone(),
        };
        tokio::spawn(job.run());
    }

    fn workshop(&self) -> Workshop {
        Workshop {
            services: self.setup.services.clone(),
            scope: Arc::new(self.base.clone()),
            progress: self.sink.clone(),
            kill: Cancel::never(),
        }
    }
}
