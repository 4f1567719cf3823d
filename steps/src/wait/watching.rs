//! A wait on steps: looks at each when there is word of it or it is time, and judges what all of them show.

use super::{
    Output, Params, Seen as Change, ms_since,
    source::{Seen, Source},
};
use engine::{
    StepError,
    error::ErrorClass,
    step::{Condition, Context},
};
use serde_json::{Map, Value};
use std::{future::Future, pin::Pin, task::Poll};
use tokio::time::Instant;

/// The most changes that the time line keeps.
const TIMELINE: usize = 200;

/// One wait.
pub(super) struct Watching<'a> {
    cx: &'a Context,
    params: &'a Params,
    begun: Instant,
    sources: Vec<Source<'a>>,
    output: Output,
    /// Since when `succeed_when` has held.
    holds_since: Option<Instant>,
}

impl<'a> Watching<'a> {
    pub(super) async fn new(cx: &'a Context, params: &'a Params, begun: Instant) -> Self {
        let every = params.every.map(|every| every.duration());
        let watched = params.watch.iter().flatten().map(|(name, nested)| (name.as_str(), nested));
        let mut sources = Vec::new();
        for (name, nested) in params.until.iter().map(|nested| ("out", nested)).chain(watched) {
            sources.push(Source::new(cx, name, nested, every).await);
        }
        Self { cx, params, begun, sources, output: Output::default(), holds_since: None }
    }

    pub(super) async fn run(mut self) -> Result<Output, StepError> {
        let mut due: Vec<usize> = (0..self.sources.len()).collect();
        loop {
            if self.cx.cancel.is_cancelled() {
                return Err(StepError::new(ErrorClass::Cancelled, "the wait was stopped"));
            }
            self.output.attempts += 1;
            for at in due {
                self.sources[at].look(self.cx).await?;
            }
            if self.judge()? {
                return Ok(self.end());
            }
            due = self.next().await?;
        }
    }

