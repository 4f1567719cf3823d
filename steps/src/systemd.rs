//! `systemd`: whether a unit is as it should be, or brings it there.

mod bus;
mod unit;

pub(crate) use unit::no_systemd;
pub use unit::{Scope, Unit};

use bus::{Bus, Trouble};
use engine::{
    ErrorClass, Step, StepError,
    step::{Changes, Context, Description, Docs, Leftover, ParamsView, Presence, Probe, Recovery, Undone},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unit::{check_name, show, trouble};

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

/// The state found before anything was done; nothing for a check.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Intent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<Unit>,
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
                      so.\n\n\
                      `do` waits until systemd has done it. Its undo brings back the state found before: what was not \
                      active is stopped, what was active is started. A restart or a reload as such cannot be taken back.",
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
        let unit = find(cx, params).await?;
        Ok(match installed(params, &unit) {
            Ok(()) => Probe::would_pass(unit.in_words()),
            Err(error) => Probe::would_fail(unit.in_words(), error),
        })
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let Some(_) = params.r#do else { return Ok(Intent::default()) };
        let unit = find(cx, params).await?;
        installed(params, &unit)?;
        Ok(Intent { found: Some(unit) })
    }

    async fn run(&self, cx: &Context, params: &Params, _: &Intent) -> Result<Unit, StepError> {
        match (params.is, params.r#do) {
            (Some(state), None) => {
                let unit = find(cx, params).await?;
                judge(params, state, &unit)?;
                Ok(unit)
            }
            (None, Some(action)) => act(cx, params, action).await,
            _ => Err(StepError::new(ErrorClass::Invalid, "expected exactly one of `is`, `do`")),
        }
    }

    async fn changes(&self, cx: &Context, params: &Params) -> Option<Box<dyn Changes>> {
        params.is?;
        Bus::open(cx, params.scope).await?.changes(&params.unit).await
    }

    fn summary(&self, output: &Unit) -> String {
        output.in_words()
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        _: Option<&Unit>,
    ) -> Result<Undone, StepError> {
        let Some(found) = &intent.found else { return Ok(Undone::NothingToDo) };
        let now = find(cx, params).await?;
        let verb = match (found.is_up(), now.is_up(), now.active_state == "failed") {
            (true, false, _) => "start",
            (false, true, _) => "stop",
            // A failure of this run's making would be found by the next.
            (false, false, true) if found.active_state != "failed" => "reset-failed",
            _ => return Ok(Undone::NothingToDo),
        };
        control(cx, params, verb).await?;
        Ok(Undone::Removed)
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        _: Option<&Unit>,
    ) -> Result<Presence, StepError> {
        let Some(found) = &intent.found else { return Ok(Presence::Gone) };
        let now = find(cx, params).await?;
        if found.is_up() == now.is_up() {
            return Ok(Presence::Gone);
        }
        let verb = if found.is_up() { "start" } else { "stop" };
        Ok(Presence::Present(Leftover {
            what: format!("unit `{}` is {}", params.unit, now.in_words()),
            why: format!("it was {} before the run", found.in_words()),
            remove_with: params.scope.typed(&format!("{verb} {}", params.unit)),
        }))
    }
}

async fn find(cx: &Context, params: &Params) -> Result<Unit, StepError> {
    check_name(&params.unit).map_err(|message| StepError::new(ErrorClass::Invalid, message))?;
    show(cx, params.scope, &params.unit).await
}

