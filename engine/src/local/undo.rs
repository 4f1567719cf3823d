//! Taking back what a step did, and looking for what is left.

use super::outputs::{Outputs, Touched};
use crate::{
    error::{ErrorClass, StepError},
    event::{Intent, Leftovers, ProgressSink, StepId, UndoMethod},
    expr::Scope,
    host::{Cancel, CancelSource},
    plan::{Plan, PlannedStep},
    schedule::{Scheduler, StepState, UndoState},
    step::{Context, DynStep, Leftover, Presence, Services, Undone},
};
use std::{sync::Arc, time::Duration};

/// How long the undo of one step may take, tries and all; its own budget, whatever the run used up.
const BUDGET: Duration = Duration::from_secs(120);
/// How long one look for leftovers may take.
const LOOK: Duration = Duration::from_secs(30);
/// How often an undo is tried when a database is busy or a host away.
const TRIES: u32 = 5;

/// What undo and the leftovers check work with.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) services: Arc<Services>,
    pub(super) scope: Arc<Scope>,
    pub(super) progress: ProgressSink,
    /// Raised when even the undo has to stop.
    pub(super) kill: Cancel,
}

impl Workshop {
    /// Takes back all attempts of a step, the latest first.
    pub(super) async fn undo(&self, step: &PlannedStep, touched: &[Touched]) -> Result<Undone, StepError> {
        let mut result = Ok(Undone::NothingToDo);
        for attempt in touched {
            let (source, cancel) = CancelSource::new();
            let undone = tokio::select! {
                undone = self.persist(step, attempt, &cancel) => undone,
                () = tokio::time::sleep(BUDGET) => {
                    source.cancel();
                    let message = format!("the undo of `{}` did not finish within {} s", step.id, BUDGET.as_secs());
                    Err(StepError::new(ErrorClass::Timeout, message))
                }
                () = self.kill.cancelled() => {
                    source.cancel();
                    Err(StepError::new(ErrorClass::Cancelled, format!("the undo of `{}` was cut short", step.id)))
                }
            };
            // What is left, or went wrong, of any attempt outweighs what another one removed.
            result = match (result, undone) {
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                (Ok(Undone::Left(left)), Ok(_)) | (Ok(_), Ok(Undone::Left(left))) => Ok(Undone::Left(left)),
                (Ok(Undone::Removed), Ok(_)) | (Ok(_), Ok(Undone::Removed)) => Ok(Undone::Removed),
                (Ok(Undone::NothingToDo), Ok(Undone::NothingToDo)) => Ok(Undone::NothingToDo),
            };
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
        loop {
            match self.once(step, attempt, cancel).await {
                Err(error) if tries < TRIES && may_pass(error.class) => {
                    tokio::time::sleep(pause).await;
                    pause *= 3;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn once(
        &self,
        step: &PlannedStep,
        attempt: &Touched,
        cancel: &Cancel,
    ) -> Result<Undone, StepError> {
        let Intent { params, intent, on, undo } = &attempt.intent;
        match undo {
            UndoMethod::None => Ok(Undone::NothingToDo),
            UndoMethod::Derived => {
                let kind = self.kind(&step.body.kind)?;
                let cx = self.context(step, attempt.attempt, on.as_deref(), cancel).await?;
                kind.undo(&cx, params, intent, attempt.output.as_ref()).await
            }
            UndoMethod::Written(written) => {
                let kind = self.kind(&written.kind)?;
                let cx = self.context(step, attempt.attempt, written.on.as_deref(), cancel).await?;
                let intent = kind.intend(&cx, &written.params).await?;
                kind.run(&cx, &written.params, &intent).await.map(|_| Undone::Removed)
            }
        }
    }

    fn kind(&self, kind: &str) -> Result<&Arc<dyn DynStep>, StepError> {
        self.services.registry.get(kind).ok_or_else(|| StepError::internal(format!("no step type `{kind}`")))
    }

    async fn context(
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
            host: self.services.host(on).await?,
            cancel: cancel.clone(),
            scope: self.scope.clone(),
            progress: self.progress.clone(),
        })
    }

    /// Looks for what a step made.
    async fn look(&self, step: &PlannedStep, attempt: &Touched) -> Presence {
        let Intent { params, intent, on, undo } = &attempt.intent;
        if *undo != UndoMethod::Derived {
            return Presence::Gone;
        }
        let (source, cancel) = CancelSource::new();
        let looking = async {
            let kind = self.kind(&step.body.kind)?;
            let cx = self.context(step, attempt.attempt, on.as_deref(), &cancel).await?;
            kind.presence(&cx, params, intent, attempt.output.as_ref()).await
        };
        let found = tokio::time::timeout(LOOK, looking).await;
        source.cancel();
        match found {
            Ok(Ok(presence)) => presence,
            Ok(Err(error)) => Presence::Unknown(error.message),
            Err(_) => Presence::Unknown(format!("no answer within {} s", LOOK.as_secs())),
        }
    }
}

fn may_pass(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Busy | ErrorClass::Unreachable | ErrorClass::Timeout)
}

/// How the undo of a step went, as the leftovers check must know it.
#[derive(Clone, Debug)]
pub(super) struct UndoResult {
    pub(super) step: StepId,
    pub(super) result: Result<Undone, StepError>,
}

/// Looks for everything that the run made.
pub(super) async fn check_leftovers(
    workshop: &Workshop,
    plan: &Plan,
    scheduler: &Scheduler,
    outputs: &Outputs,
    undos: &[UndoResult],
    cleanup_errors: &[(StepId, StepError)],
) -> Leftovers {
    let mut leftovers = Leftovers::default();
    for id in outputs.all_touched() {
        let step = plan.step(id);
        if !step.is_undone() {
            continue;
        }
        leftovers.created += 1;
        if scheduler.undo(id) == UndoState::Kept {
            leftovers.kept += 1;
            continue;
        }
        let undo = undos.iter().rev().find(|undo| undo.step == id).map(|undo| &undo.result);
        let left = match undo {
            Some(Ok(Undone::Left(left))) => Some(left.clone()),
            Some(Err(error)) => Some(Leftover {
                what: format!("what `{}` did: {}", step.id, step.description.title),
                why: error.message.clone(),
                remove_with: error.hint.clone().unwrap_or_default(),
            }),
            _ => {
                let mut found = None;
                for attempt in outputs.touched(id) {
                    match workshop.look(step, &attempt).await {
                        Presence::Gone => {}
                        Presence::Present(left) => found = Some(left),
                        Presence::Unknown(why) => {
                            found = Some(Leftover {
                                what: format!("perhaps what `{}` did: {}", step.id, step.description.title),
                                why,
                                remove_with: String::new(),
                            });
                        }
                    }
                }
                found
            }
        };
        match left {
            None => leftovers.removed += 1,
            Some(left) => leftovers.left.push(left),
        }
    }
    for (id, error) in cleanup_errors {
        let step = plan.step(*id);
        if !step.continue_on_error && scheduler.step(*id) == StepState::Failed {
            leftovers.left.push(Leftover {
                what: format!("what the cleanup step `{}` removes: {}", step.id, step.description.title),
                why: error.message.clone(),
                remove_with: error.hint.clone().unwrap_or_default(),
            });
        }
    }
    leftovers
}
