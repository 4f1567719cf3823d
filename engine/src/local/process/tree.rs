//! A command with everything that it started, found again by a mark in the environment, and ended as a whole.

use super::{
    cgroup::{self, Held},
    leader, orphans,
    proc_fs::{self, Process},
    unended::Unended,
    unreadable,
};
use crate::degraded::Degraded;
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getpgrp, getsid},
};
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, Hasher, RandomState},
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};
use tokio::process::Command;

/// The variable that marks every process of a tree. A run inside a run appends its mark with a `:`.
pub const MARKER: &str = "SHAKEDOWN_TREE";

/// How long the processes of a tree may take to end after SIGTERM before they are killed.
pub const GRACE: Duration = Duration::from_secs(2);

/// How long killed processes may take to be gone; only a process that hangs in the kernel needs so long.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take until there are file descriptors and memory for a look.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A process that cannot be taken for another, even after its pid has been given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start_time: u64,
}

/// A command and all processes that came from it. Can be stored, and ended by another run of this program: only
/// processes with the mark, and what they started, are ever touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The value of [`MARKER`] in the environment of its processes.
    pub marker: String,
    /// The boot in which it was started; after another boot nothing of it is left.
    pub boot_id: String,
    /// The control group of its processes, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<PathBuf>,
    /// When it was made, in clock ticks since boot: what is older is not of it.
    #[serde(default)]
    since: u64,
    /// Marks of what the tree is part of, parted by `:`.
    #[serde(skip)]
    within: String,
    /// The command itself, once it has been started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<ProcessId>,
    /// Whether the process group of the root belongs to the tree for sure. Not so in another run of this program:
    /// the number may belong to a new group by then.
    #[serde(skip)]
    own_group: bool,
    /// What is held open of its control group.
    #[serde(skip)]
    held: Hold,
}

/// What is held open says nothing of which tree it is.
#[derive(Clone, Debug, Default)]
struct Hold(Arc<OnceLock<Result<Held, String>>>);