async fn control(cx: &Context, params: &Params, verb: &str) -> Result<(), StepError> {
    if let Some(bus) = Bus::open(cx, params.scope).await {
        return bus.control(verb, &params.unit, &cx.cancel).await.map_err(|trouble| match trouble {
            Trouble::Error(mut error) => {
                if error.class == ErrorClass::Denied {
                    error.hint = Some(format!(
                        "run as root, or allow it by polkit; try: {}",
                        params.scope.typed(&format!("{verb} {}", params.unit))
                    ));
                }
                error
            }
            Trouble::Job(result) => {
                let message =
                    format!("systemd could not {verb} `{}`: the job ended as `{result}`", params.unit);
                StepError::new(ErrorClass::Exit, message)
            }
        });
    }
    let mut argv = params.scope.systemctl();
    argv.extend([verb.to_owned(), "--".to_owned(), params.unit.clone()]);
    let ended = unit::run(cx, argv, false).await?;
    if ended.success() {
        return Ok(());
    }
    Err(trouble(cx, params.scope, ended, &format!("systemctl {verb} {}", params.unit)))
}

async fn act(cx: &Context, params: &Params, action: Action) -> Result<Unit, StepError> {
    let name = &params.unit;
    if let Err(mut error) = control(cx, params, action.name()).await {
        if error.class == ErrorClass::Exit {
            let now = find(cx, params).await?;
            installed(params, &now)?;
            let reason = std::mem::take(&mut error.message);
            error = error.detail(reason);
            error.message =
                format!("`{name}` could not be brought to {}: it is {}", action.name(), now.in_words());
            error.hint.get_or_insert_with(|| params.scope.journal(name));
        }
        return Err(error);
    }
    let now = find(cx, params).await?;
    // A simple service counts as started before its program could fail.
    if action != Action::Stop && (now.active_state == "failed" || now.is_crash_looping()) {
        return Err(not_as_expected(params, "active", &now));
    }
    Ok(now)
}

/// Whether there is a unit that could be in any state.
fn installed(params: &Params, unit: &Unit) -> Result<(), StepError> {
    let name = &params.unit;
    match unit.load_state.as_str() {
        "not-found" => Err(StepError::new(ErrorClass::NotFound, format!("unit `{name}` is not installed"))
            .hint(format!("systemctl list-unit-files | grep -i {}", name.trim_end_matches(".service")))),
        "masked" => Err(StepError::expectation(format!("unit `{name}` is masked: it cannot be started"))
            .hint(params.scope.typed(&format!("unmask {name}")))),
        "bad-setting" | "error" => {
            Err(StepError::expectation(format!("the unit file of `{name}` is wrong ({})", unit.load_state))
                .hint(format!("systemd-analyze verify {}", unit.unit)))
        }
        _ => Ok(()),
    }
}

fn judge(params: &Params, state: State, unit: &Unit) -> Result<(), StepError> {
    let enabled = ["enabled", "enabled-runtime", "alias", "static", "indirect", "generated", "transient"];
    let holds = match state {
        State::Active => unit.is_active(),
        State::Inactive => unit.active_state == "inactive",
        State::Failed => unit.active_state == "failed",
        State::Enabled => enabled.contains(&unit.unit_file_state.as_str()),
        State::Installed => true,
    };
    // A masked unit is at rest, and that may be all that is asked.
    let at_rest = state == State::Inactive && unit.load_state == "masked" && holds;
    let works = state == State::Active && holds;
    if !at_rest && !works {
        installed(params, unit)?;
    }
    if holds { Ok(()) } else { Err(not_as_expected(params, state.name(), unit)) }
}

