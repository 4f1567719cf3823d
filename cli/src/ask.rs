//! What to do about failed prechecks: asks on a terminal, decides by flags elsewhere.

use crate::{out::Out, watch::Screen};
use engine::{
    event::Decision,
    host::BoxFuture,
    local::{Asker, FailedCheck},
    report::{Tone, console::count, escape, escape_lines},
};
use std::{
    io::{self, BufRead, IsTerminal},
    thread,
};
use tokio::sync::oneshot;

/// How failed prechecks are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// `--force`: go on.
    Force,
    /// Ask.
    Ask,
    /// Nobody is there: quit.
    Quit,
}

impl Manner {
    /// Asks only where both a question can be seen and an answer be typed.
    pub(crate) fn choose(force: bool, no_input: bool) -> Self {
        match (force, no_input) {
            (true, _) => Self::Force,
            (false, false) if io::stdin().is_terminal() && io::stderr().is_terminal() => Self::Ask,
            (false, _) => Self::Quit,
        }
    }
}

/// Asks for a yes where somebody can answer; anywhere else the answer is no.
pub(crate) fn confirm(question: &str, out: &Out) -> bool {
    if Manner::choose(false, false) != Manner::Ask {
        return false;
    }
    out.tell(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Answers failed prechecks.
pub(crate) struct Prompt {
    pub(crate) manner: Manner,
    pub(crate) screen: Screen,
    pub(crate) out: Out,
}

impl Asker for Prompt {
    fn ask<'a>(&'a mut self, failed: &'a [FailedCheck]) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            match self.manner {
                Manner::Force => Decision::Continue,
                Manner::Quit => Decision::Quit,
                Manner::Ask => {
                    let (answer, answered) = oneshot::channel();
                    let (screen, out) = (self.screen.clone(), self.out);
                    let text = question(failed, &out);
                    // A thread of its own, and no task: a signal may end the run while it waits for a line that
                    // never comes, and a runtime waits for its tasks.
                    let asking = thread::Builder::new().name("ask".into()).spawn(move || {
                        screen.pause();
                        out.tell(&text);
                        let decision = read(&out);
                        screen.resume();
                        let _interrupted = answer.send(decision);
                    });
                    match asking {
                        Ok(_) => answered.await.unwrap_or(Decision::Quit),
                        Err(error) => {
                            self.out
                                .warning(&format!("nobody can be asked: no thread can be started: {error}"));
                            Decision::Quit
                        }
                    }
                }
            }
        })
    }
}

fn question(failed: &[FailedCheck], out: &Out) -> String {
    let style = out.stderr_style();
    let mut text = format!(
        "{}\n",
        style.paint(
            Tone::Warn,
            &format!("{} failed; nothing has been changed", count(failed.len(), "precheck"))
        )
    );
    for check in failed {
        let mut message = escape_lines(&check.error.message).into_iter();
        let step = style.paint(Tone::Bad, &escape(&check.step));
        text.push_str(&format!("  {step}: {}\n", message.next().unwrap_or_default()));
        let details = check.error.details.iter().take(8).flat_map(|detail| escape_lines(detail));
        message.chain(details).for_each(|line| text.push_str(&format!("    {line}\n")));
        let own = check.hint.as_ref();
        for hint in own.into_iter().chain(check.error.hint.iter().filter(|hint| Some(*hint) != own)) {
            text.push_str(&format!("  {} {}\n", style.paint(Tone::Change, "hint:"), escape(hint)));
        }
    }
    text
}

fn read(out: &Out) -> Decision {
    let mut lines = io::stdin().lock().lines();
    loop {
        out.tell("[c]ontinue regardless, [q]uit, [r]echeck? ");
        match lines.next() {
            Some(Ok(line)) => match parse(&line) {
                Some(decision) => return decision,
                None => out.tell("type c, q or r\n"),
            },
            Some(Err(_)) | None => {
                out.tell("\n");
                return Decision::Quit;
            }
        }
    }
}

fn parse(line: &str) -> Option<Decision> {
    match line.trim().to_lowercase().as_str() {
        "c" | "continue" => Some(Decision::Continue),
        "q" | "quit" => Some(Decision::Quit),
        "r" | "recheck" => Some(Decision::Recheck),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Decision, parse};

    #[test]
    fn answers_may_be_words_or_letters() {
        for (line, decision) in [
            ("c", Some(Decision::Continue)),
            (" Quit\n", Some(Decision::Quit)),
            ("RECHECK", Some(Decision::Recheck)),
            ("", None),
            ("yes", None),
        ] {
            assert_eq!(parse(line), decision, "{line:?}");
        }
    }
}
