//! The effects of a run are exactly those of its plan: generated playbooks are read, planned and run, and what happened is
//! compared with what the plan says, step by step.

use crate::support::Stage;
use engine::{
    event::{Outcome, Phase, RunEvent, StepId, Verdict},
    plan::{Forecast, PlannedStep},
    report::{StepStatus, Summary},
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// A step of a generated playbook.
#[derive(Clone, Debug)]
struct Made {
    phase: Phase,
    needs: Vec<usize>,
    when: When,
    /// How many items its `foreach` has, if it has one.
    items: Option<usize>,
    reads: bool,
    fails: u32,
    attempts: u32,
    tolerated: bool,
}

#[derive(Clone, Debug)]
enum When {
    None,
    Fixed(bool),
    /// Only if that step went well.
    Ok(usize),
}

fn made() -> impl Strategy<Value = Made> {
    let phase = prop_oneof![
        2 => Just(Phase::Precheck),
        5 => Just(Phase::Prepare),
        3 => Just(Phase::Monitor),
        2 => Just(Phase::Cleanup),
    ];
    let when = prop_oneof![
        6 => Just(When::None),
        1 => any::<bool>().prop_map(When::Fixed),
        2 => any::<usize>().prop_map(When::Ok),
    ];
    let fails = prop_oneof![8 => Just(0u32), 1 => Just(1), 1 => Just(2)];
    let needs = prop::collection::vec(any::<usize>(), 0..3);
    let items = prop_oneof![4 => Just(None), 1 => (0usize..4).prop_map(Some)];
    (phase, needs, when, items, any::<bool>(), fails, 1u32..3, prop::bool::weighted(0.2)).prop_map(
        |(phase, needs, when, items, reads, fails, attempts, tolerated)| Made {
            phase,
            needs,
            when,
            items,
            reads: reads || phase == Phase::Precheck,
            fails,
            attempts,
            tolerated,
        },
    )
}

/// The playbook's text. What a step needs or asks of stands before it, in its phase or an earlier one.
fn text(steps: &[Made]) -> String {
    let mut order: Vec<&Made> = steps.iter().collect();
    order.sort_by_key(|made| made.phase);
    let mut text = "name: generated\n".to_owned();
    let mut phase = None;
    for (i, made) in order.iter().enumerate() {
        if phase != Some(made.phase) {
            phase = Some(made.phase);
            let _infallible = writeln!(text, "{}:", made.phase);
        }
        let _infallible = writeln!(text, "  s{i}:");
        let own_phase: Vec<usize> = (0..i).filter(|other| order[*other].phase == made.phase).collect();
        let needs: BTreeSet<usize> =
            made.needs.iter().filter_map(|n| own_phase.get(n % own_phase.len().max(1)).copied()).collect();
        let needs: Vec<String> = needs.into_iter().map(|need| format!("s{need}")).collect();
        let _infallible = writeln!(text, "    needs: [{}]", needs.join(", "));
        let when = match &made.when {
            When::None => String::new(),
            When::Fixed(fixed) => format!("    when: {fixed}\n"),
            When::Ok(_) if i == 0 => String::new(),
            When::Ok(other) => format!("    when: steps.s{}.status == \"ok\"\n", other % i),
        };
        text.push_str(&when);
        let (foreach, name) = match made.items {
            Some(n) => {
                let items: Vec<String> = (0..n).map(|item| item.to_string()).collect();
                (format!("    foreach: [{}]\n", items.join(", ")), format!("s{i}-${{{{ each.key }}}}"))
            }
            None => (String::new(), format!("s{i}-")),
        };
        text.push_str(&foreach);
        let Made { attempts, tolerated, fails, reads, .. } = made;
        let _infallible = writeln!(
            text,
            "    retry: {{ attempts: {attempts}, delay: 1ms, jitter: 0 }}\n    continue_on_error: {tolerated}\n    mark: {{ name: \"{name}\", fails: {fails}, reads: {reads} }}"
        );
    }
    text
}

/// What became of the steps of a run, told from its events alone.
#[derive(Debug, Default)]
struct Seen {
    /// The place among the events of a step's first start and of its last end.
    started: BTreeMap<StepId, usize>,
    ended: BTreeMap<StepId, usize>,
    failed: BTreeSet<StepId>,
    skipped: BTreeSet<StepId>,
    /// Steps whose intent was journaled.
    effects: BTreeSet<StepId>,
    undone: BTreeSet<StepId>,
}

fn seen(stage: &Stage) -> Seen {
    let mut seen = Seen::default();
    for (at, event) in stage.events().into_iter().enumerate() {
        match event {
            RunEvent::StepStarted { step, intent, .. } => {
                seen.started.entry(*step).or_insert(at);
                seen.effects.extend(intent.as_ref().map(|_| *step));
            }
            RunEvent::StepFinished { step, outcome, .. } => {
                seen.ended.insert(*step, at);
                match outcome {
                    Outcome::Done { .. } => drop(seen.failed.remove(step)),
                    _ => drop(seen.failed.insert(*step)),
                }
            }
            RunEvent::StepSkipped { step, .. } => {
                seen.ended.insert(*step, at);
                seen.skipped.insert(*step);
            }
            RunEvent::UndoFinished { step, result: Ok(_), .. } => drop(seen.undone.insert(*step)),
            _ => {}
        }
    }
    seen
}

/// Why a step that the plan has did not run, by the rules of the language; an error if no rule says so.
fn reason(stage: &Stage, seen: &Seen, id: StepId) -> Result<&'static str, String> {
    let step = stage.plan.step(id);
    let stops = |failed: &StepId| !stage.plan.step(*failed).continue_on_error;
    let stopped_before = seen.failed.iter().filter(|failed| stops(failed)).any(|failed| {
        let phase = stage.plan.step(*failed).phase;
        phase <= step.phase && phase != Phase::Cleanup
    });
    if seen.skipped.contains(&id) {
        return match &step.forecast {
            Forecast::Skipped(_) => Ok("its `when` is false, as planned"),
            _ if step.when.is_some() => Ok("its `when` turned out false"),
            _ => Err(format!("`{}` was skipped, and has no `when`", step.id)),
        };
    }
    let blocked = |need: &StepId| seen.failed.contains(need) || !seen.ended.contains_key(need);
    match step.phase {
        Phase::Cleanup if !seen.started.keys().any(|id| stage.plan.step(*id).phase > Phase::Precheck) => {
            Ok("nothing had been started")
        }
        Phase::Cleanup => Err(format!("cleanup always runs, and `{}` did not", step.id)),
        _ if stopped_before => Ok("the run had stopped"),
        _ if step.needs.iter().any(blocked) => Ok("it needs one that failed or never ran"),
        _ => Err(format!("`{}` did not run, and nothing says why", step.id)),
    }
}

