//! What to do next.

use super::{Command, Next, Scheduler, Stage, StepState, UndoState, delay_before};
use crate::event::{Phase, StepId};

impl Scheduler {
    /// What can begin now. Each command is given out once; call again after each event.
    pub fn next_commands(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        match self.stage {
            Stage::New | Stage::Over | Stage::Between(Next::Undo | Next::Check) => {}
            Stage::Between(Next::Phase(phase)) => {
                if !std::mem::replace(&mut self.phase_issued, true) {
                    commands.push(Command::StartPhase(phase));
                }
            }
            Stage::In(phase) => {
                if self.stops_in(phase) && !std::mem::replace(&mut self.stop_issued, true) {
                    commands.push(Command::StopRunning);
                }
                self.start_steps(phase, &mut commands);
            }
            Stage::Asking => {
                if !std::mem::replace(&mut self.asked, true) {
                    commands.push(Command::AskPrecheck);
                }
            }
            Stage::Undoing => self.start_undos(&mut commands),
            Stage::Checking => {
                if !std::mem::replace(&mut self.phase_issued, true) {
                    commands.push(Command::CheckLeftovers);
                }
            }
            Stage::Checked => {
                if !std::mem::replace(&mut self.phase_issued, true) {
                    commands.push(Command::Finish(self.verdict()));
                }
            }
        }
        commands
    }

    fn start_steps(&mut self, phase: Phase, commands: &mut Vec<Command>) {
        // Also while the run stops: the executor then says at once that nobody knows.
        for step in 0..self.nodes.len() {
            if let StepState::InDoubt { attempt } = self.steps[step].state
                && self.nodes[step].phase == phase
                && !std::mem::replace(&mut self.steps[step].issued, true)
            {
                commands.push(Command::Settle { step: StepId(step), attempt });
            }
        }
        if self.stops_in(phase) {
            return;
        }
        let (mut working, mut waiting) = (0, 0);
        for (node, record) in self.nodes.iter().zip(&self.steps) {
            if record.issued || matches!(record.state, StepState::Running { .. }) {
                *(if node.waits || phase == Phase::Precheck { &mut waiting } else { &mut working }) += 1;
            }
        }
        for step in 0..self.nodes.len() {
            let node = &self.nodes[step];
            if node.phase != phase || self.steps[step].issued {
                continue;
            }
            let (attempt, delay_ms) = match self.steps[step].state {
                StepState::Pending if self.is_ready(step) => (1, 0),
                StepState::Lost { attempt } => (attempt, 0),
                StepState::Retrying { attempt } => {
                    (attempt, delay_before(&node.retry, self.seed, StepId(step), attempt - 1))
                }
                _ => continue,
            };
            // Prechecks only look and mostly wait for answers: they have five seconds in all.
            let (count, limit) = match node.waits || phase == Phase::Precheck {
                true => (&mut waiting, self.limits.waiting),
                false => (&mut working, self.limits.working),
            };
            if *count < limit {
                *count += 1;
                self.steps[step].issued = true;
                commands.push(Command::Run { step: StepId(step), attempt, delay_ms });
            }
        }
    }

    fn is_ready(&self, step: usize) -> bool {
        let node = &self.nodes[step];
        node.needs.iter().all(|need| match self.steps[need.0].state {
            StepState::Done | StepState::Skipped => true,
            state => node.phase == Phase::Cleanup && state.is_over(),
        })
    }

    fn start_undos(&mut self, commands: &mut Vec<Command>) {
        let awaiting: Vec<usize> = (0..self.nodes.len()).filter(|step| self.awaits_undo(*step)).collect();
        // Later phases first; within the last one, a step only once nothing that depends on it awaits its undo.
        let Some(last) = awaiting.iter().map(|step| self.nodes[*step].phase).max() else { return };
        let mut held = vec![false; self.nodes.len()];
        for step in (0..self.nodes.len()).filter(|step| self.nodes[*step].phase == last) {
            if self.awaits_undo(step) {
                self.hold_upstream(step, &mut held);
            }
        }
        for step in awaiting.into_iter().filter(|step| self.nodes[*step].phase == last && !held[*step]) {
            let record = &self.steps[step];
            // After a crash an undo may have begun whose end never came: it is given out again.
            if record.issued || (record.undo == UndoState::Running && self.undo_given_out[step]) {
                continue;
            }
            self.steps[step].issued = true;
            self.undo_given_out[step] = true;
            commands.push(if self.keeps(step) {
                Command::Keep(StepId(step))
            } else {
                Command::Undo(StepId(step))
            });
        }
    }

    /// Marks everything that `step` depends on, directly or not.
    fn hold_upstream(&self, step: usize, held: &mut [bool]) {
        let mut stack: Vec<StepId> = self.nodes[step].needs.clone();
        while let Some(StepId(up)) = stack.pop() {
            if !std::mem::replace(&mut held[up], true) {
                stack.extend(&self.nodes[up].needs);
            }
        }
    }
}
