//! Trees whose processes were not seen to end: an error for their step, and not forgotten by the run.

use super::{
    proc_fs,
    tree::{MARKER, ProcessId, Tree},
};
use crate::{
    error::{ErrorClass, StepError},
    step::{Leftover, Presence},
};
use std::sync::{Mutex, PoisonError};

/// Why a tree cannot be said to have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unended {
    /// These live.
    Alive(Vec<ProcessId>),
    /// They cannot be looked for.
    Unseen {
        /// What was in the way.
        why: String,
        /// The mark by which they can be found.
        marker: String,
    },
}

impl Unended {
    /// As something that is left, or as something that nobody can tell of. `what` are the processes, such as "processes
    /// of `sync`".
    #[must_use]
    pub fn presence(&self, what: &str) -> Presence {
        match self {
            Self::Alive(members) if members.is_empty() => Presence::Gone,
            Self::Alive(members) => Presence::Present(Leftover {
                what: format!("{what}: {}", numbers(members)),
                why: "they still run".into(),
                remove_with: format!("kill -9 {}", numbers(members)),
            }),
            Self::Unseen { why, .. } => Presence::Unknown(format!("they cannot be looked for: {why}")),
        }
    }

    /// What is told of processes that nobody can tell of.
    #[must_use]
    pub fn leftover(&self, what: &str) -> Leftover {
        match (self, self.presence(what)) {
            (_, Presence::Present(left)) => left,
            (Self::Unseen { why, marker }, _) => Leftover {
                what: what.to_owned(),
                why: format!("they cannot be looked for: {why}"),
                remove_with: format!(
                    "grep -lsaE '{MARKER}=([^:]*:)*{marker}' /proc/[0-9]*/environ | cut -d/ -f3 | xargs -r kill -9"
                ),
            },
            (Self::Alive(_), _) => Leftover { what: what.to_owned(), ..Leftover::default() },
        }
    }
}

fn numbers(members: &[ProcessId]) -> String {
    members.iter().map(|member| member.pid.to_string()).collect::<Vec<_>>().join(" ")
}

impl From<Unended> for StepError {
    fn from(unended: Unended) -> Self {
        match unended {
            Unended::Alive(members) => {
                let pids = numbers(&members);
                let message = format!("{} processes of the step could not be ended: {pids}", members.len());
                let mut error = Self::new(ErrorClass::Busy, message).hint(format!("sudo kill -9 {pids}"));
                for member in members.iter().take(10) {
                    error = error.detail(format!("{} {}", member.pid, proc_fs::title(member.pid)));
                }
                error
            }
            Unended::Unseen { why, .. } => {
                let message = format!("what the step left running cannot be looked for: {why}");
                Self::new(ErrorClass::Unsupported, message)
                    .hint("ls -d /proc/self/; findmnt /proc; ulimit -n")
            }
        }
    }
}

/// Trees of steps that were not seen to end.
static OPEN: Mutex<Vec<(String, Tree)>> = Mutex::new(Vec::new());

/// Notes that the tree of a run's step was not seen to end.
pub(super) fn note(run: &str, tree: &Tree) {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).push((run.to_owned(), tree.clone()));
}

/// What the steps of a run have left running, or may have: looked at again now, when nothing of them may be there any more.
#[must_use]
pub fn not_seen_to_end(run: &str) -> Vec<Unended> {
    let open: Vec<Tree> = {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, others) = std::mem::take(&mut *open).into_iter().partition(|(of, _)| of == run);
        *open = others;
        let ours: Vec<(String, Tree)> = ours;
        ours.into_iter().map(|(_, tree)| tree).collect()
    };
    let looked = open.iter().map(|tree| tree.members().map_or_else(|unseen| unseen, Unended::Alive));
    looked.filter(|found| *found != Unended::Alive(Vec::new())).collect()
}
