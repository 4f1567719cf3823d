//! The loop that carries out a plan. It alone owns the scheduler and the journal.

use super::{
    attempt::Job,
    notes::Notes,
    outputs::Outputs,
    setup::{RunEnd, Setup},
    signal::Signals,
    task::{self, unchecked},
    undo::{Workshop, leftovers},
    written::{Note, Noted},
};
use crate::{
    error::StepError,
    event::{
        EVENT_VERSION, Intent, Leftovers, Outcome, Phase, Progress, ProgressSink, Purpose, Record, RunEvent,
        SkipReason, StepId, Verdict,
    },
    expr::Scope,
    host::CancelSource,
    journal::JournalError,
    plan::scope_of,
    quantity::Millis,
    schedule::{Command, Scheduler, StepState},
    step::Undone,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// What the tasks tell the loop.
pub(super) enum Message {
    Withdrawn(StepId),
    Skip {
        step: StepId,
        reason: SkipReason,
    },
    Start {
        step: StepId,
        attempt: u32,
        intent: Option<Box<Intent>>,
        go: oneshot::Sender<bool>,
    },
    Amend {
        step: StepId,
        attempt: u32,
        intent: serde_json::Value,
        go: oneshot::Sender<bool>,
    },
    NoteUndo {
        event: RunEvent,
        go: oneshot::Sender<bool>,
    },
    Finished {
        step: StepId,
        attempt: u32,
        outcome: Outcome,
        took_ms: u64,
    },
    /// The task of an attempt broke off.
    Broken {
        step: StepId,
        attempt: u32,
        error: StepError,
    },
    Settled {
        step: StepId,
        attempt: u32,
        outcome: Option<Outcome>,
    },
    Undone {
        step: StepId,
        result: Result<Undone, StepError>,
        took_ms: u64,
    },
    Checked(Leftovers),
}

/// Carries out a plan to its end: passed, failed or stopped, with everything undone. Of a run whose owner died it
/// carries out the rest.
///
/// # Errors
/// The journal could not be written. Even then everything has been undone, unless another process has taken the run
/// over: then that one does.
pub async fn execute(mut setup: Setup<'_>) -> Result<RunEnd, JournalError> {
    let signals = std::mem::take(&mut setup.signals);
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
    let mut run = Run {
        scheduler: Scheduler::for_plan(setup.plan),
        outputs: Outputs::new(setup.plan),
        notes: Notes::default(),
        base,
        messages,
        sink,
        stop,
        kill,
        locks,
        journal_error: None,
        leftovers: Leftovers::default(),
        verdict: None,
        signals: 0,
        seq: 0,
        setup,
    };
    run.replay()?;
    run.drive(inbox, progress_inbox, signals).await
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
    /// What prompts and the leftovers check have to say of failures.
    notes: Notes,
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
        mut signals: Signals,
    ) -> Result<RunEnd, JournalError> {
        if self.seq == 0 {
            self.record(RunEvent::RunStarted {
                version: EVENT_VERSION,
                plan: self.setup.plan.hash.clone(),
                playbook: self.setup.plan.playbook.clone(),
            })
            .await;
        }
        if let Some(dead) = self.setup.dead {
            self.record(RunEvent::RunTakenOver { purpose: dead.purpose, lost: dead.lost }).await;
        }
        loop {
            self.carry_out(&mut signals).await;
            if self.scheduler.is_over() || self.has_lost_the_run() {
                break;
            }
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if self.signal(signal).await {
                        self.record(RunEvent::RunAborted { signal }).await;
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
        match (self.journal_error, self.verdict) {
            (Some(error), _) => Err(error),
            (None, verdict) => {
                let verdict = verdict.unwrap_or(Verdict::Errored);
                Ok(RunEnd { verdict, leftovers: self.leftovers, aborted: false })
            }
        }
    }

    /// Folds in what the owner before has journaled.
    fn replay(&mut self) -> Result<(), JournalError> {
        for record in self.setup.dead.map(|dead| dead.history).unwrap_or_default() {
            self.scheduler.apply(&record.event).map_err(|illegal| {
                JournalError::new(format!("record {} of the journal: {illegal}", record.seq))
            })?;
            self.outputs.apply(&record.event);
            self.notes.apply(self.setup.plan, &self.outputs, &self.base, &record.event);
            if let RunEvent::Degraded { degraded } = &record.event {
                self.setup.services.degraded.told(degraded);
            }
            self.seq = record.seq + 1;
        }
        Ok(())
    }

    /// Makes an event durable, folds it into the state and shows it. False if it could not be made durable.
    async fn record(&mut self, event: RunEvent) -> bool {
        let record = match &self.journal_error {
            None => {
                self.setup.faults.point(|| "append".to_owned());
                match self.setup.journal.append(&event).await {
                    Ok(record) => {
                        self.setup.faults.point(|| "appended".to_owned());
                        record
                    }
                    Err(error) => {
                        let lost = error.not_owner;
                        self.journal_error = Some(error);
                        if lost {
                            return false;
                        }
                        // The run goes on in memory only as far as it takes to undo everything.
                        if let RunEvent::RunStarted { .. } | RunEvent::RunTakenOver { .. } = event {
                            self.apply(&Record { seq: self.seq, at_ms: 0, event });
                        }
                        let stop = RunEvent::RunTakenOver { purpose: Purpose::Undo, lost: 0 };
                        self.apply(&Record { seq: self.seq, at_ms: 0, event: stop });
                        return false;
                    }
                }
            }
            Some(_) => Record { seq: self.seq, at_ms: 0, event },
        };
        self.seq = record.seq + 1;
        self.apply(&record);
        self.journal_error.is_none()
    }

    /// Another process owns the run now: whatever is left to do is its business.
    fn has_lost_the_run(&self) -> bool {
        self.journal_error.as_ref().is_some_and(|error| error.not_owner)
    }

    fn apply(&mut self, record: &Record) {
        if let Err(illegal) = self.scheduler.apply(&record.event) {
            // A mistake of ours: the table of transitions is the authority, so the event is not shown either.
            self.journal_error.get_or_insert(JournalError::new(format!("internal: {illegal}")));
            return;
        }
        self.outputs.apply(&record.event);
        self.notes.apply(self.setup.plan, &self.outputs, &self.base, &record.event);
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
                if self.has_lost_the_run() {
                    return;
                }
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
                let failed = self.notes.failed_prechecks();
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
                if self.has_lost_the_run() {
                    return;
                }
                let workshop = Workshop { note: self.note(step), ..self.workshop(self.scope(step)) };
                let planned = self.setup.plan.step(step).clone();
                let touched = self.outputs.touched(step);
                let begun = Instant::now();
                let ended =
                    move |result| Message::Undone { step, result, took_ms: Millis::from(begun.elapsed()).0 };
                let work = async move { Some(ended(workshop.undo(&planned, &touched).await)) };
                task::start(&self.messages, work, move |error| ended(Err(error)));
            }
            Command::Settle { step, attempt } => {
                let workshop = self.workshop(self.scope(step));
                let planned = self.setup.plan.step(step).clone();
                let touched = self.outputs.touched(step).into_iter().next();
                let stop = self.stop.signal();
                let work = async move {
                    let outcome = workshop.settle(&planned, touched.as_ref(), &stop).await;
                    Some(Message::Settled { step, attempt, outcome })
                };
                task::start(&self.messages, work, move |error| {
                    let outcome = Some(Outcome::Unknown { error: error.unknown_outcome() });
                    Message::Settled { step, attempt, outcome }
                });
            }
            Command::CheckLeftovers => {
                let claims = self.notes.claims(self.setup.plan, &self.scheduler, &self.outputs);
                let workshop = self.workshop(self.base.clone());
                let plan = self.setup.plan.clone();
                let work = async move { Some(Message::Checked(leftovers(&workshop, &plan, claims).await)) };
                task::start(&self.messages, work, |error| Message::Checked(unchecked(&error)));
            }
            Command::Finish(verdict) => {
                // Before the end is written down: nobody looks for what a run that is over has left.
                self.setup.services.close().await;
                let _none = std::fs::remove_dir_all(&self.setup.services.scratch);
                self.verdict = Some(verdict);
                self.record(RunEvent::RunFinished { verdict }).await;
            }
        }
    }

    async fn receive(&mut self, message: Message) {
        for degraded in self.setup.services.degraded.news() {
            self.record(RunEvent::Degraded { degraded }).await;
        }
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
            Message::Amend { step, attempt, intent, go } => {
                let durable = self.record(RunEvent::IntentAmended { step, attempt, intent }).await;
                let _gone = go.send(durable);
            }
            Message::NoteUndo { event, go } => {
                self.record(event).await;
                let _gone = go.send(!self.has_lost_the_run());
            }
            Message::Finished { step, attempt, outcome, took_ms } => {
                self.record(RunEvent::StepFinished { step, attempt, outcome, took_ms }).await;
            }
            Message::Broken { step, attempt, error } => {
                if self.scheduler.may_start(step) {
                    self.record(RunEvent::StepStarted { step, attempt, intent: None }).await;
                }
                match self.scheduler.step(step) {
                    StepState::Running { attempt: running } if running == attempt => {
                        let outcome = Outcome::Failed { error, out: None };
                        self.record(RunEvent::StepFinished { step, attempt, outcome, took_ms: 0 }).await;
                    }
                    _ => self.scheduler.withdraw(step),
                }
            }
            Message::Settled { step, attempt, outcome } => {
                self.record(RunEvent::StepSettled { step, attempt, outcome }).await;
            }
            Message::Undone { step, result, took_ms } => {
                self.record(RunEvent::UndoFinished { step, result, took_ms }).await;
            }
            Message::Checked(leftovers) => {
                self.leftovers = leftovers.clone();
                self.record(RunEvent::LeftoversChecked { leftovers }).await;
            }
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
            faults: self.setup.faults.clone(),
        };
        let work = async move {
            job.run().await;
            None
        };
        task::start(&self.messages, work, move |error| Message::Broken { step: id, attempt, error });
    }

    /// What makes durable what the undo of a step notes. An undo goes on where the journal fails, but not where
    /// another process owns the run.
    fn note(&self, step: StepId) -> Note {
        let messages = self.messages.clone();
        Note::new(move |attempt, noted| {
            let messages = messages.clone();
            let event = match noted {
                Noted::Attempt(intent) => RunEvent::IntentAmended { step, attempt, intent },
                Noted::Undo(intent) => RunEvent::UndoIntended { step, attempt, intent },
            };
            Box::pin(async move {
                let (go, answer) = oneshot::channel();
                let _gone = messages.send(Message::NoteUndo { event, go });
                answer.await.unwrap_or(false)
            })
        })
    }

    /// What looks at, or takes back, what steps did.
    fn workshop(&self, scope: Scope) -> Workshop {
        Workshop {
            services: self.setup.services.clone(),
            scope: Arc::new(scope),
            progress: self.sink.clone(),
            locks: self.locks.clone(),
            faults: self.setup.faults.clone(),
            note: Note::none(),
            chronicle: self.outputs.chronicle(),
        }
    }
}