fn not_as_expected(params: &Params, expected: &str, unit: &Unit) -> StepError {
    let (name, scope) = (&params.unit, params.scope);
    let now = unit.in_words();
    let error = |message: String, hint: String| StepError::expectation(message).hint(hint);
    if expected == "enabled" {
        let state =
            if unit.unit_file_state.is_empty() { "without a unit file" } else { &unit.unit_file_state };
        let message = format!("unit `{name}` is {state}, expected enabled");
        return error(message, scope.typed(&format!("enable {name}")));
    }
    let message = format!("unit `{name}` is {now}, expected {expected}");
    if unit.is_crash_looping() {
        let message =
            format!("unit `{name}` crashes and is restarted over and over: it is {now}, expected {expected}");
        return error(message, scope.journal(name));
    }
    match (expected, unit.active_state.as_str()) {
        ("active", "failed") => {
            error(message, format!("{}; {}", scope.journal(name), scope.typed(&format!("restart {name}"))))
        }
        ("active", "inactive") => error(message, scope.typed(&format!("start {name}"))),
        ("inactive", "active" | "reloading") => error(message, scope.typed(&format!("stop {name}"))),
        ("inactive", "failed") => error(message, scope.typed(&format!("reset-failed {name}"))),
        _ => error(message, scope.typed(&format!("status {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Params, Scope, State, Unit, judge};
    use crate::testing::{Bench, check, describe};
    use engine::{ErrorClass, step::Effect};
    use serde_json::json;

    fn params(is: State) -> Params {
        Params { unit: "media-sync-daemon".into(), is: Some(is), r#do: None, scope: Scope::System }
    }

    fn unit(load: &str, active: &str, sub: &str, file: &str) -> Unit {
        Unit {
            unit: "media-sync-daemon.service".into(),
            load_state: load.into(),
            active_state: active.into(),
            sub_state: sub.into(),
            unit_file_state: file.into(),
            ..Unit::default()
        }
    }

    fn verdict(is: State, unit: &Unit) -> Option<(ErrorClass, String, String)> {
        let error = judge(&params(is), is, unit).err()?;
        Some((error.class, error.message, error.hint.expect("a hint")))
    }

    #[test]
    fn every_state_passes_its_own_check() {
        let active = unit("loaded", "active", "running", "enabled");
        let inactive = unit("loaded", "inactive", "dead", "disabled");
        let failed = unit("loaded", "failed", "failed", "enabled");
        for (is, unit) in [
            (State::Active, &active),
            (State::Enabled, &active),
            (State::Installed, &active),
            (State::Inactive, &inactive),
            (State::Installed, &inactive),
            (State::Failed, &failed),
            (State::Inactive, &unit("masked", "inactive", "dead", "masked")),
        ] {
            assert_eq!(verdict(is, unit), None, "{is:?}");
        }
    }

    #[test]
    fn every_trouble_has_its_own_words_and_its_own_hint() {
        let mut looping = unit("loaded", "activating", "auto-restart", "enabled");
        (looping.result, looping.exit_status, looping.n_restarts) = ("exit-code".into(), 1, 4);
        for (is, unit, class, word, hint) in [
            (
                State::Active,
                unit("not-found", "inactive", "dead", ""),
                ErrorClass::NotFound,
                "not installed",
                "list-unit-files",
            ),
            (
                State::Inactive,
                unit("not-found", "inactive", "dead", ""),
                ErrorClass::NotFound,
                "not installed",
                "list-unit-files",
            ),
            (
                State::Active,
                unit("masked", "inactive", "dead", "masked"),
                ErrorClass::Expectation,
                "masked",
                "unmask",
            ),
            (
                State::Active,
                unit("loaded", "failed", "failed", "enabled"),
                ErrorClass::Expectation,
                "failed",
                "journalctl -u",
            ),
            (State::Active, looping, ErrorClass::Expectation, "over and over", "journalctl -u"),
            (
                State::Active,
                unit("loaded", "activating", "start", "enabled"),
                ErrorClass::Expectation,
                "activating (start)",
                "status",
            ),
            (
                State::Active,
                unit("loaded", "inactive", "dead", "enabled"),
                ErrorClass::Expectation,
                "inactive",
                "systemctl start",
            ),
            (
                State::Inactive,
                unit("loaded", "active", "running", "enabled"),
                ErrorClass::Expectation,
                "active",
                "systemctl stop",
            ),
            (
                State::Enabled,
                unit("loaded", "active", "running", "disabled"),
                ErrorClass::Expectation,
                "disabled",
                "systemctl enable",
            ),
        ] {
            let (found, message, typed) = verdict(is, &unit).expect("fails");
            assert_eq!(found, class, "{message}");
            assert!(message.contains(word) && typed.contains(hint), "{message} / {typed}");
        }
    }

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
