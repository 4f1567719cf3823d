//! The connection to a host, made when it is needed and made again when it was lost, and what is in doubt about
//! commands that were sent over it.

use super::{
    AWAY,
    greeting::Machine,
    guard::nothing_of_the_users,
    link::{self, END, Link},
};
use engine::{
    ErrorClass, StepError,
    host::{Cancel, Exec},
};
use openssh::Session;
use std::{
    sync::{
        Arc, Mutex as Plain, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// Ends the processes that carry one of the markers, and the control groups that are named by one; a few seconds at most,
/// for the watchdog on the host ends them, too. What carries the mark `$1`, or is named by it, stays: it is of the process
/// that now works.
const SWEEP: &str = r#"
own=$1; shift
i=0; s="STOP TERM CONT"
groups() {
  [ -n "$p" ] || return
  if [ -n "$own" ]; then find "$p" -depth -type d -name "shakedown-*$1*" ! -name "*-$own-*"
  else find "$p" -depth -type d -name "shakedown-*$1*"
  fi 2>/dev/null
}
p=
while read -r a b c r x y; do case $y in *' - cgroup2 '*) p=$x; break ;; esac; done </proc/self/mountinfo
command -v find >/dev/null || p=
while [ "$i" -lt 50 ]; do
  l=
  for w in "$@"; do
    for g in $(groups "$w"); do
      while read -r x; do [ "$x" -gt 0 ] && l=1 && for s1 in $s; do kill -s "$s1" "$x"; done; done <"$g/cgroup.procs"
      [ "$i" -ge 20 ] && echo 1 >"$g/cgroup.kill"
      for x in "$g"/*/; do [ -d "$x" ] && l=1 && rmdir "$x"; done
      rmdir "$g" || [ ! -d "$g" ] || l=1
    done 2>/dev/null
    for s1 in $s; do
      for f in $(grep -ls "c$w" /proc/[0-9]*/environ 2>/dev/null); do
        [ -n "$own" ] && grep -qs "o$own" "$f" && continue
        f=${f#/proc/}; l=1; kill -s "$s1" "${f%/environ}" 2>/dev/null
      done
    done
  done
  [ -z "$l" ] && exit 0
  i=$((i + 1))
  [ "$i" -ge 20 ] && s=KILL
  sleep 0.1 2>/dev/null || { sleep 1; s=KILL; }
done
exit 9
"#;

/// The command that ends what carries one of the markers, but for what `owner` has started.
pub(super) fn sweep(owner: &str, markers: &[String]) -> Exec {
    let mut exec = nothing_of_the_users(["/bin/sh", "-c", SWEEP, "sweep", owner]).repeatable();
    exec.argv.extend(markers.iter().cloned());
    exec
}

/// The connection to a host.
pub(super) struct Line {
    pub(super) link: Link,
    state: Mutex<State>,
    /// The markers of commands that were sent and whose end nobody saw.
    doubts: Plain<Vec<String>>,
    /// Held by the one that ends them.
    sweeping: Mutex<()>,
    /// Where the connections lead.
    known: Mutex<Known>,
    /// How many commands the host allows on one connection, as far as it has refused one.
    most: AtomicUsize,
}

/// What connections were told when they were made.
#[derive(Default)]
pub(super) struct Known {
    sessions: Vec<Weak<Session>>,
    machine: Option<Machine>,
}

impl Known {
    /// What this connection was told.
    pub(super) fn of(&self, session: &Arc<Session>) -> Option<&Machine> {
        let told = self.sessions.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(session)));
        self.machine.as_ref().filter(|_| told)
    }

    /// A connection has been told this.
    ///
    /// # Errors
    /// It leads to another machine than the one before: which that was.
    pub(super) fn learn(&mut self, session: &Arc<Session>, machine: Machine) -> Result<(), String> {
        if let Some(before) = &self.machine
            && before.identity != machine.identity
        {
            return Err(before.identity.clone().unwrap_or_else(|| before.view.clone()));
        }
        self.sessions.retain(|known| known.strong_count() > 0);
        self.sessions.push(Arc::downgrade(session));
        self.machine = Some(machine);
        Ok(())
    }
}

/// How long no further connection is made where one was refused.
const NO_MORE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    /// One, and more where the host allows few commands on each.
    connections: Vec<Connection>,
    /// When a further connection could not be made.
    no_more: Option<Instant>,
    /// The last try to connect that failed, and when.
    failed: Option<(Instant, StepError)>,
    /// Since when it is known to be away: it broke, or could not be made.
    away_since: Option<Instant>,
    /// Whether it has been made before.
    met: bool,
}

struct Connection {
    session: Arc<Session>,
    /// How many commands use it.
    busy: Arc<AtomicUsize>,
}

/// A connection that a command uses.
pub(super) struct Use {
    pub(super) session: Arc<Session>,
    busy: Arc<AtomicUsize>,
}

impl Drop for Use {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn used(&self) -> Use {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Use { session: self.session.clone(), busy: self.busy.clone() }
    }
}

impl Line {
    pub(super) fn new(link: Link) -> Self {
        let (state, doubts) = (Mutex::default(), Plain::default());
        let most = AtomicUsize::new(usize::MAX);
        Self { link, state, doubts, sweeping: Mutex::default(), known: Mutex::default(), most }
    }