/// Whether a step runs in a run in which nothing fails.
fn runs(plan: &engine::plan::Plan, step: &PlannedStep) -> bool {
    if matches!(step.forecast, Forecast::Skipped(_)) {
        return false;
    }
    // The only other `when` that is generated asks whether an earlier step went well: no item of it may be missing.
    step.reads.iter().all(|read| runs(plan, plan.step(*read)))
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let mut stage = Stage::read(text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let end = runtime.block_on(stage.run());
    let (plan, seen) = (&stage.plan, seen(&stage));
    let all = || (0..plan.steps.len()).map(StepId);

    // What happened is what the plan has: by the intents, and by the side effects.
    let planned: BTreeSet<StepId> = all().filter(|id| plan.step(*id).is_effect()).collect();
    prop_assert!(seen.effects.is_subset(&planned), "effects that were not planned\n{text}");
    let names: BTreeSet<String> =
        seen.started.keys().map(|id| plan.step(*id).description.title.clone()).collect();
    let logged: BTreeSet<String> =
        stage.log.lines().into_iter().filter(|line| !line.starts_with("undo ")).collect();
    prop_assert_eq!(&logged, &names, "what was journaled is what was done\n{}", text);
    for id in seen.effects.iter().filter(|id| plan.step(**id).is_undone()) {
        prop_assert!(seen.undone.contains(id), "`{}` was not undone\n{text}", plan.step(*id).id);
    }

    // What did not happen has a reason that the plan and the rules of the language give.
    for id in all().filter(|id| !seen.started.contains_key(id)) {
        if let Err(wrong) = reason(&stage, &seen, id) {
            return Err(TestCaseError::fail(format!("{wrong}\n{text}")));
        }
    }
    for id in all().filter(|id| matches!(plan.step(*id).forecast, Forecast::Skipped(_))) {
        prop_assert!(!seen.started.contains_key(&id), "`{}` was to be skipped\n{text}", plan.step(id).id);
    }

    // The order is that of the plan.
    for (id, started) in &seen.started {
        for need in &plan.step(*id).needs {
            let over = seen.ended.get(need).is_some_and(|ended| ended < started);
            let may_fail = plan.step(*id).phase == Phase::Cleanup;
            prop_assert!(over, "`{}` began before its need was over\n{text}", plan.step(*id).id);
            prop_assert!(may_fail || !seen.failed.contains(need), "it needs one that failed\n{text}");
        }
        for (other, other_started) in &seen.started {
            if plan.step(*other).phase < plan.step(*id).phase {
                prop_assert!(other_started < started, "a phase began before the one before it\n{text}");
            }
        }
    }

    // Where nothing fails, all that the plan foresees happens, and nothing else.
    if seen.failed.is_empty() {
        let expected: BTreeSet<StepId> = all().filter(|id| runs(plan, plan.step(*id))).collect();
        let anything = expected.iter().any(|id| plan.step(*id).phase != Phase::Precheck)
            || all().any(|id| matches!(plan.step(id).phase, Phase::Prepare | Phase::Monitor));
        let expected: BTreeSet<StepId> =
            expected.into_iter().filter(|id| anything || plan.step(*id).phase != Phase::Cleanup).collect();
        let ran: BTreeSet<StepId> = seen.started.keys().copied().collect();
        let cleanup_only =
            |ids: &BTreeSet<StepId>| ids.iter().all(|id| plan.step(*id).phase == Phase::Cleanup);
        let difference: BTreeSet<StepId> = expected.symmetric_difference(&ran).copied().collect();
        // Cleanup runs once anything of `prepare` or `monitor` has: the reasons above have looked at that.
        prop_assert!(cleanup_only(&difference), "{difference:?}\n{text}");
        prop_assert_eq!(end.verdict, Verdict::Passed, "{}", text);
    }

    // The report says the same, with a reason for each step that did not run.
    let summary = Summary::of(plan, &stage.journal.records);
    prop_assert_eq!(summary.counts.planned, plan.steps.len(), "{}", text);
    prop_assert_eq!(summary.counts.ran, seen.started.len(), "{}", text);
    let told: usize = summary.not_ran.iter().map(|of| of.steps.len()).sum();
    prop_assert_eq!(summary.counts.ran + told, summary.counts.planned, "{}", text);
    for of in &summary.not_ran {
        prop_assert!(
            !of.why.is_empty() && matches!(of.status, StepStatus::Skipped | StepStatus::NotRun),
            "{of:?}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_effects_of_a_run_are_exactly_those_of_its_plan(steps in prop::collection::vec(made(), 1..14)) {
        check(&text(&steps))?;
    }

    #[test]
    fn a_run_without_failures_does_all_that_was_planned(steps in prop::collection::vec(made(), 1..14)) {
        let steps: Vec<Made> = steps.into_iter().map(|made| Made { fails: 0, ..made }).collect();
        check(&text(&steps))?;
    }
}

#[test]
fn a_foreach_over_nothing_went_well_for_who_asks() {
    let text = "name: x\nprecheck:\n  none: { foreach: [], mark: { name: never, reads: true } }\nprepare:\n  asks: { when: steps.none.status == \"ok\" && size(steps.none.out) == 0, mark: { name: asks } }\n";
    let mut stage = Stage::read(text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    assert_eq!(runtime.block_on(stage.run()).verdict, Verdict::Passed);
    assert_eq!(stage.log.lines(), ["asks", "undo asks"]);
}
