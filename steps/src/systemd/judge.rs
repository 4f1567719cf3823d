//! Whether a unit is in the state that is asked for, and what is told where it is not.

use super::{Params, State, Unit, unit::arg};
use engine::{ErrorClass, StepError};

/// Whether there is a unit that could be in any state.
pub(super) fn installed(params: &Params, unit: &Unit) -> Result<(), StepError> {
    let name = &params.unit;
    match unit.load_state.as_str() {
        "not-found" => Err(StepError::new(ErrorClass::NotFound, format!("unit `{name}` is not installed"))
            .hint(format!("systemctl list-unit-files | grep -i {}", name.trim_end_matches(".service")))),
        "masked" => Err(StepError::expectation(format!("unit `{name}` is masked: it cannot be started"))
            .hint(params.scope.typed(&format!("unmask {}", arg(name))))),
        "bad-setting" | "error" => {
            Err(StepError::expectation(format!("the unit file of `{name}` is wrong ({})", unit.load_state))
                .hint(format!("systemd-analyze verify {}", unit.unit)))
        }
        _ => Ok(()),
    }
}

pub(super) fn judge(params: &Params, state: State, unit: &Unit) -> Result<(), StepError> {
    let holds = match state {
        State::Active => unit.is_active(),
        State::Inactive => unit.active_state == "inactive",
        State::Failed => unit.active_state == "failed",
        State::Enabled => matches!(unit.unit_file_state.as_str(), "enabled" | "enabled-runtime"),
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

pub(super) fn not_as_expected(params: &Params, expected: &str, unit: &Unit) -> StepError {
    let (name, scope) = (&params.unit, params.scope);
    let now = unit.in_words();
    let error = |message: String, hint: String| StepError::expectation(message).hint(hint);
    if expected == "enabled" {
        return not_enabled(params, unit);
    }
    let message = format!("unit `{name}` is {now}, expected {expected}");
    if unit.is_crash_looping() {
        let message =
            format!("unit `{name}` crashes and is restarted over and over: it is {now}, expected {expected}");
        return error(message, scope.journal(name));
    }
    match (expected, unit.active_state.as_str()) {
        ("active", "failed") => error(
            message,
            format!("{}; {}", scope.journal(name), scope.typed(&format!("restart {}", arg(name)))),
        ),
        ("active", "inactive") => error(message, scope.typed(&format!("start {}", arg(name)))),
        ("inactive", "active" | "reloading") => error(message, scope.typed(&format!("stop {}", arg(name)))),
        ("inactive", "failed") => error(message, scope.typed(&format!("reset-failed {}", arg(name)))),
        _ => error(message, scope.typed(&format!("status {}", arg(name)))),
    }
}

/// Why a unit does not count as enabled, though `systemctl is-enabled` may call that a success.
fn not_enabled(params: &Params, unit: &Unit) -> StepError {
    let (name, scope) = (&params.unit, params.scope);
    let state = unit.unit_file_state.as_str();
    let why = match state {
        "" => "has no unit file, expected enabled",
        "static" => {
            "is static, expected enabled: its file has no [Install] section, and only other units start it"
        }
        "indirect" => "is indirect, expected enabled: its [Install] section enables other units, not itself",
        "alias" => "is alias, expected enabled: it is a link to another unit, which may be enabled",
        "generated" => {
            "is generated, expected enabled: it is made at boot from another file, such as /etc/fstab"
        }
        "transient" => {
            "is transient, expected enabled: it has no file, and is gone after a restart of the machine"
        }
        "linked" | "linked-runtime" => {
            "is linked, expected enabled: its file is known, and nothing starts it"
        }
        _ => "",
    };
    let message = match why {
        "" => format!("unit `{name}` is {state}, expected enabled"),
        why => format!("unit `{name}` {why}"),
    };
    let hint = match state {
        "static" | "indirect" | "alias" | "generated" | "transient" => format!("cat {}", arg(name)),
        _ => format!("enable {}", arg(name)),
    };
    StepError::expectation(message).hint(scope.typed(&hint))
}

#[cfg(test)]
mod tests {
    use super::super::Scope;
    use super::{Params, State, Unit, judge};
    use engine::ErrorClass;

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
            (
                State::Enabled,
                unit("loaded", "active", "running", "static"),
                ErrorClass::Expectation,
                "is static, expected enabled: its file has no [Install] section",
                "systemctl cat",
            ),
            (
                State::Enabled,
                unit("loaded", "active", "running", "indirect"),
                ErrorClass::Expectation,
                "is indirect, expected enabled",
                "systemctl cat",
            ),
        ] {
            let (found, message, typed) = verdict(is, &unit).expect("fails");
            assert_eq!(found, class, "{message}");
            assert!(message.contains(word) && typed.contains(hint), "{message} / {typed}");
        }
    }
}
