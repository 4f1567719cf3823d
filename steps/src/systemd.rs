//! `systemd`: whether a unit is as it should be, or brings it there.

mod bus;
mod effect;
mod facts;
mod judge;
mod manager;
mod reach;
mod started;
mod story;
mod unit;
mod work;

pub(crate) use unit::no_systemd;
pub use unit::{Scope, Unit};

use bus::Bus;
use effect::Record;
use engine::{
    ErrorClass, Step, StepError,
    step::{Changes, Context, Description, Docs, ParamsView, Presence, Probe, Recovery, Undone},
};
use facts::Facts;
use judge::{installed, judge, not_as_expected};
use manager::Manager;
use reach::{Role, reach};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use story::Story;
use unit::check_name;

/// The step type `systemd`.
#[derive(Clone, Copy, Debug)]
pub struct Systemd;

/// What stands below `systemd`. Exactly one of `is` and `do`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The unit; without an ending it is a service.
    unit: String,
    /// The state that it must be in; the step changes nothing.
    is: Option<State>,
    /// What is done to it.
    r#do: Option<Action>,
    /// `system` (if not given) or `user`: which service manager.
    #[serde(default)]
    scope: Scope,
}

/// A state to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs, or has done its work and stays active.
    Active,
    /// It does not run and did not fail.
    Inactive,
    /// It failed.
    Failed,
    /// It is started at boot or by another unit.
    Enabled,
    /// It has a unit file.
    Installed,
}

/// What can be done to a unit. Each waits until systemd has done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Starts it; nothing happens if it is active.
    Start,
    /// Stops it.
    Stop,
    /// Stops and starts it.
    Restart,
    /// Makes it read its settings again.
    Reload,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Enabled => "enabled",
            Self::Installed => "installed",
        }
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

/// The units that the job may move; nothing for a check.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Intent {
    /// As they were before it, the step's own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<Record>,
    /// As it left them, in the same order; empty if that was not seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<Record>,
    /// Its undo has begun to start units again: those that are up then are up by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    restoring: bool,
    /// The starts that its undo has made, by their invocations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    back: Vec<String>,
    /// The unit alone, as journals of older versions have it.
    #[serde(default, skip_serializing)]
    found: Option<Unit>,
}

impl Intent {
    /// The units before the job; none if nothing was done.
    fn before(&self) -> Vec<Record> {
        let found = self.found.iter().filter(|_| self.before.is_empty()).map(Record::of);
        self.before.iter().cloned().chain(found).collect()
    }
}

