//! INT, TERM and HUP, in the order in which they arrive.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The signals that ask a run to stop. Who listens for them hands them over, from before the run begins: one that arrives
/// early is kept for it.
#[derive(Debug, Default)]
pub struct Signals(Option<UnboundedReceiver<i32>>);

impl Signals {
    /// Signals, and where they are handed over by their numbers.
    #[must_use]
    pub fn handed_over() -> (UnboundedSender<i32>, Self) {
        let (sender, receiver) = unbounded_channel();
        (sender, Self(Some(receiver)))
    }

    /// The number of the next signal.
    pub(super) async fn next(&mut self) -> i32 {
        let arrived = match &mut self.0 {
            Some(receiver) => receiver.recv().await,
            None => None,
        };
        match arrived {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}
