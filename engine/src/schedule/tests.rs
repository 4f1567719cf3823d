//! Any DAG, any outcomes: the order is valid, undo is reversed, a terminal state is reached.

use super::*;
use crate::{
    error::StepError,
    event::{Intent, Outcome, RunEvent, UndoMethod},
    step::Undone,
};
use proptest::prelude::*;
use serde_json::Value;

/// How each attempt of a step ends in a simulated run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Done,
    Failed,
    FailedOnce,
    Unknown,
    /// The connection breaks; a look shows that the effect has happened.
    LostLink,
    /// The same, but it has not happened.
    LostBefore,
    Skipped,
}

pub(super) fn node(phase: Phase, needs: &[usize]) -> Node {
    let effect = matches!(phase, Phase::Prepare | Phase::Monitor);
    Node {
        phase,
        needs: needs.iter().copied().map(StepId).collect(),
        effect,
        undone: effect,
        keep: Keep::Never,
        retry: RetryPolicy::default(),
        continue_on_error: false,
        waits: false,
        recovery: if effect { Recovery::Probe } else { Recovery::Rerun },
    }
}

/// Runs a scheduler to its end with the given fates; `pick` chooses which running thing ends next.
pub(super) struct Simulation {
    pub(super) scheduler: Scheduler,
    fates: Vec<Fate>,
    pub(super) history: Vec<RunEvent>,
    running: Vec<RunEvent>,
    pub(super) decision: Decision,
    /// How often each step was tried to the end.
    tried: Vec<u32>,
    /// For attempts that died with their owner: whether their effect had happened.
    pub(super) happened: Vec<bool>,
}

impl Simulation {
    pub(super) fn new(nodes: Vec<Node>, fates: Vec<Fate>) -> Self {
        let limits = Limits { working: 3, waiting: 8 };
        let (tried, happened) = (vec![0; nodes.len()], vec![true; nodes.len()]);
        let scheduler = Scheduler::new(nodes, limits, 7);
        let (history, running) = (Vec::new(), Vec::new());
        Self { scheduler, fates, history, running, decision: Decision::Quit, tried, happened }
    }

    /// What another process finds in the journal.
    pub(super) fn replay(mut self, history: &[RunEvent]) -> Self {
        for event in history {
            self.emit(event.clone());
            if let RunEvent::StepFinished { step, .. } = event {
                self.tried[step.0] += 1;
            }
        }
        self
    }

    pub(super) fn emit(&mut self, event: RunEvent) {
        self.scheduler.apply(&event).unwrap_or_else(|error| panic!("{error}\nafter {:#?}", self.history));
        self.history.push(event);
    }

    fn start(&mut self) {
        self.emit(RunEvent::RunStarted { version: 1, plan: String::new(), playbook: String::new() });
    }

