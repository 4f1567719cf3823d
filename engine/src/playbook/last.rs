//! Steps that nobody takes back: those of `cleanup`, and written undos.

use super::{model::Body, shown::shown, steps::StepReader};
use crate::{
    diagnostic::{Code, Diagnostic, Span},
    step::ParamsView,
};

impl StepReader<'_, '_> {
    /// Whether the step may stand where nothing is undone any more.
    pub(super) fn check_final(&mut self, body: &Body, span: Span) {
        let Some(step) = self.registry.get(&body.kind) else { return };
        let (value, unknown) = shown(&body.params);
        for (key, message) in step.check_final(&ParamsView::new(&value, &unknown)) {
            let (message, hint) = message.split_once(": ").unwrap_or((&message, ""));
            let message = format!("`{}.{key}`: {message}", body.kind);
            let diagnostic = Diagnostic::error(Code::OutOfPlace, message, span);
            self.reader.found.push(if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) });
        }
    }
}