    /// Where the connection leads; others wait until this has been learnt or dropped.
    pub(super) async fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().await
    }

    /// The connection, if it has been made.
    pub(super) async fn made(&self) -> Option<Arc<Session>> {
        self.state.lock().await.connections.first().map(|first| first.session.clone())
    }

    /// A connection that has room for a command; it is made if there is none. None where all are full, and a further one
    /// could not be made a moment ago.
    pub(super) async fn session(&self, cancel: &Cancel) -> Result<Option<Use>, StepError> {
        let asked = Instant::now();
        let mut state = tokio::select! {
            state = self.state.lock() => state,
            () = cancel.cancelled() => return Err(self.stopped()),
        };
        let most = self.most.load(Ordering::Relaxed);
        if let Some(free) = state.connections.iter().find(|one| one.busy.load(Ordering::Relaxed) < most) {
            return Ok(Some(free.used()));
        }
        let further = !state.connections.is_empty();
        if further && state.no_more.is_some_and(|when| when.elapsed() < NO_MORE) {
            return Ok(None);
        }
        // Who waited for another's try need not find out again that the host is away.
        if let Some((when, error)) = &state.failed
            && *when > asked
        {
            return Err(error.clone());
        }
        if cancel.is_cancelled() {
            return Err(self.stopped());
        }
        let away = state.away_since.is_some_and(|since| since.elapsed() > AWAY);
        match self.link.connect(away, cancel).await {
            Ok(session) => {
                (state.away_since, state.met) = (None, true);
                let connection = Connection { session, busy: Arc::default() };
                let used = connection.used();
                state.connections.push(connection);
                Ok(Some(used))
            }
            Err(error) if further && error.class != ErrorClass::Cancelled => {
                state.no_more = Some(Instant::now());
                Ok(None)
            }
            Err(error) => {
                if error.class != ErrorClass::Cancelled {
                    state.failed = Some((Instant::now(), error.clone()));
                    state.away_since.get_or_insert(asked);
                }
                Err(error)
            }
        }
    }

    /// The host refused a command on a connection. False if the connection had no other: then less cannot be asked of it.
    pub(super) fn refused(&self, used: &Use) -> bool {
        let others = used.busy.load(Ordering::Relaxed).saturating_sub(1);
        self.most.fetch_min(others.max(1), Ordering::Relaxed);
        others > 0
    }

    /// Whether a host that does not answer is worth waiting for: it was there before, and is not away for long.
    pub(super) async fn may_come_back(&self) -> bool {
        let state = self.state.lock().await;
        state.met && state.away_since.is_none_or(|since| since.elapsed() < AWAY)
    }

    fn stopped(&self) -> StepError {
        let message = format!("connecting to host `{}` was stopped with the run", self.link.spec.name);
        StepError::new(ErrorClass::Cancelled, message)
    }

    /// Drops a connection that broke, unless another command has made a new one already.
    pub(super) async fn forget(&self, broken: &Arc<Session>) {
        let mut state = self.state.lock().await;
        let before = state.connections.len();
        state.connections.retain(|one| !Arc::ptr_eq(&one.session, broken));
        if state.connections.is_empty() && before > 0 {
            state.away_since.get_or_insert_with(Instant::now);
        }
    }

    /// Ends the connections; returns when their processes have ended.
    pub(super) async fn close(&self) {
        let connections = std::mem::take(&mut self.state.lock().await.connections);
        for Connection { session, .. } in connections {
            let master = link::master_of(&session).await;
            // A connection that is gone needs no end; its folder goes with the session either way.
            match Arc::try_unwrap(session) {
                Ok(session) => drop(tokio::time::timeout(END, session.close()).await),
                Err(shared) => drop(shared),
            }
            // The request to end is answered before the process has ended: nothing of ours may outlive the run.
            if let Some(master) = master {
                master.await_end().await;
            }
        }
    }

    /// A command is about to be sent: until it is dispelled, its end is in doubt.
    pub(super) fn doubt(&self, marker: String) -> Doubt<'_> {
        Doubt { line: self, marker: Plain::new(Some(marker)) }
    }

    /// What is in doubt; others wait until this has been settled or dropped.
    pub(super) async fn doubts(&self) -> Doubts<'_> {
        let held = self.sweeping.lock().await;
        let markers = lock(&self.doubts).clone();
        Doubts { line: self, markers, _held: held }
    }
}

/// A command that was sent. Dropped while its end is unknown, it is remembered.
pub(super) struct Doubt<'a> {
    line: &'a Line,
    marker: Plain<Option<String>>,
}

impl Doubt<'_> {
    /// Its end is known, or it was never sent.
    pub(super) fn dispel(&self) {
        *lock(&self.marker) = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        lock(&self.line.doubts).extend(lock(&self.marker).take());
    }
}

/// Commands whose end nobody saw.
pub(super) struct Doubts<'a> {
    line: &'a Line,
    markers: Vec<String>,
    _held: MutexGuard<'a, ()>,
}

impl Doubts<'_> {
    /// The markers of commands that are in doubt.
    pub(super) fn markers(&self) -> &[String] {
        &self.markers
    }

    /// The command has been run.
    pub(super) fn settled(&mut self) {
        lock(&self.line.doubts).retain(|marker| !self.markers.contains(marker));
    }
}

fn lock<T>(mutex: &Plain<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