    /// Carries out everything that can begin.
    fn begin(&mut self) {
        loop {
            let commands = self.scheduler.next_commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                self.command(&command);
            }
        }
    }

    fn command(&mut self, command: &Command) {
        match command.clone() {
            Command::StartPhase(phase) => self.emit(RunEvent::PhaseStarted { phase }),
            Command::Run { step, .. } if !self.scheduler.may_start(step) => self.scheduler.withdraw(step),
            Command::Run { step, attempt, .. } => {
                if self.fates[step.0] == Fate::Skipped {
                    self.emit(RunEvent::StepSkipped { step, reason: crate::event::SkipReason::When });
                    return;
                }
                let effect = self.scheduler.nodes[step.0].effect;
                let intent = effect.then(|| {
                    let (params, intent) = (Value::Null, Value::Null);
                    Box::new(Intent {
                        params,
                        intent,
                        on: None,
                        undo: UndoMethod::Derived,
                        machines: Default::default(),
                    })
                });
                self.emit(RunEvent::StepStarted { step, attempt, intent });
                let error = StepError::expectation("no");
                let first = std::mem::replace(&mut self.tried[step.0], 1) == 0;
                let outcome = match self.fates[step.0] {
                    Fate::Failed => Outcome::Failed { error, out: None },
                    Fate::FailedOnce if first => Outcome::Failed { error, out: None },
                    Fate::Unknown => Outcome::Unknown { error },
                    Fate::LostLink | Fate::LostBefore if effect && first => Outcome::Unknown { error },
                    _ => Outcome::Done { out: Value::Null, summary: String::new() },
                };
                self.running.push(RunEvent::StepFinished { step, attempt, outcome, took_ms: 1 });
            }
            Command::Settle { step, attempt } => {
                let done = Outcome::Done { out: Value::Null, summary: String::new() };
                let outcome = match self.fates[step.0] {
                    Fate::Unknown => Some(Outcome::Unknown { error: StepError::expectation("no") }),
                    Fate::LostLink => Some(done),
                    // Where an effect fails there is none.
                    Fate::LostBefore | Fate::Failed => None,
                    Fate::FailedOnce if self.tried[step.0] == 0 => None,
                    _ => self.happened[step.0].then_some(done),
                };
                self.running.push(RunEvent::StepSettled { step, attempt, outcome });
            }
            Command::AskPrecheck => self.emit(RunEvent::PrecheckDecided { decision: self.decision }),
            Command::StopRunning => {}
            Command::Keep(step) => self.emit(RunEvent::StepKept { step }),
            Command::Undo(step) => {
                self.emit(RunEvent::UndoStarted { step });
                self.running.push(RunEvent::UndoFinished { step, result: Ok(Undone::Removed), took_ms: 1 });
            }
            Command::CheckLeftovers => {
                self.emit(RunEvent::LeftoversChecked { leftovers: Leftovers::default() });
            }
            Command::Finish(verdict) => self.emit(RunEvent::RunFinished { verdict }),
        }
    }

    pub(super) fn run(mut self, picks: &[usize], interrupt_at: Option<usize>) -> Self {
        self.start();
        self.go_on(picks, interrupt_at)
    }

    pub(super) fn go_on(mut self, picks: &[usize], interrupt_at: Option<usize>) -> Self {
        let mut turn = 0;
        loop {
            self.begin();
            if interrupt_at == Some(turn) && !self.scheduler.is_over() {
                self.emit(RunEvent::Interrupted { signal: 2 });
            }
            turn += 1;
            if self.running.is_empty() {
                self.begin();
                if self.running.is_empty() {
                    return self;
                }
            }
            let pick = picks.get(turn % picks.len().max(1)).copied().unwrap_or(0) % self.running.len();
            let event = self.running.remove(pick);
            self.emit(event);
        }
    }

    fn position(&self, found: impl Fn(&RunEvent) -> bool) -> Option<usize> {
        self.history.iter().position(found)
    }

    pub(super) fn started(&self, id: usize) -> Option<usize> {
        self.position(|event| matches!(event, RunEvent::StepStarted { step, .. } if step.0 == id))
    }

    fn finished(&self, id: usize) -> Option<usize> {
        self.history.iter().rposition(|event| match event {
            RunEvent::StepFinished { step, .. } | RunEvent::StepSkipped { step, .. } => step.0 == id,
            _ => false,
        })
    }

    pub(super) fn undo(&self, id: usize) -> (Option<usize>, Option<usize>) {
        let begun = self.position(|event| matches!(event, RunEvent::UndoStarted { step } if step.0 == id));
        let ended =
            self.position(|event| matches!(event, RunEvent::UndoFinished { step, .. } if step.0 == id));
        (begun, ended)
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        match self.history.last() {
            Some(RunEvent::RunFinished { verdict }) => Some(*verdict),
            _ => None,
        }
    }
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Precheck),
        Just(Phase::Prepare),
        Just(Phase::Prepare),
        Just(Phase::Monitor),
        Just(Phase::OnFailure),
        Just(Phase::Cleanup),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Done),
        1 => Just(Fate::Failed),
        1 => Just(Fate::FailedOnce),
        1 => Just(Fate::Unknown),
        1 => Just(Fate::LostLink),
        1 => Just(Fate::LostBefore),
        1 => Just(Fate::Skipped),
    ]
}

