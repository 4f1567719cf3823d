//! Taking back what a step did, finding out what became of it, and looking for what is left.

use super::{
    attempt::expectation,
    faults::Faults,
    locks,
    machines::{self, Act},
    notes::{Claim, Claims},
    outputs::Touched,
    process::{Unended, end_orphans, not_seen_to_end},
    written::{LastIntent, Note},
};
use crate::{
    error::{ErrorClass, StepError},
    event::{Intent, Leftovers, Outcome, ProgressSink, UndoMethod},
    expr::Scope,
    host::{Cancel, CancelSource},
    plan::{Plan, PlannedStep},
    step::{Amend, Chronicle, Context, DynStep, Leftover, Presence, Services, Settled, Undone},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// How long the undo of one step may take, tries and all; its own budget, whatever the run used up.
const BUDGET: Duration = Duration::from_secs(120);
/// How long one look for leftovers, or at an attempt in doubt, may take.
const LOOK: Duration = Duration::from_secs(30);
/// How often an undo is tried when a database is busy or a host away.
const TRIES: u32 = 5;

/// What undo and the leftovers check work with.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) services: Arc<Services>,
    pub(super) scope: Arc<Scope>,
    pub(super) progress: ProgressSink,
    pub(super) locks: PathBuf,
    pub(super) faults: Faults,
    /// Makes the intent of a written undo durable.
    pub(super) note: Note,
    /// What the run has intended so far.
    pub(super) chronicle: Chronicle,
}

impl Workshop {
    /// Takes back all attempts of a step, the latest first.
    pub(super) async fn undo(&self, step: &PlannedStep, touched: &[Touched]) -> Result<Undone, StepError> {
        let never = Cancel::never();
        let _held = match &step.lock {
            Some(name) => {
                Some(locks::acquire(&self.locks, name, &self.services.run.id, &never, |_| {}).await?)
            }
            None => None,
        };
        if let Some(error) = self.faults.undo_fails(&step.id) {
            return Err(error);
        }
        let mut result = Ok(Undone::NothingToDo);
        for attempt in touched {
            let (source, cancel) = CancelSource::new();
            self.faults.point(|| format!("before-undo:{}", step.id));
            let undone = tokio::select! {
                undone = self.persist(step, attempt, &cancel) => undone,
                () = tokio::time::sleep(BUDGET) => {
                    source.cancel();
                    let message = format!("the undo of `{}` did not finish within {} s", step.id, BUDGET.as_secs());
                    Err(StepError::new(ErrorClass::Timeout, message))
                }
            };
            self.faults.point(|| format!("after-undo:{}", step.id));
            result = worse(result, undone);
        }
        result
    }

    /// Tries again while what stands in the way may pass.
    async fn persist(
        &self,
        step: &PlannedStep,
        attempt: &Touched,
        cancel: &Cancel,
    ) -> Result<Undone, StepError> {
        let mut pause = Duration::from_millis(200);
        let mut tries = 1;
        let last = LastIntent::of(attempt);
        loop {
            match self.once(step, attempt, &last, cancel).await {
                Err(error) if tries < TRIES && may_pass(error.class) => {
                    tokio::time::sleep(pause).await;
                    pause *= 3;
                    tries += 1;
                }
                Ok(first) if self.faults.repeats(&step.id) => {
                    last.forget();
                    return self.once(step, attempt, &last, cancel).await.map(|again| match again {
                        Undone::NothingToDo => first,
                        other => other,
                    });
                }
                result => return result,
            }
        }
    }

    async fn once(
        &self,
        step: &PlannedStep,
        attempt: &Touched,
        last: &LastIntent,
        cancel: &Cancel,
    ) -> Result<Undone, StepError> {
        let Intent { params, intent, on, undo, .. } = &attempt.intent;
        match undo {
            UndoMethod::None => Ok(Undone::NothingToDo),
            UndoMethod::Derived => {
                let kind = self.kind(&step.body.kind)?;
                if let Some(why) = self.elsewhere(step, attempt, Act::Undo, cancel).await? {
                    return Ok(Undone::CannotTell(self.told(step, &why)));
                }
                let mut cx = self.context(step, attempt.attempt, on.as_deref(), cancel).await?;
                cx.amend = self.note.amend(attempt.attempt);
                let mut undone = kind.undo(&cx, params, intent, attempt.output.as_ref()).await?;
                if let Undone::Left(left) | Undone::CannotTell(left) = &mut undone {
                    left.remove_with = self.services.typed_on(on.as_deref(), &left.remove_with);
                }
                Ok(undone)
            }
            UndoMethod::Written(written) => {
                if let Some(why) = self.elsewhere(step, attempt, Act::Undo, cancel).await? {
                    return Ok(Undone::CannotTell(self.told(step, &why)));
                }
                self.run_written(step, attempt, written, last, cancel).await
            }
        }
    }

