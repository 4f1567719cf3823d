//! Word of processes that end or begin.

use super::{
    find::{Find, Wanted},
    look,
};
use crate::watch::Files;
use engine::{
    host::BoxFuture,
    step::{Changes, Context},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::{pending, poll_fn},
    os::fd::OwnedFd,
    path::PathBuf,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::io::{Interest, unix::AsyncFd};

/// How often it is asked whether a process has begun: the kernel tells nobody but root of that, and not in a container.
/// Less would cost more than 0.5 % of a core.
const TICK: Duration = Duration::from_millis(100);
/// For how long a new process may take another name by an exec, as every new command does, until it counts as known.
const YOUNG: Duration = Duration::from_secs(1);

/// A process that has been looked at.
struct Known {
    /// Until when it is looked at again, for it may become another program.
    young_until: Option<Instant>,
    /// For one that is meant: ready once it has ended. None if the kernel does not give it.
    end: Option<AsyncFd<OwnedFd>>,
    meant: bool,
}

/// Gives word when a process that is meant ends or begins.
pub(super) struct Processes {
    wanted: Wanted,
    known: BTreeMap<u32, Known>,
    /// Word of the pid file.
    file: Option<Box<dyn Changes>>,
    last_pid: u32,
}

impl Processes {
    pub(super) fn watch(cx: &Context, find: &Find) -> Option<Box<dyn Changes>> {
        let wanted = Wanted::new(find).ok()?;
        let file = match &find.pid_file {
            Some(path) => Some(Files::watch(cx, [PathBuf::from(path)])?),
            None => None,
        };
        let mut it = Self { wanted, known: BTreeMap::new(), file, last_pid: 0 };
        it.scan(false);
        Some(Box::new(it))
    }

    /// Looks at the processes that are not known yet; whether one that is meant has begun or ended.
    fn scan(&mut self, young: bool) -> bool {
        let now = Instant::now();
        // Before the list: one that begins in between is seen the next time.
        let last_pid = look::last_pid();
        let few = match self.wanted.only() {
            // Without a process, a file that cannot be read gives no word but that of its change.
            Err(_) => Some(Vec::new()),
            Ok(only) => only.map(|pid| pid.into_iter().collect()),
        };
        let pids: BTreeSet<u32> = match few {
            None if last_pid != 0 && last_pid == self.last_pid => return self.grow_up(now),
            None => match look::pids() {
                Ok(pids) => pids.into_iter().collect(),
                // No word to give: the next look tells what is in the way.
                Err(_) => return false,
            },
            Some(few) => {
                self.known.retain(|_, known| known.meant);
                few.into_iter().collect()
            }
        };
        self.last_pid = last_pid;
        let before = self.meant();
        self.known.retain(|pid, known| {
            pids.contains(pid)
                && (!known.meant || known.end.is_some() || !matches!(look::one(*pid), Ok(None)))
        });
        let mut word = self.meant() < before;
        let me = std::process::id();
        for pid in pids {
            if !self.known.contains_key(&pid) && (pid != me || self.wanted.find.pid.is_some()) {
                word |= self.meet(pid, young.then(|| now + YOUNG));
            }
        }
        self.grow_up(now) || word
    }

    fn meant(&self) -> usize {
        self.known.values().filter(|known| known.meant).count()
    }

    /// Looks at a process; whether it is meant.
    fn meet(&mut self, pid: u32, young_until: Option<Instant>) -> bool {
        // Opened before the look: what it tells is of this process, and not of one that has the number later.
        let end = open(pid);
        let Ok(Some(seen)) = look::one(pid) else {
            return false;
        };
        let meant = self.wanted.matches(&seen);
        let end = end.filter(|_| meant).and_then(ready_at_end);
        self.known.insert(pid, Known { young_until, end, meant });
        meant
    }

    /// Looks again at the young ones.
    fn grow_up(&mut self, now: Instant) -> bool {
        let young: Vec<(u32, Instant)> =
            self.known.iter().filter_map(|(pid, known)| Some((*pid, known.young_until?))).collect();
        let mut word = false;
        for (pid, until) in young {
            let was_meant = self.known.remove(&pid).is_some_and(|known| known.meant);
            word |= self.meet(pid, (until > now).then_some(until)) != was_meant;
        }
        word
    }

    /// Ends once one that is meant has ended: which.
    async fn ended(known: &BTreeMap<u32, Known>) -> u32 {
        poll_fn(|context| {
            // It stays ready; an error of the poll itself is as good a word, for the next look tells.
            let ended = known.iter().find(|(_, known)| {
                known.end.as_ref().is_some_and(|end| end.poll_read_ready(context).is_ready())
            });
            ended.map_or(Poll::Pending, |(pid, _)| Poll::Ready(*pid))
        })
        .await
    }

    async fn changed(&mut self) {
        loop {
            if self.scan(true) {
                return;
            }
            // One certain process gives word itself, and so does the file that would name another.
            let certain = self.file.is_some() || (self.wanted.find.pid.is_some() && self.meant() > 0);
            let unseen = self.known.values().any(|known| known.meant && known.end.is_none());
            let file = &mut self.file;
            let file = async move {
                match file {
                    Some(file) => file.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                pid = Self::ended(&self.known) => {
                    self.known.remove(&pid);
                    return;
                }
                () = file => return,
                () = tokio::time::sleep(TICK), if !certain || unseen => {}
            }
        }
    }
}

impl Changes for Processes {
    fn next(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed())
    }
}

fn open(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::NONBLOCK).ok()
}

fn ready_at_end(pidfd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "its successor is unsafe; OwnedFd keeps its descriptor open and to itself")]
    AsyncFd::with_interest(pidfd, Interest::READABLE).ok()
}
