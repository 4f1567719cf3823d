//! INT, TERM and HUP, in the order in which they arrive.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a run to stop, from when this is made: one that arrives before the run begins is kept for it.
#[derive(Debug, Default)]
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// Listens from now on. Must be called in the context of a runtime.
    #[must_use]
    pub fn listen() -> Self {
        let listen = |kind| signal(kind).ok();
        Self {
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
            hangup: listen(SignalKind::hangup()),
        }
    }

    /// The number of the next signal.
    pub(super) async fn next(&mut self) -> i32 {
        async fn one(signal: &mut Option<Signal>) {
            let arrived = match signal {
                Some(signal) => signal.recv().await,
                None => None,
            };
            if arrived.is_none() {
                std::future::pending::<()>().await;
            }
        }
        tokio::select! {
            () = one(&mut self.interrupt) => nix::libc::SIGINT,
            () = one(&mut self.terminate) => nix::libc::SIGTERM,
            () = one(&mut self.hangup) => nix::libc::SIGHUP,
        }
    }
}
