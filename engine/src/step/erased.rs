//! Step types behind one object-safe face, so that the engine can keep them in a list.

use super::{
    ByHand, Changes, Context, Description, Docs, ParamsView, Presence, Probe, Prospect, Services, Settled,
    Step, Undone, paths::PathParams,
};
use crate::{
    error::{ErrorClass, StepError},
    host::BoxFuture,
};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::OnceLock;

/// A step type whose parameters, intent and output are JSON. [`Erased`] makes one of any [`Step`].
pub trait DynStep: Send + Sync {
    /// See [`Step::KIND`].
    fn kind(&self) -> &'static str;
    /// See [`Step::docs`].
    fn docs(&self) -> Docs;
    /// The JSON Schema of the parameters, with all definitions inlined.
    fn params_schema(&self) -> Value;
    /// The JSON Schema of the output, with all definitions inlined.
    fn output_schema(&self) -> Value;
    /// See [`Step::describe`].
    fn describe(&self, view: &ParamsView<'_>) -> Description;
    /// See [`Step::check`].
    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)>;
    /// See [`Step::check_final`].
    fn check_final(&self, view: &ParamsView<'_>) -> Vec<(String, String)>;
    /// See [`Step::diagnostics`].
    fn diagnostics(&self, view: &ParamsView<'_>) -> Vec<(String, &'static str, Value)>;
    /// See [`Step::host_param`].
    fn host_param(&self, view: &ParamsView<'_>) -> Option<&'static str>;
    /// See [`Step::touches`].
    fn touches(&self, view: &ParamsView<'_>) -> Vec<String>;
    /// Whether fully known parameters have the right types.
    ///
    /// # Errors
    /// They do not; class `invalid`.
    fn accepts(&self, params: &Value) -> Result<(), StepError>;
    /// See [`Step::probe`].
    fn probe<'a>(&'a self, cx: &'a Context, params: &'a Value) -> BoxFuture<'a, Result<Probe, StepError>>;
    /// See [`Step::probe_ignores`].
    fn probe_ignores(&self) -> &'static [&'static str];
    /// See [`Step::intend`].
    fn intend<'a>(&'a self, cx: &'a Context, params: &'a Value) -> BoxFuture<'a, Result<Value, StepError>>;
    /// See [`Step::run`].
    fn run<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
    ) -> BoxFuture<'a, Result<Value, StepError>>;
    /// See [`Step::changes`].
    fn changes<'a>(&'a self, cx: &'a Context, params: &'a Value) -> BoxFuture<'a, Option<Box<dyn Changes>>>;
    /// See [`Step::summary`].
    fn summary(&self, output: &Value) -> String;
    /// See [`Step::settle`].
    fn settle<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
    ) -> BoxFuture<'a, Result<Settled<Value>, StepError>>;
    /// See [`Step::undo`].
    fn undo<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
        output: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Undone, StepError>>;
    /// See [`Step::by_hand`].
    fn by_hand(
        &self,
        services: &Services,
        on: Option<&str>,
        params: &Value,
        intent: &Value,
    ) -> Option<ByHand>;
    /// See [`Step::release`].
    fn release<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
    ) -> BoxFuture<'a, Result<(), StepError>>;
    /// See [`Step::presence`].
    fn presence<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
        output: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Presence, StepError>>;
}

/// A [`Step`] as a [`DynStep`].
pub struct Erased<S> {
    step: S,
    paths: OnceLock<PathParams>,
}

impl<S: Step> Erased<S> {
    /// This step type.
    pub fn new(step: S) -> Self {
        Self { step, paths: OnceLock::new() }
    }

    fn paths(&self) -> &PathParams {
        self.paths.get_or_init(|| PathParams::of(&self.params_schema()))
    }

    /// Parameters as the step type takes them, with paths of this machine absolute.
    fn params(&self, cx: &Context, params: &Value) -> Result<S::Params, StepError> {
        typed("the parameters", S::KIND, &self.paths().absolute(cx, params))
    }
}

fn typed<T: DeserializeOwned>(what: &str, kind: &str, value: &Value) -> Result<T, StepError> {
    T::deserialize(value)
        .map_err(|error| StepError::new(ErrorClass::Invalid, format!("{what} of `{kind}`: {error}")))
}

fn json<T: serde::Serialize>(value: &T) -> Result<Value, StepError> {
    serde_json::to_value(value).map_err(|error| StepError::internal(error.to_string()))
}

/// What a step gives back passes here: no secret goes on into events, plans or reports.
fn masked<T>(cx: &Context, result: Result<T, StepError>) -> Result<T, StepError> {
    result.map_err(|mut error| {
        cx.services.secrets.mask_error(&mut error);
        error
    })
}

fn masked_output(cx: &Context, result: Result<Value, StepError>) -> Result<Value, StepError> {
    masked(cx, result).map(|mut value| {
        cx.services.secrets.mask_value(&mut value);
        value
    })
}

fn inlined(schema: impl FnOnce(&mut SchemaGenerator) -> Schema) -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    schema(&mut settings.into_generator()).to_value()
}