    pub(super) fn kind(&self, kind: &str) -> Result<&Arc<dyn DynStep>, StepError> {
        self.services.registry.get(kind).ok_or_else(|| StepError::internal(format!("no step type `{kind}`")))
    }

    /// Why the undo of an attempt may not act: a host that it concerns is another machine now.
    async fn elsewhere(
        &self,
        step: &PlannedStep,
        attempt: &Touched,
        act: Act,
        cancel: &Cancel,
    ) -> Result<Option<String>, StepError> {
        machines::changed(&self.services, &step.body.kind, &attempt.intent, act, cancel).await
    }

    fn told(&self, step: &PlannedStep, why: &str) -> Leftover {
        Leftover {
            what: format!("what `{}` did: {}", step.id, step.description.title),
            why: why.to_owned(),
            remove_with: String::new(),
        }
    }

    pub(super) async fn context(
        &self,
        step: &PlannedStep,
        attempt: u32,
        on: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Context, StepError> {
        Ok(Context {
            services: self.services.clone(),
            step: step.id.clone(),
            phase: step.phase,
            attempt,
            undoing: false,
            host: self.services.host(on).await?,
            cancel: cancel.clone(),
            scope: self.scope.clone(),
            progress: self.progress.clone(),
            amend: Amend::none(),
            chronicle: self.chronicle.clone(),
        })
    }

    /// What became of an attempt whose outcome is unknown; nothing if its effect never happened.
    pub(super) async fn settle(
        &self,
        step: &PlannedStep,
        attempt: Option<&Touched>,
        stop: &Cancel,
    ) -> Option<Outcome> {
        let unknown = |error: StepError| {
            let mut error = error.unknown_outcome();
            error.message =
                format!("it is not known whether the effect of `{}` happened: {}", step.id, error.message);
            Some(Outcome::Unknown { error })
        };
        let stopped = || StepError::new(ErrorClass::Cancelled, "the run stopped before it was found out");
        // Without an intent nothing was begun.
        let attempt = attempt?;
        let mut pause = Duration::from_millis(200);
        for tries in 1.. {
            let looked = tokio::select! {
                looked = self.find_out(step, attempt) => looked,
                () = stop.cancelled() => return unknown(stopped()),
            };
            match looked {
                Ok(Settled::NotHappened) => return None,
                Ok(Settled::Unclear(why)) => return unknown(StepError::new(ErrorClass::Cancelled, why)),
                Ok(Settled::Happened(out)) => {
                    let unmet =
                        step.expect.as_ref().and_then(|expect| expectation(expect, &out, &self.scope).err());
                    return Some(match (unmet, self.kind(&step.body.kind)) {
                        (Some(error), _) => Outcome::Failed { error, out: Some(out) },
                        (None, kind) => {
                            let summary = kind.map(|kind| kind.summary(&out)).unwrap_or_default();
                            Outcome::Done { out, summary }
                        }
                    });
                }
                Err(error) if tries < TRIES && may_pass(error.class) => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause *= 3,
                        () = stop.cancelled() => return unknown(stopped()),
                    }
                }
                Err(error) => return unknown(error),
            }
        }
        None
    }

    async fn find_out(
        &self,
        step: &PlannedStep,
        attempt: &Touched,
    ) -> Result<Settled<serde_json::Value>, StepError> {
        let Intent { params, intent, on, .. } = &attempt.intent;
        within_a_look(async |cancel| {
            let kind = self.kind(&step.body.kind)?;
            if let Some(why) = self.elsewhere(step, attempt, Act::Look, cancel).await? {
                return Ok(Settled::Unclear(why));
            }
            let cx = self.context(step, attempt.attempt, on.as_deref(), cancel).await?;
            kind.settle(&cx, params, intent).await
        })
        .await
    }

    /// Looks for what a step made.
    pub(super) async fn look(&self, step: &PlannedStep, attempt: &Touched) -> Presence {
        let Intent { params, intent, on, undo, .. } = &attempt.intent;
        if *undo != UndoMethod::Derived {
            return Presence::Gone;
        }
        let found = within_a_look(async |cancel| {
            let kind = self.kind(&step.body.kind)?;
            if let Some(why) = self.elsewhere(step, attempt, Act::Look, cancel).await? {
                return Ok(Presence::Unknown(why));
            }
            let cx = self.context(step, attempt.attempt, on.as_deref(), cancel).await?;
            let mut found = kind.presence(&cx, params, intent, attempt.output.as_ref()).await?;
            if let Presence::Present(left) = &mut found {
                left.remove_with = self.services.typed_on(on.as_deref(), &left.remove_with);
            }
            Ok(found)
        });
        found.await.unwrap_or_else(|error| Presence::Unknown(error.message))
    }

    /// Removes what was put by for the undo of an effect that is kept.
    async fn release(&self, step: &PlannedStep, claim: &Claim) -> Remains {
        for attempt in claim.attempts.iter().filter(|it| it.intent.undo == UndoMethod::Derived) {
            let Intent { params, intent, on, .. } = &attempt.intent;
            let released = within_a_look(async |cancel| {
                let kind = self.kind(&step.body.kind)?;
                if let Some(why) = self.elsewhere(step, attempt, Act::Look, cancel).await? {
                    return Ok(Some(why));
                }
                let cx = self.context(step, attempt.attempt, on.as_deref(), cancel).await?;
                kind.release(&cx, params, intent).await.map(|()| None)
            });
            if let Some(why) = released.await.unwrap_or_else(|error| Some(error.message)) {
                let what = format!("what was put by for the undo of `{}`, which is kept", step.id);
                return Remains::Unknown(Leftover { what, why, remove_with: String::new() });
            }
        }
        Remains::Nothing
    }

    /// What a person can type to remove what a step made.
    fn by_hand(&self, step: &PlannedStep, attempt: &Touched) -> Option<String> {
        let Intent { params, intent, on, undo, .. } = &attempt.intent;
        if *undo != UndoMethod::Derived {
            return None;
        }
        let told = self.kind(&step.body.kind).ok()?.by_hand(&self.services, on.as_deref(), params, intent)?;
        Some(self.services.typed_on(told.host.as_deref().or(on.as_deref()), &told.command))
    }

    /// What is left of an effect.
    async fn remains(&self, step: &PlannedStep, claim: &Claim) -> Remains {
        let by_hand = claim.attempts.first().and_then(|attempt| self.by_hand(step, attempt));
        let told =
            |why: &str| Leftover { remove_with: by_hand.clone().unwrap_or_default(), ..self.told(step, why) };
        match &claim.undo {
            Some(Ok(Undone::Left(left))) => return Remains::Left(left.clone()),
            Some(Ok(Undone::CannotTell(left))) => return Remains::Unknown(left.clone()),
            Some(Err(error)) => return Remains::Left(told(&error.message)),
            Some(Ok(Undone::Removed | Undone::NothingToDo)) | None => {}
        }
        let mut remains = match &claim.undo {
            // It failed, and its undo has found nothing: there was no effect to count.
            Some(Ok(Undone::NothingToDo)) if claim.attempts.iter().all(|it| it.output.is_none()) => {
                Remains::NeverWas
            }
            _ => Remains::Nothing,
        };
        for attempt in &claim.attempts {
            match self.look(step, attempt).await {
                Presence::Gone => {}
                Presence::Present(left) => remains = Remains::Left(left),
                Presence::Unknown(_) if matches!(remains, Remains::Left(_)) => {}
                // Its undo has seen it go. What it stood in may be gone since, too: an outer undo took that away.
                Presence::Unknown(_) if claim.undo.is_some() => {}
                Presence::Unknown(why) => remains = Remains::Unknown(told(&why)),
            }
        }
        remains
    }
}

