//! Children in sessions of their own for which somebody waits: who reaps orphans leaves them alone.

use std::{
    collections::BTreeSet,
    io,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::process::{Child, Command};

static AWAITED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// The process numbers of all leaders. None begins while this is held.
pub(super) fn awaited() -> MutexGuard<'static, BTreeSet<u32>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that leaves our session and is waited for all the same. Without this its end could be taken for that of an
/// orphan, and the wait for it would fail.
#[derive(Debug)]
pub struct Leader {
    child: Child,
    pid: Option<u32>,
}

impl Leader {
    /// Starts a command that makes itself the leader of a session.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut awaited = awaited();
        let child = command.spawn()?;
        let pid = child.id();
        awaited.extend(pid);
        Ok(Self { child, pid })
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            awaited().remove(&pid);
        }
    }
}

impl Deref for Leader {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Leader {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}