impl PartialEq for Hold {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hold {}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A tree that has no process yet, with a mark of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::of_run("")
    }

    /// A tree of a run's step; with the run's id all of them can be found again.
    #[must_use]
    pub fn of_run(run: &str) -> Self {
        let half = || RandomState::new().build_hasher().finish();
        let marker = format!("{:016x}{:016x}", half(), half());
        let group =
            cgroup::path_for(&if run.is_empty() { marker.clone() } else { format!("{run}-{marker}") });
        let within = if run.is_empty() { String::new() } else { run_mark(run) };
        Self {
            marker,
            boot_id: proc_fs::boot_id(),
            group,
            since: proc_fs::now(),
            within,
            root: None,
            own_group: false,
            held: Hold::default(),
        }
    }

    /// As a tree of a step that is over when its command is; see [`end_steps`].
    #[must_use]
    pub(super) fn of_step(run: &str) -> Self {
        let mut tree = Self::of_run(run);
        if !run.is_empty() {
            tree.group = cgroup::path_for(&format!("{}-{}", step_name(run), tree.marker));
            tree.within = format!("{}:{}", run_mark(run), step_mark(run));
        }
        tree
    }

    /// The same without a control group.
    #[must_use]
    pub(super) fn without_group(self) -> Self {
        Self { group: None, ..self }
    }

    /// Has the command run as the tree's root: marked, in a process group of its own, in the control group if it may.
    pub(super) fn mark(&self, command: &mut Command) {
        command.env(MARKER, self.environment_value()).process_group(0);
        if let Some(group) = &self.group {
            let entered = cgroup::enter(group, command.as_std_mut()).map_err(|error| error.to_string());
            let _first = self.held.0.set(entered);
        }
    }

    /// Why the command, which has been started, is in no control group; nothing if it is in one.
    #[must_use]
    pub fn degraded(&self) -> Option<Degraded> {
        let why = match (&self.group, self.held.0.get()) {
            (None, _) => "there is no hierarchy of version 2",
            (_, None) => return None,
            (_, Some(Ok(held))) if held.was_entered() => return None,
            (_, Some(Ok(_))) => "processes may not be moved into them",
            (_, Some(Err(why))) => why,
        };
        Some(Degraded::no_control_group(None, why))
    }

    /// What is held open of its control group.
    fn held(&self) -> Option<&Held> {
        self.held.0.get()?.as_ref().ok()
    }

    /// Takes away what was made for a tree that was not started.
    pub(super) fn forget(&self) {
        self.group.iter().for_each(|group| cgroup::remove(group));
    }

    /// The value to give to [`MARKER`]: the marks of the trees that this program is in, and the tree's own.
    #[must_use]
    pub fn environment_value(&self) -> String {
        let outer = std::env::var(MARKER).unwrap_or_default();
        let marks = [outer.as_str(), &self.within, &self.marker];
        marks.into_iter().filter(|mark| !mark.is_empty()).collect::<Vec<_>>().join(":")
    }

    /// The tree once its root runs as `pid`, the leader of a process group of its own.
    #[must_use]
    pub(super) fn started(mut self, pid: u32) -> Self {
        let root = proc_fs::one(pid).ok().flatten();
        self.root = root.map(|p| ProcessId { pid, start_time: p.start_time });
        self.own_group = self.root.is_some();
        if !self.is_grouped() {
            orphans::are_possible();
        }
        self
    }

    /// The processes of the tree that live now.
    ///
    /// # Errors
    /// It cannot be told: `/proc` cannot be read, or hides one that is known to be there.
    pub fn members(&self) -> Result<Vec<ProcessId>, Unended> {
        self.look().map_err(|error| self.unseen(&error))
    }

    fn look(&self) -> io::Result<Vec<ProcessId>> {
        let boot = proc_fs::boot_id();
        if boot.is_empty() {
            let message = "`/proc` does not name this boot of the machine";
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        if !self.boot_id.is_empty() && self.boot_id != boot {
            return Ok(Vec::new());
        }
        let me = std::process::id();
        // Before the list: what is in a group and not in the list has ended, or is hidden.
        let grouped = self.group.as_deref().map(cgroup::members).transpose()?.unwrap_or_default();
        let all = proc_fs::all()?;
        let mut chosen = BTreeMap::new();
        let mut denied = Vec::new();
        for process in all.iter().filter(|process| process.pid != me) {
            let claimed =
                if grouped.contains(&process.pid) { Some(true) } else { self.claims(process, &all)? };
            match claimed {
                Some(true) => drop(chosen.insert(process.pid, *process)),
                Some(false) => {}
                None => denied.push(*process),
            }
        }
        for pid in grouped {
            if pid != me && !chosen.contains_key(&pid) && is_hidden(pid) {
                let message = format!("`/proc` hides the process {pid}");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
        }
        loop {
            let before = chosen.len();
            for process in &all {
                let belongs = chosen.contains_key(&process.parent) || chosen.contains_key(&process.session);
                if process.pid != me && belongs {
                    chosen.insert(process.pid, *process);
                }
            }
            if chosen.len() == before {
                break;
            }
        }
        if !self.is_grouped() {
            denied.retain(|process| !chosen.contains_key(&process.pid));
            unreadable::none_may_belong(&denied, &all, self.since)?;
        }
        let alive = chosen.into_values().filter(|process| !process.zombie);
        Ok(alive.map(|p| ProcessId { pid: p.pid, start_time: p.start_time }).collect())
    }

    /// Whether all of it is in its control group, but for what left that as root.
    fn is_grouped(&self) -> bool {
        match (&self.group, self.held()) {
            (None, _) => false,
            (Some(_), Some(held)) => held.was_entered(),
            (Some(group), None) => !cgroup::is_out_of_reach(group),
        }
    }

    /// Whether the process belongs to the tree by what it is itself, not by its parent; none if that may not be read.
    fn claims(&self, process: &Process, all: &[Process]) -> io::Result<Option<bool>> {
        // Without the boot, a number and a time may be those of another process.
        if let Some(root) = self.root.filter(|_| !self.boot_id.is_empty()) {
            if process.start_time < root.start_time {
                return Ok(Some(false));
            }
            if process.pid == root.pid {
                return Ok(Some(process.start_time == root.start_time));
            }
            let reused = || all.iter().any(|p| p.pid == root.pid && p.start_time != root.start_time);
            if self.own_group && process.group == root.pid && !reused() {
                return Ok(Some(true));
            }
        }
        proc_fs::is_marked(process.pid, MARKER, &self.marker)
    }

    /// Whether any process of the tree lives.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn is_alive(&self) -> Result<bool, Unended> {
        self.members().map(|members| !members.is_empty())
    }

    fn unseen(&self, error: &io::Error) -> Unended {
        Unended::Unseen { why: error.to_string(), marker: self.marker.clone() }
    }

    /// Sends `signal` to every process of the tree, and SIGKILL to what still lives after `grace`, until none is
    /// left. Gives the number of processes that were met. Blocks; see [`Tree::end`].
    ///
    /// # Errors
    /// Processes are still alive: the user may not end them, or they hang in the kernel. Or nobody can tell, for they
    /// cannot be looked for.
    pub fn end_blocking(&self, signal: Signal, grace: Duration) -> Result<usize, Unended> {
        let began = Instant::now();
        let mut met = BTreeSet::new();
        let mut empty_looks = 0;
        let mut pause = Duration::from_millis(2);
        loop {
            let waited = began.elapsed();
            let members = match self.look() {
                Ok(members) => members,
                // Others may just use up what a look needs, such as file descriptors.
                Err(error) if may_pass(&error) && waited < PATIENCE => {
                    thread::sleep(pause);
                    continue;
                }
                Err(error) => return self.end_unseen(signal, grace, &error, met.len()),
            };
            reap_orphans();
            if members.is_empty() {
                empty_looks += 1;
                // A process that is just being exchanged for another program shows no environment for a moment.
                if met.is_empty() || empty_looks == 2 {
                    self.forget();
                    return Ok(met.len());
                }
                continue;
            }
            empty_looks = 0;
            if waited >= grace {
                self.group.iter().for_each(|group| cgroup::kill(group));
            }
            let mut denied = 0;
            let new: Vec<_> = members.iter().copied().filter(|member| met.insert(*member)).collect();
            // All stand still before any is told to end: a shell must not go on with its next command because the one
            // before was ended.
            for each in [Signal::SIGSTOP, signal, Signal::SIGCONT] {
                denied = new.iter().filter(|member| send(**member, each) == Err(Errno::EPERM)).count();
            }
            if waited >= grace {
                denied = members
                    .iter()
                    .filter(|member| send(**member, Signal::SIGKILL) == Err(Errno::EPERM))
                    .count();
            }
            if waited >= grace && denied == members.len() || waited >= grace + KILL_LIMIT {
                return Err(Unended::Alive(members));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Ends the tree without a look at it: by its control group, if the command was put into one. Where there is none,
    /// what can be reached is told to end, and nobody can say more.
    fn end_unseen(
        &self,
        signal: Signal,
        grace: Duration,
        error: &io::Error,
        met: usize,
    ) -> Result<usize, Unended> {
        let began = Instant::now();
        let group = self.held().filter(|held| held.was_entered());
        let mut told = BTreeSet::new();
        while let Some(group) = group {
            if group.is_empty().map_err(|error| self.unseen(&error))? {
                self.forget();
                return Ok(met.max(told.len()));
            }
            let waited = began.elapsed();
            let pids = group.pids();
            let new: Vec<_> = pids.iter().copied().filter(|pid| told.insert(*pid)).collect();
            for each in [Signal::SIGSTOP, signal, Signal::SIGCONT] {
                for pid in &new {
                    let _ended = send_number(*pid, each);
                }
            }
            if waited >= grace && !group.kill() {
                for pid in pids {
                    let _ended = send_number(pid, Signal::SIGKILL);
                }
            }
            if waited >= grace + KILL_LIMIT {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(self.unseen(error))
    }

    /// As [`Tree::end_blocking`], without blocking the caller's thread.
    ///
    /// # Errors
    /// As there.
    pub async fn end(&self, signal: Signal, grace: Duration) -> Result<usize, Unended> {
        let tree = self.clone();
        let ended = tokio::task::spawn_blocking(move || tree.end_blocking(signal, grace)).await;
        ended.unwrap_or_else(|error| {
            Err(Unended::Unseen { why: error.to_string(), marker: self.marker.clone() })
        })
    }
}

fn run_mark(run: &str) -> String {
    format!("run-{run}")
}

pub(super) fn step_mark(run: &str) -> String {
    format!("step-{run}")
}

/// How the control groups of a run's steps are named.
fn step_name(run: &str) -> String {
    format!("step-{run}")
}

/// Ends what is left of the commands of a dead run: those of steps that end with their command. What was started to live
/// on beside the steps is ended by its undo. Gives the number of processes that were met.
///
/// # Errors
/// Processes are still alive, or cannot be looked for.
pub async fn end_steps(run: &str) -> Result<usize, Unended> {
    let mut tree = Tree::new();
    (tree.marker, tree.group, tree.since) = (step_mark(run), None, began(run));
    let mut met = 0;
    for group in cgroup::find(&step_name(run)) {
        let mut rest = tree.clone();
        rest.group = Some(group);
        met += rest.end(Signal::SIGTERM, GRACE).await?;
    }
    // Also without a group, for one may have been out of reach, or been left.
    Ok(met + tree.end(Signal::SIGTERM, GRACE).await?)
}

/// When a run began at the earliest, in clock ticks since boot; 0 if its id does not tell.
pub(super) fn began(run: &str) -> u64 {
    let Ok(id) = run.parse::<ulid::Ulid>() else { return 0 };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ago = now.saturating_sub(Duration::from_millis(id.timestamp_ms())).as_secs() + 1;
    proc_fs::now().saturating_sub(ago.saturating_mul(rustix::param::clock_ticks_per_second()))
}

/// Sends a signal if the pid still belongs to that process: the descriptor is of one process, whatever the number is given
/// to after the look.
fn send(process: ProcessId, signal: Signal) -> Result<(), Errno> {
    let number = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
    let held = number.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
    let is_it = || {
        proc_fs::one(process.pid).is_ok_and(|now| now.is_some_and(|now| now.start_time == process.start_time))
    };
    match (held, rustix::process::Signal::from_named_raw(signal as i32)) {
        (None, _) | (Some(Err(rustix::io::Errno::SRCH)), _) => Ok(()),
        (Some(Ok(_)), Some(_)) if !is_it() => Ok(()),
        (Some(Ok(held)), Some(signal)) => {
            let sent = rustix::process::pidfd_send_signal(&held, signal);
            sent.map_err(|error| Errno::from_raw(error.raw_os_error()))
        }
        // No descriptor to be had, or none on this kernel.
        _ if is_it() => send_number(process.pid, signal),
        _ => Ok(()),
    }
}

pub(super) fn send_number(pid: u32, signal: Signal) -> Result<(), Errno> {
    let Ok(pid) = i32::try_from(pid) else { return Ok(()) };
    kill(Pid::from_raw(pid), signal)
}

/// Whether there is a process of that number which `/proc` does not show.
fn is_hidden(pid: u32) -> bool {
    let there = i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH));
    // It may have ended since the list was made; a look at it alone tells.
    there && !proc_fs::one(pid).is_ok_and(|now| now.is_some())
}

/// Whether the same look may succeed in a moment.
pub(super) fn may_pass(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE | nix::libc::ENOMEM))
}

/// Makes orphans of the processes that we start our children, so that they are seen and reaped.
pub(super) fn become_subreaper() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        // Without it a container's init, or nobody, reaps them: the mark still finds them.
        let _ = nix::sys::prctl::set_child_subreaper(true);
    });
}

/// Whether a child of this program is one that nobody in it has started: those are in our session, and either in our
/// process group or leaders of their own, or they are known as a [`leader::Leader`].
pub(super) fn is_orphan(pid: Pid, group: Pid, session: Pid) -> bool {
    let foreign_session = getsid(None).is_ok_and(|mine| mine != session);
    foreign_session || (group != pid && group != getpgrp())
}

/// Reaps dead orphans, and never a child that somebody in this program waits for.
fn reap_orphans() {
    let Ok(all) = proc_fs::all() else { return };
    let awaited = leader::awaited();
    let me = std::process::id();
    for process in all.into_iter().filter(|process| process.zombie && process.parent == me) {
        let numbers = [process.pid, process.group, process.session].map(i32::try_from);
        if let [Ok(pid), Ok(group), Ok(session)] = numbers
            && is_orphan(Pid::from_raw(pid), Pid::from_raw(group), Pid::from_raw(session))
            && !awaited.contains(&process.pid)
        {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}