/// What the leftovers check finds of one effect.
enum Remains {
    /// It never happened.
    NeverWas,
    /// It is gone again.
    Nothing,
    /// It is there.
    Left(Leftover),
    /// Nobody can tell.
    Unknown(Leftover),
}

/// What undos of two attempts come to: what is left or went wrong of one outweighs what the other removed.
fn worse(one: Result<Undone, StepError>, other: Result<Undone, StepError>) -> Result<Undone, StepError> {
    let weight = |result: &Result<Undone, StepError>| match result {
        Ok(Undone::NothingToDo) => 0,
        Ok(Undone::Removed) => 1,
        Ok(Undone::CannotTell(_)) => 2,
        Ok(Undone::Left(_)) => 3,
        Err(_) => 4,
    };
    if weight(&other) > weight(&one) { other } else { one }
}

async fn within_a_look<T>(look: impl AsyncFnOnce(&Cancel) -> Result<T, StepError>) -> Result<T, StepError> {
    let (source, cancel) = CancelSource::new();
    let found = tokio::time::timeout(LOOK, look(&cancel)).await;
    source.cancel();
    found.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", LOOK.as_secs());
        Err(StepError::new(ErrorClass::Timeout, message))
    })
}

fn may_pass(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Busy | ErrorClass::Unreachable | ErrorClass::Timeout)
}