impl Step for Systemd {
    const KIND: &'static str = "systemd";
    type Params = Params;
    type Output = Unit;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "whether a unit is active, or starts, stops, restarts or reloads it",
            details: "`is` tells apart what `systemctl is-active` does not: a unit that is not installed, masked, \
                      failed, or that crashes and is restarted over and over, which systemd calls `activating`. \
                      A unit that is active but was restarted on its own passes; its summary and `out.n_restarts` say \
                      so. `enabled` means enabled: a unit that is `static`, `indirect`, `generated` or the like is not \
                      started at boot by itself, and fails.\n\n\
                      `do` waits until systemd has done it. A start must have been one: an unmet `Condition…=` fails, and \
                      so does a service that ends at once. A service that does not say itself when it is ready (of the \
                      type `simple`, `exec` or `idle`) is up once it has stayed so for 300 ms, and its program waits for \
                      something or has used 100 ms of a processor; a `oneshot` may have done its work and ended.\n\n\
                      A job moves other units along: a stop those that need the unit (`Requires=`, `BindsTo=`, \
                      `PartOf=`) and those that nothing needs any more, a start those that it wants, and it stops those \
                      that conflict. The plan names them, `out.along` shows which changed. \
                      The undo brings all of them back to the state found before: what was not active is stopped, unless \
                      something else has come to need it, and what was active is started. What another started, \
                      stopped or broke since is left alone and named. A unit that could not be started again (a \
                      transient one, or one whose file is gone) is not stopped in the first place. \
                      A restart or a reload as such cannot be taken back.",
            example: "daemon:\n  systemd: { unit: media-sync-daemon, is: active }\n  \
                      hint: sudo systemctl restart media-sync-daemon\n",
            errors: &[
                (
                    "expectation",
                    "the unit is in another state: `systemctl status UNIT`, `journalctl -u UNIT -n 50`",
                ),
                ("not-found", "the unit is not installed: `systemctl list-unit-files`"),
                ("exit", "systemd could not do it; the reason follows"),
                ("denied", "this user may not control units: `sudo`"),
                ("unsupported", "systemd does not run here: `ps -p 1 -o comm=`"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let unit = view.show("unit");
        if view.has("do") {
            let undo = match view.show("do").as_str() {
                "stop" => "start it, if it was active",
                "start" => "stop it, if it was not active",
                _ => "bring back whether it was active",
            };
            let title = format!("{} {unit}", view.show("do"));
            return Description { recovery: Recovery::Rerun, ..Description::changes(title, undo) };
        }
        Description::reads(format!("{unit} is {}", view.show("is")))
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        vec![format!("the unit `{}`", view.show("unit"))]
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut problems = view.exactly_one(&["is", "do"]);
        if view.is_known("unit")
            && let Some(Err(message)) = view.get("unit").and_then(|unit| unit.as_str()).map(check_name)
        {
            problems.push(("unit".into(), message));
        }
        problems
    }

    fn diagnostics(&self, view: &ParamsView<'_>) -> Vec<(String, &'static str, serde_json::Value)> {
        if !view.is_known("unit") || (view.has("scope") && !view.is_known("scope")) {
            return Vec::new();
        }
        let unit = view.show("unit");
        let scope = if view.has("scope") { view.show("scope") } else { "system".into() };
        let params = serde_json::json!({ "unit": unit, "scope": scope, "since": "run", "max": 20 });
        vec![(format!("journal_of_{unit}"), "journal", params)]
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let manager = Manager::open(cx, params.scope).await;
        let (unit, reached) = ahead(&manager, params).await?;
        let mut words = unit.in_words();
        if let Err(error) = installed(params, &unit) {
            return Ok(Probe::would_fail(words, error));
        }
        let triggers = match params.r#do {
            Some(Action::Stop) => reach::triggers(&manager, &reached).await?,
            _ => Vec::new(),
        };
        words.push_str(&reach::in_words(&reached, &triggers));
        Ok(match may_be_done(&manager, params, &reached).await {
            Ok(()) => Probe::would_pass(words),
            Err(error) => Probe::would_fail(words, error),
        })
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let Some(_) = params.r#do else { return Ok(Intent::default()) };
        let manager = Manager::open(cx, params.scope).await;
        let (unit, reached) = ahead(&manager, params).await?;
        installed(params, &unit)?;
        may_be_done(&manager, params, &reached).await?;
        Ok(Intent { before: effect::records(&reached), ..Intent::default() })
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Unit, StepError> {
        match (params.is, params.r#do) {
            (Some(state), None) => {
                let unit = find(&Manager::open(cx, params.scope).await, params).await?.unit();
                judge(params, state, &unit)?;
                Ok(unit)
            }
            (None, Some(action)) => act(cx, params, action, intent).await,
            _ => Err(StepError::new(ErrorClass::Invalid, "expected exactly one of `is`, `do`")),
        }
    }

    async fn changes(&self, cx: &Context, params: &Params) -> Option<Box<dyn Changes>> {
        params.is?;
        Bus::open(cx, params.scope).await?.changes(&params.unit).await
    }

    fn summary(&self, output: &Unit) -> String {
        let mut words = output.in_words();
        if let Some(note) = &output.note {
            words.push_str(&format!("; it {note}"));
        }
        let along: Vec<String> =
            output.along.iter().take(8).map(|unit| format!("`{}` {}", unit.unit, unit.is)).collect();
        if !along.is_empty() {
            let more = output.along.len() - along.len();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            words.push_str(&format!("; along with it {}{more}", along.join(", ")));
        }
        words
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        _: Option<&Unit>,
    ) -> Result<Undone, StepError> {
        if intent.before().is_empty() {
            return Ok(Undone::NothingToDo);
        }
        let story = Story::of(cx, params.scope);
        effect::put_back(&Manager::open(cx, params.scope).await, intent, &story).await
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        _: Option<&Unit>,
    ) -> Result<Presence, StepError> {
        if intent.before().is_empty() {
            return Ok(Presence::Gone);
        }
        let story = Story::of(cx, params.scope);
        effect::presence(&Manager::open(cx, params.scope).await, intent, &story).await
    }
}

async fn find(manager: &Manager<'_>, params: &Params) -> Result<Facts, StepError> {
    check_name(&params.unit).map_err(|message| StepError::new(ErrorClass::Invalid, message))?;
    manager.one(&params.unit).await
}

/// The unit as it is, and all that the action may move.
async fn ahead(manager: &Manager<'_>, params: &Params) -> Result<(Unit, Vec<(Role, Facts)>), StepError> {
    let root = find(manager, params).await?;
    let reached = match params.r#do {
        Some(action) => reach(manager, &root, action).await?,
        None => Vec::new(),
    };
    Ok((root.unit(), reached))
}

