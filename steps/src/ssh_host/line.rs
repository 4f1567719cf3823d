//! The connection to a host, made when it is needed and made again when it was lost, and what is in doubt about
//! commands that were sent over it.

use super::{
    AWAY,
    link::{self, END, Link},
};
use engine::{
    ErrorClass, StepError,
    host::{Cancel, Exec},
};
use openssh::Session;
use std::sync::{Arc, Mutex as Plain, PoisonError};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// Ends the processes that carry one of the markers; a few seconds at most, for the watchdog on the host ends them, too.
const SWEEP: &str = r#"
i=0; s="STOP TERM CONT"
while [ "$i" -lt 50 ]; do
  l=
  for w in "$@"; do
    for s1 in $s; do
      for f in $(grep -ls "c$w" /proc/[0-9]*/environ 2>/dev/null); do
        f=${f#/proc/}; l=1; kill -s "$s1" "${f%/environ}" 2>/dev/null
      done
    done
  done
  [ -z "$l" ] && exit 0
  i=$((i + 1))
  [ "$i" -ge 20 ] && s=KILL
  sleep 0.1 2>/dev/null || { sleep 1; s=KILL; }
done
exit 0
"#;

/// The connection to a host.
pub(super) struct Line {
    pub(super) link: Link,
    state: Mutex<State>,
    /// The markers of commands that were sent and whose end nobody saw.
    doubts: Plain<Vec<String>>,
    /// Held by the one that ends them.
    sweeping: Mutex<()>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// The last try to connect that failed, and when.
    failed: Option<(Instant, StepError)>,
    /// Since when it is known to be away: it broke, or could not be made.
    away_since: Option<Instant>,
    /// Whether it has been made before.
    met: bool,
}

impl Line {
    /// With words of commands that may be left on the host from before.
    pub(super) fn new(link: Link, doubts: Vec<String>) -> Self {
        Self { link, state: Mutex::default(), doubts: Plain::new(doubts), sweeping: Mutex::default() }
    }

    /// The connection; it is made if there is none.
    pub(super) async fn session(&self, cancel: &Cancel) -> Result<Arc<Session>, StepError> {
        let asked = Instant::now();
        let mut state = tokio::select! {
            state = self.state.lock() => state,
            () = cancel.cancelled() => return Err(self.stopped()),
        };
        if let Some(session) = &state.session {
            return Ok(session.clone());
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
                Ok(state.session.insert(session).clone())
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
        if state.session.as_ref().is_some_and(|now| Arc::ptr_eq(now, broken)) {
            state.session = None;
            state.away_since.get_or_insert_with(Instant::now);
        }
    }

    /// Ends the connection; returns when its process has ended.
    pub(super) async fn close(&self) {
        let Some(session) = self.state.lock().await.session.take() else { return };
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
    /// The command that ends them, if there are any.
    pub(super) fn sweep(&self) -> Option<Exec> {
        let argv = ["sh", "-c", SWEEP, "sweep"].into_iter().map(str::to_owned);
        (!self.markers.is_empty()).then(|| Exec::new(argv.chain(self.markers.iter().cloned())).repeatable())
    }

    /// The command has been run.
    pub(super) fn settled(&mut self) {
        lock(&self.line.doubts).retain(|marker| !self.markers.contains(marker));
    }
}

fn lock<T>(mutex: &Plain<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
