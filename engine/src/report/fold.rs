//! From the events of a run to its [`Summary`].

use super::{
    cut, hint, rfc3339,
    summary::{
        Attempt, Counts, Ending, ErrorSummary, NotRan, PhaseSummary, REPORT_VERSION, StepStatus, StepSummary,
        Summary, Tally, UndoStatus, UndoSummary, exit_code,
    },
};
use crate::{
    error::{ErrorClass, StepError},
    event::{Decision, Outcome, Phase, Purpose, Record, RunEvent, SkipReason, StepId, Verdict},
    plan::{Plan, PlannedStep},
    step::Undone,
};
use serde_json::{Map, json};
use std::sync::Arc;

impl Summary {
    /// The summary of a run that has not begun.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut phases: Vec<PhaseSummary> = Vec::new();
        let mut places = vec![(0, 0); plan.steps.len()];
        for phase in Phase::ALL {
            let mut steps = Vec::new();
            for (i, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.phase == phase) {
                places[i] = (phases.len(), steps.len());
                steps.push(not_begun(plan, step));
            }
            if !steps.is_empty() {
                phases.push(PhaseSummary { phase, started_at: None, took_ms: 0, steps, started_ms: None });
            }
        }
        let mut summary = Self {
            schema_version: REPORT_VERSION,
            run: plan.run.id.clone(),
            playbook: plan.playbook.clone(),
            description: plan.description.clone(),
            source: plan.source.clone(),
            plan_hash: plan.hash.clone(),
            host: plan.run.host.clone(),
            user: plan.run.user.clone(),
            params: plan.params.clone(),
            started_at: None,
            finished_at: None,
            took_ms: 0,
            ending: None,
            signal: None,
            exit_code: None,
            decision: None,
            counts: Counts::default(),
            degraded: Vec::new(),
            not_ran: Vec::new(),
            undone: Tally::default(),
            cleanup: Tally::default(),
            database: None,
            leftovers: None,
            phases,
            plan: Arc::new(plan.clone()),
            places,
            outputs: Map::new(),
            started_ms: 0,
            given_up: false,
            stopped_by: None,
        };
        summary.count();
        summary
    }

    /// The summary of a whole history.
    #[must_use]
    pub fn of(plan: &Plan, history: &[Record]) -> Self {
        let mut summary = Self::new(plan);
        for record in history {
            summary.apply(record);
        }
        summary.count();
        summary
    }

    /// Folds an event in. Events of steps that the plan does not have are passed over. The counts are those of the
    /// last [`RunEvent::RunFinished`]; before it, see [`Summary::count`].
    pub fn apply(&mut self, record: &Record) {
        let at_ms = record.at_ms;
        self.took_ms = at_ms.saturating_sub(self.started_ms);
        match &record.event {
            RunEvent::RunStarted { .. } => {
                self.started_ms = at_ms;
                self.took_ms = 0;
                self.started_at = Some(rfc3339(at_ms));
            }
            RunEvent::PhaseStarted { phase } => {
                if let Some(found) = self.phases.iter_mut().find(|found| found.phase == *phase) {
                    found.started_ms.get_or_insert(at_ms);
                    found.started_at.get_or_insert_with(|| rfc3339(at_ms));
                }
            }
            RunEvent::StepSkipped { step, reason } => {
                let why = self.why_skipped(*step, reason);
                if let Some(step) = self.step_mut(*step) {
                    step.status = StepStatus::Skipped;
                    step.why = Some(why);
                }
            }
            RunEvent::StepStarted { step, attempt, intent } => {
                let lasts = self.plan.steps.get(step.0).is_some_and(|step| !step.is_undone());
                let Some(step) = self.step_mut(*step) else { return };
                step.status = StepStatus::Running;
                step.attempts.push(Attempt {
                    number: *attempt,
                    started_at: rfc3339(at_ms),
                    took_ms: None,
                    error: None,
                });
                if let (Some(undo), Some(_)) = (&mut step.undo, intent) {
                    undo.status = if lasts { UndoStatus::None } else { UndoStatus::Pending };
                }
            }
            // Only recovery needs it.
            RunEvent::IntentAmended { .. } | RunEvent::UndoIntended { .. } => {}
            RunEvent::StepFinished { step, attempt, outcome, took_ms } => {
                self.finish_step(*step, *attempt, outcome, *took_ms);
                if let Some(&(phase, _)) = self.places.get(step.0) {
                    let phase = &mut self.phases[phase];
                    phase.took_ms = at_ms.saturating_sub(phase.started_ms.unwrap_or(at_ms));
                }
            }
            RunEvent::PrecheckDecided { decision } => {
                self.decision = Some(*decision);
                if *decision == Decision::Recheck {
                    self.forget_prechecks();
                }
            }
            RunEvent::Interrupted { signal } => {
                self.signal.get_or_insert(*signal);
            }
            RunEvent::StepSettled { step, attempt, outcome: Some(outcome) } => {
                self.finish_step(*step, *attempt, outcome, 0);
            }
            RunEvent::StepSettled { step, attempt, outcome: None } => self.never_happened(*step, *attempt),
            RunEvent::RunTakenOver { purpose, .. } => self.taken_over(*purpose),
            RunEvent::RunAborted { .. } => {
                self.ending = Some(Ending::Aborted);
                self.exit_code = Some(4);
            }
            RunEvent::StepKept { step } => self.set_undo(*step, UndoStatus::Kept),
            RunEvent::UndoStarted { step } => self.set_undo(*step, UndoStatus::Running),
            RunEvent::UndoFinished { step, result, took_ms } => self.finish_undo(*step, result, *took_ms),
            RunEvent::Degraded { degraded } => self.degraded.push(degraded.clone()),
            RunEvent::LeftoversChecked { leftovers } => self.leftovers = Some(leftovers.clone()),
            RunEvent::RunFinished { verdict } => self.finish(*verdict, at_ms),
        }
    }

    fn step_mut(&mut self, step: StepId) -> Option<&mut StepSummary> {
        let (phase, place) = *self.places.get(step.0)?;
        self.phases[phase].steps.get_mut(place)
    }

    fn finish_step(&mut self, id: StepId, attempt: u32, outcome: &Outcome, took_ms: u64) {
        let Some(planned) = self.plan.steps.get(id.0) else { return };
        let (failed, out, words) = match outcome {
            Outcome::Done { out, summary } => (None, Some(out), summary.as_str()),
            Outcome::Failed { error, out } => (Some(cut::error(error)), out.as_ref(), ""),
            Outcome::Unknown { error } => (Some(cut::error(error)), None, ""),
        };
        let status = match (outcome, &failed) {
            (Outcome::Unknown { .. }, _) => StepStatus::Unknown,
            (_, Some(error)) if is_tried_again(planned, attempt, error) => StepStatus::Retrying,
            (_, Some(error)) if error.class == ErrorClass::Cancelled => StepStatus::Stopped,
            (_, Some(_)) => StepStatus::Failed,
            (_, None) => StepStatus::Ok,
        };
        let stops = status.is_bad()
            && matches!(planned.phase, Phase::Prepare | Phase::Monitor)
            && !planned.continue_on_error;
        if stops && self.signal.is_none() {
            self.stopped_by.get_or_insert(id.0);
        }
        if let Some(effort) = out.and_then(|out| out.get("db")) {
            let number = |key: &str| effort.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
            let database = self.database.get_or_insert_default();
            database.operations += number("operations");
            database.waits += number("waits");
            database.wait_ms += number("wait_ms");
            database.longest_wait_ms = database.longest_wait_ms.max(number("longest_wait_ms"));
            database.took_ms += number("took_ms");
            database.retries += u64::from(attempt > 1);
        }
        let kept = out.map(cut::value);
        if planned.each.is_none() {
            let out = kept.as_ref().map(|(out, _)| out.clone()).unwrap_or_default();
            let seen = json!({ "out": out, "status": status.word() });
            self.outputs.insert(planned.id.clone(), seen);
        }
        let advice = if status.is_bad() { hint(&self.plan, id, &self.outputs) } else { None };
        let why = (status == StepStatus::Stopped).then(|| self.why_stopped());
        let words = words.to_owned();
        let Some(step) = self.step_mut(id) else { return };
        step.status = status;
        step.why = why;
        step.took_ms = step.took_ms.saturating_add(took_ms);
        step.summary = words;
        step.hint = advice;
        if let Some(last) = step.attempts.iter_mut().rfind(|tried| tried.number == attempt) {
            last.took_ms = Some(took_ms);
            last.error.clone_from(&failed);
        }
        step.error = failed;
        (step.out, step.out_cut) = kept.map_or((None, false), |(out, cut)| (Some(out), cut));
    }

    /// An attempt in doubt turned out not to have changed anything.
    fn never_happened(&mut self, id: StepId, attempt: u32) {
        let plan = self.plan.clone();
        let Some(planned) = plan.steps.get(id.0) else { return };
        let Some(step) = self.step_mut(id) else { return };
        step.status = match &step.error {
            // It died with the run: it begins anew.
            None => StepStatus::Pending,
            Some(error) if is_tried_again(planned, attempt, error) => StepStatus::Retrying,
            Some(_) => StepStatus::Failed,
        };
    }

    /// The owner died. What ran is looked into, or is given up.
    fn taken_over(&mut self, purpose: Purpose) {
        (self.ending, self.exit_code) = (None, None);
        if purpose == Purpose::Resume {
            return;
        }
        self.given_up = true;
        for i in 0..self.places.len() {
            let Some(step) = self.step_mut(StepId(i)).filter(|step| step.status == StepStatus::Running)
            else {
                continue;
            };
            step.status = if step.effect { StepStatus::Unknown } else { StepStatus::Stopped };
            step.why = Some("the run died while it ran".into());
        }
    }

    fn forget_prechecks(&mut self) {
        let plan = self.plan.clone();
        for (i, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.phase == Phase::Precheck) {
            if let Some(known) = self.step_mut(StepId(i)) {
                *known = not_begun(&plan, step);
            }
        }
    }

    fn set_undo(&mut self, step: StepId, status: UndoStatus) {
        if let Some(undo) = self.step_mut(step).and_then(|step| step.undo.as_mut()) {
            undo.status = status;
        }
    }

    fn finish_undo(&mut self, step: StepId, result: &Result<Undone, StepError>, took_ms: u64) {
        let Some(undo) = self.step_mut(step).and_then(|step| step.undo.as_mut()) else { return };
        undo.took_ms = Some(took_ms);
        (undo.left, undo.error) = (None, None);
        match result {
            Ok(Undone::Removed) => undo.status = UndoStatus::Removed,
            Ok(Undone::NothingToDo) => undo.status = UndoStatus::NothingToDo,
            Ok(Undone::Left(left)) => {
                undo.status = UndoStatus::Left;
                undo.left = Some(left.clone());
            }
            Ok(Undone::CannotTell(left)) => {
                undo.status = UndoStatus::CannotTell;
                undo.left = Some(left.clone());
            }
            Err(error) => {
                undo.status = UndoStatus::Failed;
                undo.error = Some(cut::error(error));
            }
        }
    }

    fn finish(&mut self, verdict: Verdict, at_ms: u64) {
        self.finished_at = Some(rfc3339(at_ms));
        self.exit_code = Some(exit_code(verdict, self.leftovers.as_ref().unwrap_or(&Default::default())));
        self.ending = Some(match verdict {
            Verdict::Passed | Verdict::Recovered if self.exit_code == Some(4) => Ending::Leftovers,
            // It passed and left something; a recovery has dealt with that.
            Verdict::Passed if self.given_up => Ending::Recovered,
            Verdict::Passed => Ending::Passed,
            Verdict::Refused => Ending::Refused,
            Verdict::Failed => Ending::Failed,
            Verdict::Errored => Ending::Errored,
            Verdict::Interrupted { signal } => {
                self.signal = Some(signal);
                Ending::Interrupted
            }
            Verdict::Recovered => Ending::Recovered,
        });
        for i in 0..self.places.len() {
            let status = self.step(StepId(i)).map(|(_, step)| step.status);
            let (status, why) = match status {
                // The run stopped before the next attempt.
                Some(StepStatus::Retrying) => (StepStatus::Failed, None),
                Some(StepStatus::Running) => (StepStatus::Stopped, Some("the run died while it ran".into())),
                Some(StepStatus::Pending) => self.why_not_run(i),
                _ => continue,
            };
            if let Some(step) = self.step_mut(StepId(i)) {
                step.status = status;
                step.why = why;
            }
        }
        self.not_ran = self.why_not_ran();
        self.count();
    }

    /// The steps that never began, without diagnostics, gathered by the reason.
    fn why_not_ran(&self) -> Vec<NotRan> {
        let mut reasons: Vec<NotRan> = Vec::new();
        let planned = self.steps().filter(|(phase, _)| phase.phase != Phase::OnFailure);
        for (_, step) in planned.filter(|(_, step)| step.attempts.is_empty()) {
            let why = step.why.clone().unwrap_or_default();
            match reasons.iter_mut().find(|known| known.status == step.status && known.why == why) {
                Some(known) => known.steps.push(step.id.clone()),
                None => reasons.push(NotRan { status: step.status, why, steps: vec![step.id.clone()] }),
            }
        }
        reasons
    }

    fn why_skipped(&self, step: StepId, reason: &SkipReason) -> String {
        match reason {
            SkipReason::When => {
                let when = self.plan.steps.get(step.0).and_then(|step| step.when.as_ref());
                when.map_or("its `when` is false".into(), |when| format!("`{}` is false", when.text().trim()))
            }
            SkipReason::Missing(other) => format!("`{other}` has no output"),
        }
    }

    fn why_not_run(&self, i: usize) -> (StepStatus, Option<String>) {
        let not_run = |why: String| (StepStatus::NotRun, Some(why));
        let step = &self.plan.steps[i];
        let phase_began = self.phases[self.places[i].0].started_ms.is_some();
        if step.phase == Phase::OnFailure && !phase_began {
            return (StepStatus::NotNeeded, Some("nothing had failed".into()));
        }
        if self.decision == Some(Decision::Quit) {
            return not_run("the precheck refused the run".into());
        }
        if let Some(need) = self.failed_need(i) {
            return not_run(format!("it needs `{need}`, which failed"));
        }
        match step.phase {
            Phase::Cleanup if !phase_began => not_run("nothing had been started".into()),
            _ => not_run(self.why_stopped()),
        }
    }

    fn why_stopped(&self) -> String {
        match (self.signal, self.stopped_by) {
            (Some(_), _) => "the run was interrupted".into(),
            (None, Some(stopper)) => format!("the run stopped when `{}` failed", self.plan.steps[stopper].id),
            (None, None) if self.given_up => "the run died before".into(),
            (None, None) => "the run ended before".into(),
        }
    }

    /// A step that failed and that the step `i` needs, directly or not.
    fn failed_need(&self, i: usize) -> Option<&str> {
        let mut seen = vec![false; self.places.len()];
        let mut stack = self.plan.steps[i].needs.clone();
        while let Some(need) = stack.pop() {
            let (_, known) = self.step(need)?;
            if known.status.is_bad() {
                return Some(&known.id);
            }
            if !std::mem::replace(&mut seen[need.0], true) {
                stack.extend(&self.plan.steps[need.0].needs);
            }
        }
        None
    }

    /// Brings the counts up to date; done at the end of a run, and asked for by whoever shows them before.
    pub fn count(&mut self) {
        let mut counts = Counts::default();
        let (mut undone, mut cleanup) = (Tally::default(), Tally::default());
        for phase in &self.phases {
            for step in &phase.steps {
                match &step.undo {
                    Some(undo) if phase.phase != Phase::Cleanup => match undo.status {
                        UndoStatus::NotNeeded | UndoStatus::Kept | UndoStatus::None => {}
                        UndoStatus::Removed | UndoStatus::NothingToDo => {
                            undone.all += 1;
                            undone.done += 1;
                        }
                        _ => undone.all += 1,
                    },
                    _ => {}
                }
                if phase.phase == Phase::Cleanup && !step.attempts.is_empty() {
                    cleanup.all += 1;
                    cleanup.done += usize::from(step.status == StepStatus::Ok);
                }
                if phase.phase == Phase::OnFailure {
                    continue;
                }
                counts.planned += 1;
                counts.ran += usize::from(!step.attempts.is_empty());
                match step.status {
                    StepStatus::Ok => counts.ok += 1,
                    StepStatus::Failed => counts.failed += 1,
                    StepStatus::Unknown => counts.unknown += 1,
                    StepStatus::Stopped => counts.stopped += 1,
                    StepStatus::Skipped => counts.skipped += 1,
                    StepStatus::NotRun | StepStatus::Pending => counts.not_run += 1,
                    StepStatus::Running | StepStatus::Retrying | StepStatus::NotNeeded => {}
                }
            }
        }
        (self.counts, self.undone, self.cleanup) = (counts, undone, cleanup);
    }
}

/// Whether the scheduler tries again after this failure, as long as the run goes on.
fn is_tried_again(step: &PlannedStep, attempt: u32, error: &ErrorSummary) -> bool {
    let worth_it = step.retry.on.is_empty() || step.retry.on.contains(&error.class);
    attempt < step.retry.attempts && worth_it && error.class != ErrorClass::Cancelled
}

fn not_begun(plan: &Plan, step: &PlannedStep) -> StepSummary {
    let how = step.undo_words().filter(|_| step.is_undone());
    let undo = step.is_effect().then_some(UndoSummary {
        how,
        status: UndoStatus::NotNeeded,
        took_ms: None,
        left: None,
        error: None,
    });
    StepSummary {
        id: step.id.clone(),
        name: step.name.clone(),
        kind: step.body.kind.clone(),
        title: step.description.title.clone(),
        at: plan.place(step),
        effect: step.is_effect(),
        continue_on_error: step.continue_on_error,
        status: StepStatus::Pending,
        why: None,
        attempts: Vec::new(),
        took_ms: 0,
        summary: String::new(),
        out: None,
        out_cut: false,
        error: None,
        hint: None,
        undo,
    }
}