prop_compose! {
    pub(super) fn world()(steps in prop::collection::vec((phase(), fate(), any::<u16>(), 0u8..8), 0..24)) -> (Vec<Node>, Vec<Fate>) {
        let mut nodes: Vec<Node> = Vec::new();
        for (i, (phase, _, bits, flags)) in steps.iter().enumerate() {
            let needs: Vec<usize> = (0..i).filter(|j| nodes[*j].phase == *phase && bits >> (j % 16) & 1 == 1).collect();
            let mut made = node(*phase, &needs);
            made.continue_on_error = flags & 1 == 1;
            made.waits = flags & 2 == 2;
            made.retry.attempts = 1 + u32::from(flags >> 2);
            nodes.push(made);
        }
        (nodes, steps.iter().map(|(_, fate, _, _)| *fate).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_dag_with_any_outcomes_ends_in_order((nodes, fates) in world(), picks in prop::collection::vec(any::<usize>(), 1..8),
                                              interrupt in prop::option::of(0usize..20), force in any::<bool>()) {
        let mut simulation = Simulation::new(nodes.clone(), fates.clone());
        simulation.decision = if force { Decision::Continue } else { Decision::Quit };
        let end = simulation.run(&picks, interrupt);
        prop_assert!(end.scheduler.is_over(), "not over: {:#?}", end.history);
        prop_assert!(end.verdict().is_some());
        let refused = end.verdict() == Some(Verdict::Refused);
        for (id, node) in nodes.iter().enumerate() {
            let Some(start) = end.started(id) else {
                prop_assert!(end.undo(id).0.is_none(), "undone without a start");
                continue;
            };
            prop_assert!(node.phase == Phase::Precheck || !refused, "refused, yet step {} ran", id);
            for need in &node.needs {
                let before = end.finished(need.0);
                prop_assert!(before.is_some_and(|before| before < start), "{} began before {} was over", id, need.0);
            }
            for (other, _) in nodes.iter().enumerate().filter(|(_, other)| other.phase < node.phase) {
                if let Some(before) = end.finished(other) {
                    prop_assert!(before < start, "{id} began before {other} of an earlier phase was over");
                }
            }
            if node.undone {
                let (begun, ended) = end.undo(id);
                prop_assert!(begun.is_some() && ended.is_some(), "effect {} was not undone", id);
                for need in nodes[id].needs.iter().filter(|need| end.started(need.0).is_some()) {
                    prop_assert!(end.undo(need.0).0 > ended, "{} undone before {} that needs it", need.0, id);
                }
            }
        }
        // The history alone gives the same state: resume is a replay.
        let mut replay = Scheduler::new(nodes, Limits { working: 3, waiting: 8 }, 7);
        for event in &end.history {
            replay.apply(event).unwrap();
        }
        prop_assert!(replay.is_over());
        prop_assert_eq!(replay.steps.iter().map(|s| s.state).collect::<Vec<_>>(), end.scheduler.steps.iter().map(|s| s.state).collect::<Vec<_>>());
    }
}

#[test]
fn a_refused_precheck_changes_nothing_and_runs_no_cleanup() {
    let nodes = vec![node(Phase::Precheck, &[]), node(Phase::Prepare, &[]), node(Phase::Cleanup, &[])];
    let end = Simulation::new(nodes, vec![Fate::Failed, Fate::Done, Fate::Done]).run(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Refused));
    assert_eq!((end.started(1), end.started(2)), (None, None));
}

#[test]
fn after_a_failure_diagnostics_undo_and_cleanup_follow_in_this_order() {
    let nodes = vec![
        node(Phase::Prepare, &[]),
        node(Phase::Monitor, &[]),
        node(Phase::OnFailure, &[]),
        node(Phase::Cleanup, &[]),
    ];
    let fates = vec![Fate::Done, Fate::Failed, Fate::Done, Fate::Done];
    let end = Simulation::new(nodes, fates).run(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Failed));
    let order = [end.finished(1), end.started(2), end.undo(1).0, end.undo(0).0, end.started(3)];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
}

#[test]
fn a_tolerated_failure_blocks_its_dependents_and_does_not_fail_the_run() {
    let mut tolerated = node(Phase::Monitor, &[]);
    tolerated.continue_on_error = true;
    let nodes = vec![tolerated, node(Phase::Monitor, &[0]), node(Phase::Monitor, &[])];
    let end = Simulation::new(nodes, vec![Fate::Failed, Fate::Done, Fate::Done]).run(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Passed));
    assert_eq!(end.started(1), None);
    assert!(end.started(2).is_some());
}

#[test]
fn a_step_is_tried_again_only_for_the_classes_that_its_retry_names() {
    let mut retried = node(Phase::Prepare, &[]);
    retried.retry.attempts = 3;
    retried.retry.on = vec![ErrorClass::Busy];
    let end = Simulation::new(vec![retried.clone()], vec![Fate::FailedOnce]).run(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Failed), "`expectation` is not `busy`");
    retried.retry.on = vec![ErrorClass::Busy, ErrorClass::Expectation];
    let end = Simulation::new(vec![retried], vec![Fate::FailedOnce]).run(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Passed));
}

#[test]
fn delays_grow_up_to_the_longest_and_vary_by_no_more_than_the_jitter() {
    let retry = RetryPolicy { attempts: 9, jitter: 0.25, ..RetryPolicy::default() };
    for after in 1..9 {
        let plain = (1_000u64 << (after - 1)).min(60_000);
        let delay = delay_before(&retry, 42, StepId(3), after);
        assert!(delay.abs_diff(plain) <= plain / 4, "after {after}: {delay}");
        assert_eq!(delay, delay_before(&retry, 42, StepId(3), after));
        assert!(delay <= longest_delay(&retry, after));
    }
}

#[test]
fn a_lattice_with_more_paths_than_can_be_walked_is_scheduled_at_once() {
    // 60 layers of 3 steps, each needing all of the layer before, written last layer first: 3^60 paths.
    let layers = 60;
    let position = |layer: usize, i: usize| (layers - 1 - layer) * 3 + i;
    let mut nodes = vec![node(Phase::Prepare, &[]); layers * 3];
    for layer in 1..layers {
        for i in 0..3 {
            nodes[position(layer, i)] = node(Phase::Prepare, &[0, 1, 2].map(|j| position(layer - 1, j)));
        }
    }
    let mut fates = vec![Fate::Done; layers * 3];
    fates[position(40, 1)] = Fate::Failed;
    let end = Simulation::new(nodes, fates).run(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Failed));
    assert_eq!(end.started(position(41, 0)), None);
}