impl<S: Step> DynStep for Erased<S> {
    fn kind(&self) -> &'static str {
        S::KIND
    }

    fn docs(&self) -> Docs {
        self.step.docs()
    }

    fn params_schema(&self) -> Value {
        inlined(|generator| generator.root_schema_for::<S::Params>())
    }

    fn output_schema(&self) -> Value {
        inlined(|generator| generator.root_schema_for::<S::Output>())
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        self.step.describe(view)
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        self.step.check(view)
    }

    fn check_final(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        self.step.check_final(view)
    }

    fn diagnostics(&self, view: &ParamsView<'_>) -> Vec<(String, &'static str, Value)> {
        self.step.diagnostics(view)
    }

    fn host_param(&self, view: &ParamsView<'_>) -> Option<&'static str> {
        self.step.host_param(view)
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        self.step.touches(view)
    }

    fn accepts(&self, params: &Value) -> Result<(), StepError> {
        typed::<S::Params>("the parameters", S::KIND, params).map(|_| ())
    }

    fn probe<'a>(&'a self, cx: &'a Context, params: &'a Value) -> BoxFuture<'a, Result<Probe, StepError>> {
        Box::pin(async move {
            let params = self.params(cx, params)?;
            let mut probe = masked(cx, self.step.probe(cx, &params).await)?;
            cx.services.secrets.mask_text(&mut probe.now);
            if let Prospect::WouldFail(error) = &mut probe.prospect {
                cx.services.secrets.mask_error(error);
            }
            Ok(probe)
        })
    }

    fn probe_ignores(&self) -> &'static [&'static str] {
        self.step.probe_ignores()
    }

    fn intend<'a>(&'a self, cx: &'a Context, params: &'a Value) -> BoxFuture<'a, Result<Value, StepError>> {
        Box::pin(async move {
            let params = self.params(cx, params)?;
            json(&masked(cx, self.step.intend(cx, &params).await)?)
        })
    }

    fn run<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
    ) -> BoxFuture<'a, Result<Value, StepError>> {
        Box::pin(async move {
            let params = self.params(cx, params)?;
            let intent = typed("the intent", S::KIND, intent)?;
            let output = self.step.run(cx, &params, &intent).await.and_then(|output| json(&output));
            masked_output(cx, output)
        })
    }

    fn changes<'a>(&'a self, cx: &'a Context, params: &'a Value) -> BoxFuture<'a, Option<Box<dyn Changes>>> {
        Box::pin(async move { self.step.changes(cx, &self.params(cx, params).ok()?).await })
    }

    fn summary(&self, output: &Value) -> String {
        typed("the output", S::KIND, output).map(|output| self.step.summary(&output)).unwrap_or_default()
    }

    fn settle<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
    ) -> BoxFuture<'a, Result<Settled<Value>, StepError>> {
        Box::pin(async move {
            let params = self.params(cx, params)?;
            let intent = typed("the intent", S::KIND, intent)?;
            Ok(match masked(cx, self.step.settle(cx, &params, &intent).await)? {
                Settled::Happened(output) => Settled::Happened(masked_output(cx, json(&output))?),
                Settled::NotHappened => Settled::NotHappened,
                Settled::Unclear(why) => Settled::Unclear(why),
            })
        })
    }

    fn undo<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
        output: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Undone, StepError>> {
        Box::pin(async move {
            let params = self.params(cx, params)?;
            let intent = typed("the intent", S::KIND, intent)?;
            let output = output.map(|output| typed("the output", S::KIND, output)).transpose()?;
            let mut undone = masked(cx, self.step.undo(cx, &params, &intent, output.as_ref()).await)?;
            if let Undone::Left(left) | Undone::CannotTell(left) = &mut undone {
                cx.services.secrets.mask_leftover(left);
            }
            Ok(undone)
        })
    }

    fn by_hand(
        &self,
        services: &Services,
        on: Option<&str>,
        params: &Value,
        intent: &Value,
    ) -> Option<ByHand> {
        let is_local = on.is_none_or(|on| on == "local");
        let params = self.paths().seen_from(&services.run.dir, is_local, params);
        let params = typed("the parameters", S::KIND, &params).ok()?;
        self.step.by_hand(&params, &typed("the intent", S::KIND, intent).ok()?)
    }

    fn release<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let intent = typed("the intent", S::KIND, intent)?;
            masked(cx, self.step.release(cx, &self.params(cx, params)?, &intent).await)
        })
    }

    fn presence<'a>(
        &'a self,
        cx: &'a Context,
        params: &'a Value,
        intent: &'a Value,
        output: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Presence, StepError>> {
        Box::pin(async move {
            let params = self.params(cx, params)?;
            let intent = typed("the intent", S::KIND, intent)?;
            let output = output.map(|output| typed("the output", S::KIND, output)).transpose()?;
            let mut presence = masked(cx, self.step.presence(cx, &params, &intent, output.as_ref()).await)?;
            if let Presence::Present(left) = &mut presence {
                cx.services.secrets.mask_leftover(left);
            }
            Ok(presence)
        })
    }
}