fn count(records: u64) -> String {
    if records == 1 { "record".into() } else { format!("{records} records") }
}

/// Looks for everything that the run made.
pub(super) async fn leftovers(workshop: &Workshop, plan: &Plan, claims: Claims) -> Leftovers {
    let mut leftovers = Leftovers::default();
    // All at once: one host that does not answer must not hold up the look at all others.
    let mut looks = JoinSet::new();
    for (place, claim) in claims.effects.into_iter().enumerate() {
        // Each attempt that got as far as an output has made something of its own.
        let made = claim.attempts.iter().filter(|it| it.output.is_some()).count().max(1);
        leftovers.created += made;
        let (workshop, step) = (workshop.clone(), plan.step(claim.step).clone());
        looks.spawn(async move {
            let remains = match claim.kept {
                true => workshop.release(&step, &claim).await,
                false => workshop.remains(&step, &claim).await,
            };
            (place, made, claim.kept, remains)
        });
    }
    let mut found = looks.join_all().await;
    found.sort_by_key(|(place, ..)| *place);
    for (_, made, kept, remains) in found {
        match remains {
            Remains::Unknown(left) if kept => {
                leftovers.kept += made;
                leftovers.unknown.push(left);
            }
            _ if kept => leftovers.kept += made,
            Remains::NeverWas => leftovers.created -= made,
            Remains::Nothing => leftovers.removed += made,
            Remains::Left(left) => {
                leftovers.removed += made - 1;
                leftovers.left.push(left);
            }
            Remains::Unknown(left) => {
                leftovers.removed += made - 1;
                leftovers.unknown.push(left);
            }
        }
    }
    for unended in outlived(&workshop.services.run.id, leftovers.kept == 0).await {
        let told = unended.leftover("processes that a command of this run started");
        match unended {
            Unended::Alive(_) => leftovers.left.push(told),
            Unended::Unseen { .. } => leftovers.unknown.push(told),
        }
    }
    for (id, tries) in claims.without_undo {
        let step = plan.step(id);
        let times = if tries > 1 { format!(", {tries} times") } else { String::new() };
        leftovers.without_undo.push(format!("`{}`: {}{times}", step.id, step.description.title));
    }
    if claims.lost > 0 {
        leftovers.unknown.push(Leftover {
            what: format!("what the last {} of the journal told of", count(claims.lost)),
            why: "the journal was damaged, and has lost them".into(),
            remove_with: String::new(),
        });
    }
    for (id, error) in claims.cleanups {
        let step = plan.step(id);
        leftovers.left.push(Leftover {
            what: format!("what the cleanup step `{}` removes: {}", step.id, step.description.title),
            why: error.message.clone(),
            remove_with: String::new(),
        });
    }
    leftovers
}

/// What the commands of a run have left running, or may have. What escaped from its step is ended, unless something is kept:
/// it may belong to that.
async fn outlived(run: &str, nothing_is_kept: bool) -> Vec<Unended> {
    let mut found = not_seen_to_end(run);
    if nothing_is_kept {
        let run = run.to_owned();
        match tokio::task::spawn_blocking(move || end_orphans(&run)).await {
            // That processes cannot be looked for is told once.
            Ok(Err(Unended::Unseen { .. })) if !found.is_empty() => {}
            Ok(Err(unended)) => found.push(unended),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    found
}
