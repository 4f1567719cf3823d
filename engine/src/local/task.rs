//! Tasks of a run, of which the loop always hears: also of one that panics.

use super::execute::Message;
use crate::{error::StepError, event::Leftovers, step::Leftover};
use tokio::{sync::mpsc::UnboundedSender, task::JoinError};

/// Starts a task. What it gives is sent to the loop; if it breaks off, what `broken` makes of that.
pub(super) fn start(
    messages: &UnboundedSender<Message>,
    work: impl Future<Output = Option<Message>> + Send + 'static,
    broken: impl FnOnce(StepError) -> Message + Send + 'static,
) {
    let messages = messages.clone();
    tokio::spawn(async move {
        let message = match tokio::spawn(work).await {
            Ok(message) => message,
            Err(error) => Some(broken(broke_off(error))),
        };
        // The loop outlives its tasks; without it nobody is there to tell.
        if let Some(message) = message {
            let _gone = messages.send(message);
        }
    });
}

fn broke_off(error: JoinError) -> StepError {
    let said = match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
        }
        Err(error) => error.to_string(),
    };
    StepError::internal(format!("the program broke off here: {said}"))
        .hint("this is a mistake of Shakedown; what the step did is taken back as far as it is known")
}

/// What is known of leftovers if the look for them broke off.
pub(super) fn unchecked(error: &StepError) -> Leftovers {
    let nothing_known =
        Leftover { what: "what the run made".into(), why: error.message.clone(), remove_with: String::new() };
    Leftovers { unknown: vec![nothing_known], ..Leftovers::default() }
}
