//! How often the blocks of a template may be gone through. Handlebars ends, and yet a few loops in each other, over steps and
//! with nothing to write, would take years.
//!
//! Each block of a compiled template is given a first element that counts.

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderErrorReason, Template,
    template::{HelperTemplate, Parameter, TemplateElement},
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How many parts of blocks one rendering may go through, besides one for so many bytes of the report: to go over all of a long
/// run once or twice is no mistake.
const MAX_PARTS: u64 = 300_000;
const BYTES_A_PART: u64 = 4;
/// A value that a helper is given, or makes, may be as large as the report; such a part counts as one for so many bytes of it.
const PART_BYTES: u64 = 1_024;
/// The helper that counts.
const COUNTER: &str = "shakedown-parts";

/// What is left of one rendering.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Counts>);

#[derive(Default)]
struct Counts {
    left: AtomicU64,
    /// What a part counts whose helper may go over all of the report.
    heavy: AtomicU64,
}

impl Turns {
    /// Makes a template count.
    pub(super) fn bound(&self, registry: &mut Handlebars<'static>, name: &str) {
        registry.register_helper(COUNTER, Box::new(self.clone()));
        let Some(mut template) = registry.get_template(name).cloned() else { return };
        visit(&mut template);
        registry.register_template(name, template);
    }

    /// A rendering of a report of so many bytes begins.
    pub(super) fn begin(&self, bytes: u64) {
        self.0.left.store(MAX_PARTS + bytes / BYTES_A_PART, Ordering::Relaxed);
        self.0.heavy.store(1 + bytes / PART_BYTES, Ordering::Relaxed);
    }

    /// Whether there were too many.
    pub(super) fn over(&self) -> bool {
        self.0.left.load(Ordering::Relaxed) == 0
    }
}

impl HelperDef for Turns {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        _: &mut dyn Output,
    ) -> HelperResult {
        let number = |at| helper.param(at).and_then(|param| param.value().as_u64()).unwrap_or(1);
        let heavy = number(1).saturating_mul(self.0.heavy.load(Ordering::Relaxed));
        let left = self.0.left.load(Ordering::Relaxed).saturating_sub(number(0).saturating_add(heavy));
        self.0.left.store(left, Ordering::Relaxed);
        match left {
            0 => Err(RenderErrorReason::Other("too many parts".into()).into()),
            _ => Ok(()),
        }
    }
}

fn visit(template: &mut Template) {
    for element in &mut template.elements {
        if let TemplateElement::HelperBlock(block) = element {
            for inner in block.template.iter_mut().chain(&mut block.inverse) {
                visit(inner);
            }
        }
    }
    let parts = 1 + template.elements.len();
    let heavy = template.elements.iter().map(weight).sum::<usize>();
    let Ok(counter) = Template::compile(&format!("{{{{{COUNTER} {parts} {heavy}}}}}")) else { return };
    template.elements.splice(0..0, counter.elements);
    // Where each element stands, for messages.
    template.mapping.splice(0..0, counter.mapping);
}

/// How many helpers of an element may go over all of the report without writing it: what is written has a bound of its own.
fn weight(element: &TemplateElement) -> usize {
    match element {
        TemplateElement::HtmlExpression(call)
        | TemplateElement::Expression(call)
        | TemplateElement::HelperBlock(call) => within(call) + usize::from(compares(call)),
        _ => 0,
    }
}

/// The same of what a helper is given.
fn within(call: &HelperTemplate) -> usize {
    let inner = call.params.iter().chain(call.hash.values()).filter_map(|param| match param {
        Parameter::Subexpression(inner) => Some(inner.element.as_ref()),
        _ => None,
    });
    let weights = inner.map(|element| match element {
        TemplateElement::HtmlExpression(call) | TemplateElement::Expression(call) => {
            let makes_text = is(call, &["json", "cell"]);
            within(call) + usize::from(makes_text || compares(call))
        }
        other => weight(other),
    });
    weights.sum()
}

/// Whether it may compare large values: one of them is no text of the template.
fn compares(call: &HelperTemplate) -> bool {
    let light = [
        "each", "if", "unless", "with", "lookup", "len", "not", "and", "or", "duration", "bytes", "cell",
        "json",
    ];
    let bare = call.params.is_empty() && call.hash.is_empty();
    !bare && !is(call, &light) && !call.params.iter().any(|param| matches!(param, Parameter::Literal(_)))
}

fn is(call: &HelperTemplate, names: &[&str]) -> bool {
    matches!(&call.name, Parameter::Name(name) if names.contains(&name.as_str()))
}
