//! One thing that a wait watches: when to look at it again, and what it showed.

use crate::sqlite::Effort;
use engine::{
    StepError,
    error::ErrorClass,
    step::{Changes, Context, Nested},
};
use serde::Deserialize as _;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause between two looks; it grows up to `every`, so that quick changes are noticed at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause unless `every` says otherwise.
const EVERY: Duration = Duration::from_millis(500);
/// The same where there is word of changes: only the net below it.
const EVERY_WITH_WORD: Duration = Duration::from_secs(2);
/// The first pause after word; it doubles up to the net. Word may come before there is anything to see: a commit to SQLite is
/// written to the log, then synced, and only then visible.
const AFTER_WORD: Duration = Duration::from_millis(4);
/// There a look may cost this share of the time at most: one that takes 30 ms is taken every 7.5 s.
const SHARE: u32 = 250;
/// The shortest and the longest time from one look to the next when word comes without an end.
const SPACING: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

/// What a look came to.
pub(super) enum Seen {
    /// Nothing yet.
    Unasked,
    /// The step's output.
    Output(Value),
    /// It failed in a way that may pass.
    NotYet(String),
}

pub(super) struct Source<'a> {
    /// The name that conditions use.
    pub(super) name: &'a str,
    pub(super) seen: Seen,
    /// What its looks at a database took, together.
    pub(super) effort: Effort,
    nested: &'a Nested,
    changes: Option<Box<dyn Changes>>,
    /// How long to wait for word, or for nothing, before the next look.
    pause: Duration,
    longest: Duration,
    looked: Instant,
    spacing: Duration,
    /// Whether word came since the last look.
    told: bool,
}

impl<'a> Source<'a> {
    /// Asks for word before the first look, so that nothing happens unseen between the two.
    pub(super) async fn new(
        cx: &Context,
        name: &'a str,
        nested: &'a Nested,
        every: Option<Duration>,
    ) -> Self {
        let changes = cx.nested_changes(nested).await;
        let usual = if changes.is_some() { EVERY_WITH_WORD } else { EVERY };
        let longest = every.unwrap_or(usual).max(Duration::from_millis(1));
        let pause = FIRST_PAUSE.min(longest);
        let spacing = SPACING.0;
        Self {
            name,
            seen: Seen::Unasked,
            effort: Effort::default(),
            nested,
            changes,
            pause,
            longest,
            looked: Instant::now(),
            spacing,
            // A change may be under way that began before anybody listened.
            told: true,
        }
    }

    /// Looks.
    pub(super) async fn look(&mut self, cx: &Context) -> Result<(), StepError> {
        let begun = Instant::now();
        let before = std::mem::replace(&mut self.seen, Seen::Unasked);
        self.seen = match cx.run_nested(self.nested).await {
            Ok(out) => {
                if let Some(effort) = out.get("db").and_then(|effort| Effort::deserialize(effort).ok()) {
                    self.effort.add(&effort);
                }
                Seen::Output(out)
            }
            Err(error) if may_pass(error.class) => Seen::NotYet(error.message),
            Err(error) => return Err(error),
        };
        self.looked = Instant::now();
        if self.changes.is_some() {
            let took = begun.elapsed();
            let next = if std::mem::take(&mut self.told) { AFTER_WORD } else { self.pause * 2 };
            self.pause = next.max(took * 4).min(self.longest.max(took * SHARE));
            // Word that brings nothing new, as of a busy database, is heard less often.
            self.spacing = match (&before, &self.seen) {
                (Seen::Output(before), Seen::Output(now)) if before == now => {
                    (self.spacing * 2).min(SPACING.1)
                }
                (Seen::NotYet(_), Seen::NotYet(_)) => (self.spacing * 2).min(SPACING.1),
                _ => SPACING.0,
            };
        } else if !matches!(before, Seen::Unasked) {
            self.pause = (self.pause * 3 / 2).min(self.longest);
        }
        Ok(())
    }

    /// Has no use for word any more. The kernel takes 10 to 20 ms to close an inotify: nobody has to wait for that.
    pub(super) fn close(&mut self) {
        if let Some(changes) = self.changes.take() {
            drop(tokio::task::spawn_blocking(move || drop(changes)));
        }
    }

    /// Ends when it is time for the next look; true if word of a change came. Dropping the future loses nothing.
    pub(super) async fn due(&mut self) -> bool {
        let at = self.looked + self.pause;
        let Some(changes) = &mut self.changes else {
            tokio::time::sleep_until(at).await;
            return false;
        };
        // Word that comes too early waits: it is kept where it comes from.
        tokio::time::sleep_until(self.looked + self.spacing).await;
        self.told = tokio::select! {
            () = changes.next() => true,
            () = tokio::time::sleep_until(at) => false,
        };
        self.told
    }
}

/// Whether an error may go away by itself.
fn may_pass(class: ErrorClass) -> bool {
    !matches!(
        class,
        ErrorClass::Invalid
            | ErrorClass::Unsupported
            | ErrorClass::Denied
            | ErrorClass::Internal
            | ErrorClass::Cancelled
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;
    use engine::host::BoxFuture;
    use serde_json::json;

    /// Gives word once and never again.
    struct Once(bool);

    impl Changes for Once {
        fn next(&mut self) -> BoxFuture<'_, ()> {
            let told = std::mem::replace(&mut self.0, true);
            Box::pin(async move {
                if told {
                    std::future::pending::<()>().await;
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_visible_only_after_the_word_of_it_is_seen_long_before_the_net() {
        let bench = Bench::new();
        let path = bench.at("later");
        let nested: Nested = serde_json::from_value(json!({ "file": { "stat": path } })).expect("a step");
        let mut source = Source::new(&bench.cx, "out", &nested, None).await;
        source.changes = Some(Box::new(Once(false)));
        source.look(&bench.cx).await.expect("a look");
        assert!(source.due().await, "the word");
        source.look(&bench.cx).await.expect("a look");
        std::fs::write(&path, "x").expect("written");
        let begun = Instant::now();
        while !matches!(&source.seen, Seen::Output(out) if out["exists"] == true) {
            assert!(!source.due().await, "there is no other word");
            source.look(&bench.cx).await.expect("a look");
        }
        let after = begun.elapsed();
        assert!(after < EVERY_WITH_WORD / 10, "on the paused clock it was seen after {after:?}");
    }
}
