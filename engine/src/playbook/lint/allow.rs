//! Comments that excuse a step from a lint, each with its reason.

use super::LINTS;
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, Span, did_you_mean},
    playbook::Playbook,
};

/// How such a comment begins.
const MARK: &str = "# shakedown: allow ";

/// What the comments of a playbook excuse.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    list: Vec<Entry>,
    wrong: Vec<Diagnostic>,
}

#[derive(Debug)]
struct Entry {
    /// The position of the step.
    step: usize,
    code: Code,
    span: Span,
    used: bool,
}

impl Allowed {
    /// Looks beside the id of each step and at the comments right above it.
    pub(super) fn read(playbook: &Playbook) -> Self {
        let mut allowed = Self::default();
        let text = &playbook.sources.main().text;
        if !text.contains(MARK) {
            return allowed;
        }
        // Steps of texts that are included lie behind the playbook's own.
        let own = playbook.steps.iter().enumerate().filter(|(_, step)| step.span.start < text.len());
        for (position, step) in own {
            let begin = text[..step.span.start].rfind('\n').map_or(0, |newline| newline + 1);
            let end = text[begin..].find('\n').map_or(text.len(), |newline| begin + newline);
            allowed.line(position, text, begin, end);
            let mut above = begin;
            while above > 0 {
                let start = text[..above - 1].rfind('\n').map_or(0, |newline| newline + 1);
                if !text[start..above].trim_start().starts_with('#') {
                    break;
                }
                allowed.line(position, text, start, above - 1);
                above = start;
            }
        }
        allowed
    }

    fn line(&mut self, step: usize, text: &str, begin: usize, end: usize) {
        let Some(at) = text[begin..end].find(MARK).map(|at| begin + at) else { return };
        let span = Span::new(at, end);
        let (names, reason) =
            text[at + MARK.len()..end].split_once(':').unwrap_or((&text[at + MARK.len()..end], ""));
        if reason.trim().is_empty() {
            let message = "this comment gives no reason, and allows nothing";
            let hint = format!("write: {MARK}{}: WHY", names.trim());
            self.wrong.push(Diagnostic::warning(Code::BadValue, message, span).hint(hint));
            return;
        }
        for name in names.split(',').map(str::trim) {
            match LINTS.into_iter().find(|code| code.name() == name) {
                Some(code) => self.list.push(Entry { step, code, span, used: false }),
                None => {
                    let known = || LINTS.iter().map(|code| code.name());
                    let hint = did_you_mean(name, known()).unwrap_or_else(|| {
                        format!("the lints are: {}", known().collect::<Vec<_>>().join(", "))
                    });
                    let message = format!("there is no lint `{name}`");
                    self.wrong.push(Diagnostic::warning(Code::BadValue, message, span).hint(hint));
                }
            }
        }
    }

    /// Whether the step is excused.
    pub(super) fn take(&mut self, step: usize, code: Code) -> bool {
        let entry = self.list.iter_mut().find(|entry| entry.step == step && entry.code == code);
        entry.map(|entry| entry.used = true).is_some()
    }

    /// Notes what is wrong with the comments, and those that excuse nothing.
    pub(super) fn finish(self, found: &mut Diagnostics) {
        self.wrong.into_iter().for_each(|diagnostic| found.push(diagnostic));
        for entry in self.list.into_iter().filter(|entry| !entry.used) {
            let message = format!("this comment allows `{}`, which is not found here", entry.code.name());
            found.push(Diagnostic::warning(Code::Unused, message, entry.span).hint("remove it"));
        }
    }
}
