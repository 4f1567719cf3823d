//! Carries a file between this machine and a host. When the connection breaks it waits for the host and goes on where the
//! part that arrived ends, once that is known to be the beginning of the source.

use super::Intent;
use crate::place::{At, Found, Placing, rest};
use engine::{
    ErrorClass, StepError,
    host::{Cancel, Exec, Host, Output, Stdin, shell_word},
    quantity::Bytes,
    step::Context,
};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);
/// How long a part may take to be removed after a failure.
const DISCARD: Duration = Duration::from_secs(10);
/// The pauses between tries when the host is away.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// One file on its way. One of the hosts is this machine.
pub(super) struct Transfer<'a> {
    pub(super) cx: &'a Context,
    /// The source, absolute if it is of this machine.
    pub(super) from: &'a str,
    pub(super) source: &'a dyn Host,
    pub(super) target: &'a dyn Host,
    pub(super) placing: Placing,
    /// What is durable of it; the placing in it is the one it began with.
    pub(super) intent: &'a Intent,
    /// The mode of the new file, in octal.
    pub(super) mode: &'a str,
}

/// What went over the connection.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// All bytes, also those that did not arrive.
    pub(super) sent: u64,
    /// Where the last piece began, if it was not the beginning.
    pub(super) resumed_at: Option<u64>,
    /// Whether the file may be in place, for it was told to be.
    placing: bool,
}

impl Transfer<'_> {
    /// Carries the file, and puts it in place when its hash is that of the source. A host that goes away is waited for
    /// until the step is stopped.
    pub(super) async fn run(&mut self) -> Result<Carried, StepError> {
        let result = self.persist().await;
        if let Err(error) = &result
            && (error.class == ErrorClass::NoSpace || self.cx.is_final())
        {
            // A full disk gets its room back at once; and nobody comes after a final step.
            let never = Cancel::never();
            let at = At { cancel: &never, ..self.at() };
            let _removed_by_the_undo = timeout(DISCARD, self.placing.discard(at)).await;
        }
        result
    }

    fn at(&self) -> At<'_> {
        At { host: self.target, services: &self.cx.services, cancel: &self.cx.cancel }
    }

    fn source_at(&self) -> At<'_> {
        At { host: self.source, ..self.at() }
    }

    async fn persist(&mut self) -> Result<Carried, StepError> {
        let mut carried = Carried::default();
        let mut pause = FIRST_PAUSE;
        loop {
            let before = carried.sent;
            let error = match self.once(&mut carried).await {
                Ok(()) => return Ok(carried),
                Err(error) => error,
            };
            if error.class != ErrorClass::Unreachable {
                return Err(error);
            }
            self.cx.sees(error.message);
            if carried.sent > before {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.cx.cancel.cancelled() => {
                    let message = format!("the transfer of `{}` was stopped", self.from);
                    let error = StepError::new(ErrorClass::Cancelled, message);
                    return Err(if carried.placing { error.unknown_outcome() } else { error });
                }
            }
        }
    }

    async fn once(&mut self, carried: &mut Carried) -> Result<(), StepError> {
        if carried.placing && self.placing.is_placed(self.at()).await? == Ok(true) {
            return Ok(());
        }
        let found = self.at().look(&self.placing.beside).await?;
        let at = self.verified(found).await?;
        carried.resumed_at = Some(at).filter(|at| *at > 0);
        self.cx.bytes(at, self.intent.size);
        // An empty file has to be made, too.
        if at < self.intent.size || at == 0 {
            self.carry(at, &mut carried.sent).await?;
        }
        carried.placing = true;
        let (cx, intent, mode) = (self.cx, self.intent, self.mode);
        let at = At { host: self.target, services: &cx.services, cancel: &cx.cancel };
        let amend = async |placing: &Placing| {
            cx.amend(&Intent { placing: Some(placing.clone()), size: intent.size, mode: intent.mode.clone() })
                .await
        };
        match self.placing.place(at, mode, amend).await {
            Err(error) if error.class == ErrorClass::Corrupt => Err(self.blame(error).await),
            placed => placed,
        }
    }

    /// How much of the part that is there already is the beginning of the source: all of it, or nothing.
    async fn verified(&self, found: Found) -> Result<u64, StepError> {
        let beside = &self.placing.beside;
        match found {
            Found::Nothing => Ok(0),
            Found::Other => {
                let message = format!("`{beside}` on `{}` is there and no file", self.target.name());
                let command = format!("ls -ld -- {}", shell_word(beside));
                Err(StepError::new(ErrorClass::Exists, message).hint(self.at().typed(&command)))
            }
            Found::File { size, .. } if size == 0 || size > self.intent.size => Ok(0),
            Found::File { size, sha256, .. } => {
                self.cx.sees(format!("compares the first {} that arrived before", Bytes(size)));
                let same = self.source_at().beginning(self.from, size).await? == sha256;
                Ok(if same { size } else { 0 })
            }
        }
    }

    async fn carry(&self, at: u64, sent: &mut u64) -> Result<(), StepError> {
        let moved = Arc::<AtomicU64>::default();
        let (host, exec) = if self.target.is_local() {
            if at == 0 {
                // What is written must be a file of our own making.
                self.placing.discard(self.at()).await?;
            }
            let mut exec = rest(self.from, at);
            (exec.stdout_file, exec.stdout_at) = (Some(PathBuf::from(&self.placing.beside)), at);
            (self.source, exec)
        } else {
            let stdin = Stdin::FileFrom(PathBuf::from(self.from), at);
            (self.target, self.placing.receive(at).stdin(stdin))
        };
        let ended = self.watched(host, Exec { moved: moved.clone(), ..exec }, at, &moved).await;
        *sent += moved.load(Ordering::Relaxed);
        match self.target.is_local() {
            true => {
                let what = format!("read `{}` on `{}`", self.from, self.source.name());
                self.source_at().succeeded(ended?, &what, self.from).map(drop)
            }
            false => self.placing.received(self.at(), ended?),
        }
    }

    /// Runs the command that carries, and tells how far it is.
    async fn watched(
        &self,
        host: &dyn Host,
        exec: Exec,
        at: u64,
        moved: &AtomicU64,
    ) -> Result<Output, StepError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = host.exec(exec, &self.cx.cancel);
        tokio::pin!(work);
        let mut told = at;
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                _ = ticks.tick() => {
                    let now = (at + moved.load(Ordering::Relaxed)).min(self.intent.size);
                    if now != told {
                        told = now;
                        self.cx.bytes(now, self.intent.size);
                    }
                }
            }
        }
    }

    /// What arrived is not the source as it was; perhaps because the source is not what it was.
    async fn blame(&self, error: StepError) -> StepError {
        match self.source_at().look(self.from).await {
            Ok(Found::File { sha256, .. }) if sha256 == self.placing.sha256 => error,
            Ok(_) => {
                let message =
                    format!("`{}` on `{}` changed while it was carried", self.from, self.source.name());
                StepError::new(ErrorClass::Busy, message).hint("wait until nobody writes it any more")
            }
            Err(_) => error,
        }
    }
}