    /// Waits until one or more are to be looked at again.
    async fn next(&mut self) -> Result<Vec<usize>, StepError> {
        let settled = match (self.holds_since, self.params.stable_for) {
            (Some(since), Some(needed)) => Some(since + needed.duration()),
            _ => None,
        };
        let all = (0..self.sources.len()).collect();
        let cancel = self.cx.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => Err(StepError::new(ErrorClass::Cancelled, "the wait was stopped")),
            // It has held long enough if it still does.
            () = until(settled) => Ok(all),
            (due, told) = any_due(&mut self.sources) => {
                self.output.notices += u64::from(told);
                Ok(due)
            }
        }
    }

    fn end(mut self) -> Output {
        self.output.waited_ms = ms_since(self.begun);
        self.output.true_at_ms = self
            .holds_since
            .and_then(|since| u64::try_from(since.duration_since(self.begun).as_millis()).ok());
        for mut source in self.sources {
            source.close();
            if source.effort.operations > 0 {
                self.output.db.get_or_insert_default().add(&source.effort);
            }
            let Seen::Output(out) = source.seen else { continue };
            if self.params.until.is_some() {
                self.output.out = out;
            } else {
                self.output.watch.insert(source.name.to_owned(), out);
            }
        }
        self.output
    }

    /// Whether the wait is over.
    fn judge(&mut self) -> Result<bool, StepError> {
        let mut names = Map::new();
        let mut not_yet = Vec::new();
        for source in &self.sources {
            match &source.seen {
                Seen::Output(out) => {
                    names.insert(source.name.to_owned(), out.clone());
                }
                Seen::NotYet(why) if source.name == "out" => not_yet.push(why.clone()),
                Seen::NotYet(why) => not_yet.push(format!("{}: {why}", source.name)),
                Seen::Unasked => return Ok(false),
            }
        }
        // One that shows nothing yet is no reason not to hear the others: beside a daemon that does not answer stands its
        // journal.
        if names.is_empty() {
            self.holds_since = None;
            self.note(not_yet.join(", "));
            return Ok(false);
        }
        let saw = match &self.params.succeed_when {
            Some(condition) => shorten(&self.cx.explain(condition, &names)),
            None => "it succeeds".into(),
        };
        not_yet.retain(|why| !why.is_empty());
        self.note([not_yet, vec![saw]].concat().join(", "));
        // Success wins when both hold: what was wanted has come true. A step that succeeds is no condition that holds.
        let wanted = match &self.params.succeed_when {
            Some(condition) => self.evaluate(condition, &names)?,
            None => false,
        };
        if !wanted
            && let Some(fail_when) = &self.params.fail_when
            && self.evaluate(fail_when, &names)?
        {
            return Err(self.failure(fail_when, &names));
        }
        Ok(self.has_been_stable(wanted || self.params.succeed_when.is_none()))
    }

    fn has_been_stable(&mut self, holds: bool) -> bool {
        if !holds {
            self.holds_since = None;
            return false;
        }
        let since = *self.holds_since.get_or_insert_with(Instant::now);
        self.params.stable_for.is_none_or(|needed| since.elapsed() >= needed.duration())
    }

    /// A value that is not there yet (the row before it is written) is not yet, and no mistake.
    fn evaluate(&self, condition: &Condition, names: &Map<String, Value>) -> Result<bool, StepError> {
        match self.cx.holds(condition, names) {
            Err(error) if self.is_not_there_yet(&error.message) => Ok(false),
            other => other,
        }
    }

    /// Whether an expression could not be evaluated because something in it is not there yet: a value, or all of a step.
    fn is_not_there_yet(&self, message: &str) -> bool {
        let unseen = self.sources.iter().filter(|source| matches!(source.seen, Seen::NotYet(_)));
        let mut unseen = unseen.map(|source| format!("unknown name `{}`", source.name));
        message.contains("no such key")
            || message.contains("null")
            || unseen.any(|unknown| message.contains(&unknown))
    }

    fn failure(&self, fail_when: &Condition, names: &Map<String, Value>) -> StepError {
        let values = self.cx.explain(fail_when, names);
        let quoted = quotes(names);
        let mut message = shorten(&values);
        for line in &quoted {
            message.push_str(&format!(": {line}"));
        }
        let mut error = StepError::expectation(message);
        error.details = quoted;
        error.details.push(format!("`fail_when: {}` holds", fail_when.0));
        error.details.extend(values);
        error
    }

    fn note(&mut self, saw: String) {
        if self.output.timeline.last().is_some_and(|last| last.saw == saw) {
            return;
        }
        self.cx.sees(saw.clone());
        if self.output.timeline.len() < TIMELINE {
            self.output.timeline.push(Change { at_ms: ms_since(self.begun), saw });
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Ends when one of them is due: which, all that are due at that moment, and whether one was given word.
async fn any_due(sources: &mut [Source<'_>]) -> (Vec<usize>, bool) {
    let mut waits: Vec<Pin<Box<dyn Future<Output = bool> + Send + '_>>> =
        sources.iter_mut().map(|source| Box::pin(source.due()) as _).collect();
    std::future::poll_fn(|context| {
        let mut told = false;
        let mut due = Vec::new();
        for (at, wait) in waits.iter_mut().enumerate() {
            if let Poll::Ready(word) = wait.as_mut().poll(context) {
                told |= word;
                due.push(at);
            }
        }
        if due.is_empty() { Poll::Pending } else { Poll::Ready((due, told)) }
    })
    .await
}

/// `out.row.transfer_status is "failed"` as `transfer_status is "failed"`.
fn shorten(values: &[String]) -> String {
    let short = values.iter().map(|line| match line.split_once(" is ") {
        Some((path, value)) if !path.contains(['(', '[', ' ']) => {
            format!("{} is {value}", path.rsplit('.').next().unwrap_or(path))
        }
        _ => line.clone(),
    });
    short.collect::<Vec<_>>().join(", ")
}

/// What the watched things themselves say of a failure: error columns of rows, messages of a journal.
fn quotes(names: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for value in names.values() {
        if let Some(Value::Object(row)) = value.get("row") {
            let said =
                row.iter().filter(|(column, _)| column.contains("error") || column.contains("message"));
            lines.extend(
                said.filter_map(|(_, text)| text.as_str()).filter(|text| !text.is_empty()).map(str::to_owned),
            );
        }
        if let Some(Value::Array(entries)) = value.get("entries") {
            let messages: Vec<&str> =
                entries.iter().filter_map(|entry| entry.get("message")?.as_str()).collect();
            lines.extend(messages[messages.len().saturating_sub(3)..].iter().map(|line| (*line).to_owned()));
        }
    }
    lines
}