/// Whether the action could be taken back.
async fn may_be_done(
    manager: &Manager<'_>,
    params: &Params,
    reached: &[(Role, Facts)],
) -> Result<(), StepError> {
    match params.r#do {
        Some(Action::Stop | Action::Restart) if !manager.cx.is_final() => {
            effect::can_be_started_again(manager, reached).await
        }
        _ => Ok(()),
    }
}

async fn act(cx: &Context, params: &Params, action: Action, intent: &Intent) -> Result<Unit, StepError> {
    let manager = Manager::open(cx, params.scope).await;
    let before = find(&manager, params).await?;
    let done = manager.control(action.name(), &params.unit).await;
    let stopped = done.as_ref().is_err_and(|error| error.class == ErrorClass::Cancelled);
    let mut along = Vec::new();
    if !stopped && !cx.is_final() {
        let left = effect::left(&manager, &intent.before).await?;
        along = effect::along(&intent.before, &left);
        cx.amend(&Intent { left, ..intent.clone() }).await?;
    }
    if let Err(error) = done {
        return Err(could_not(&manager, params, action, error).await?);
    }
    let mut unit = match action {
        Action::Start | Action::Restart => started::started(&manager, &before).await?,
        Action::Stop | Action::Reload => find(&manager, params).await?.unit(),
    };
    let wrong = match action {
        Action::Stop => unit.is_up(),
        _ => unit.active_state == "failed" || unit.is_crash_looping(),
    };
    if wrong {
        let expected = if action == Action::Stop { "inactive" } else { "active" };
        return Err(not_as_expected(params, expected, &unit));
    }
    unit.along = along;
    Ok(unit)
}

/// Why systemd could not do it: with the state that the unit is in now.
async fn could_not(
    manager: &Manager<'_>,
    params: &Params,
    action: Action,
    mut error: StepError,
) -> Result<StepError, StepError> {
    if error.class != ErrorClass::Exit {
        return Ok(error);
    }
    let name = &params.unit;
    let now = find(manager, params).await?;
    installed(params, &now.unit())?;
    let reason = std::mem::take(&mut error.message);
    error = error.detail(reason);
    error.message =
        format!("`{name}` could not be brought to {}: it is {}", action.name(), now.unit().in_words());
    if now.text("AssertResult") == "no" {
        let unmet = manager.unmet(&now).await.join("`, `");
        error
            .message
            .push_str(&format!("; `{}` is not met", if unmet.is_empty() { "Assert…=" } else { &unmet }));
    }
    error.hint.get_or_insert_with(|| params.scope.journal(name));
    Ok(error)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, check, describe};
    use engine::{ErrorClass, step::Effect};
    use serde_json::json;

    #[tokio::test]
    async fn a_machine_without_systemd_says_so() {
        if std::path::Path::new("/run/systemd/system").exists() {
            let params = json!({ "unit": "no-such-unit-of-shakedown", "is": "active" });
            let error = Bench::new().run("systemd", params).await.expect_err("missing");
            assert_eq!(error.class, ErrorClass::NotFound, "{error:?}");
            return;
        }
        for params in [json!({ "unit": "ssh", "is": "active" }), json!({ "unit": "ssh", "do": "start" })] {
            let error = Bench::new().run("systemd", params).await.expect_err("no systemd");
            assert_eq!(error.class, ErrorClass::Unsupported, "{error:?}");
            assert!(error.hint.is_some());
        }
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_refused() {
        assert_eq!(check("systemd", &json!({ "unit": "-x", "is": "active" })).len(), 1);
        assert_eq!(check("systemd", &json!({ "unit": "a" })).len(), 1);
        let error =
            Bench::new().run("systemd", json!({ "unit": "*", "is": "active" })).await.expect_err("refused");
        assert_eq!(error.class, ErrorClass::Invalid);
    }

    #[test]
    fn only_do_is_an_effect() {
        assert_eq!(describe("systemd", &json!({ "unit": "ssh", "is": "active" })).title, "ssh is active");
        let stop = describe("systemd", &json!({ "unit": "ssh", "do": "stop" }));
        assert_eq!(stop.effect, Effect::Undoable("start it, if it was active".into()));
    }
}
