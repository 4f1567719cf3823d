//! What `systemctl show` says of a unit.

use super::facts::is_up;
use engine::{
    ErrorClass, StepError,
    host::{Exec, Output, shell_word},
    step::Context,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which service manager is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// That of the machine.
    #[default]
    System,
    /// That of the user who runs the step.
    User,
}

impl Scope {
    /// The beginning of an argv.
    pub(super) fn systemctl(self) -> Vec<String> {
        let flag = if self == Self::User { "--user" } else { "--system" };
        ["systemctl", flag, "--no-ask-password"].map(str::to_owned).to_vec()
    }

    /// A command that a person can type.
    pub(super) fn typed(self, rest: &str) -> String {
        match self {
            Self::System => format!("sudo systemctl {rest}"),
            Self::User => format!("systemctl --user {rest}"),
        }
    }

    /// A command that shows the last lines of the unit's journal.
    pub(super) fn journal(self, unit: &str) -> String {
        match self {
            Self::System => format!("journalctl -u {} -n 50", word(unit)),
            Self::User => format!("journalctl --user -u {} -n 50", word(unit)),
        }
    }
}

/// What `out` shows of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unit {
    /// Its full name, such as `ssh.service`.
    pub unit: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting` or `error`.
    pub load_state: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating` or `deactivating`.
    pub active_state: String,
    /// What the kind of unit knows beyond that, such as `running`, `exited` or `auto-restart`.
    pub sub_state: String,
    /// Whether it is enabled: `enabled`, `disabled`, `static`, `masked` and others; empty without a unit file.
    pub unit_file_state: String,
    /// The number of its main process; 0 without one.
    pub main_pid: u32,
    /// How it last ended: `success`, `exit-code`, `signal`, `timeout`, `oom-kill` and others.
    pub result: String,
    /// The exit status, or the signal, of its main process's last end.
    pub exit_status: i32,
    /// How often it was restarted on its own since it was last started.
    pub n_restarts: u64,
    /// Since when it is in its state, RFC 3339 in UTC; missing if it never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// `do`: the other units that changed along with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub along: Vec<Along>,
    /// What else is to be known, such as that it has done its work and ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A unit that changed along with another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Along {
    /// Its full name.
    pub unit: String,
    /// Its active state before.
    pub was: String,
    /// Its active state after.
    pub is: String,
}

/// Refuses what is no name of one unit. systemctl would take `*` for a pattern and `-x` for an option.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    // The mount and the slice that are the root of all others have no name but a dash.
    let option = name.starts_with('-') && !matches!(name, "-.mount" | "-.slice");
    if name.is_empty() || name.len() > 255 || option || !name.chars().all(allowed) {
        return Err(format!(
            "`{}` is no name of a unit: expected letters, digits and `:-_.\\@`, such as `ssh` or `getty@tty1`",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// A unit's name as a word of a command that a person types.
pub(super) fn arg(name: &str) -> String {
    // Only `-.mount` and `-.slice` begin so, and would be read as options.
    let ends_options = if name.starts_with('-') { "-- " } else { "" };
    format!("{ends_options}{}", word(name))
}

/// Only a backslash, of all that a name may hold, means something to a shell.
fn word(name: &str) -> String {
    if name.contains('\\') { shell_word(name) } else { name.to_owned() }
}

/// Runs a systemctl.
pub(super) async fn run(cx: &Context, argv: Vec<String>, repeatable: bool) -> Result<Output, StepError> {
    let exec = Exec { repeatable, ..Exec::new(argv).env("LC_ALL", "C").env("SYSTEMD_COLORS", "0") };
    cx.exec(exec).await.map_err(|error| {
        if error.class == ErrorClass::NotFound && error.message.contains("`systemctl`") {
            no_systemd(cx)
        } else {
            error
        }
    })
}

/// There is no systemd to ask.
pub(crate) fn no_systemd(cx: &Context) -> StepError {
    let at = if cx.host.is_local() { "this machine".to_owned() } else { format!("`{}`", cx.host.name()) };
    StepError::new(ErrorClass::Unsupported, format!("systemd does not run on {at}"))
        .hint("name a host that runs systemd with `on`; see: ps -p 1 -o comm=")
}

/// An error of systemctl, told by what it wrote.
pub(super) fn trouble(cx: &Context, scope: Scope, ended: Output, what: &str) -> StepError {
    let stderr = ended.stderr_text();
    let has = |text: &str| stderr.contains(text);
    if has("has not been booted with systemd") || (has("Failed to connect to bus") && scope == Scope::System)
    {
        return no_systemd(cx).detail(stderr.trim().to_owned());
    }
    if has("Failed to connect to bus") || has("Failed to connect to user scope bus") {
        return StepError::new(ErrorClass::Unsupported, "no service manager of this user runs")
            .hint("loginctl enable-linger; export XDG_RUNTIME_DIR=/run/user/$(id -u)")
            .detail(stderr.trim().to_owned());
    }
    let denied = [
        "Access denied",
        "Interactive authentication required",
        "Permission denied",
        "Authentication is required",
    ];
    if denied.iter().any(|text| has(text)) {
        return StepError::new(ErrorClass::Denied, format!("`{what}` was refused"))
            .hint(format!("run as root, or allow it by polkit; try: sudo {what}"))
            .detail(stderr.trim().to_owned());
    }
    match ended.require_success(what) {
        Err(error) => error,
        Ok(_) => StepError::internal(format!("`{what}` has no trouble")),
    }
}

impl Unit {
    /// Whether it works, as `systemctl is-active` would say.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.active_state.as_str(), "active" | "reloading" | "refreshing")
    }

    /// Whether it is up or on its way there.
    pub(super) fn is_up(&self) -> bool {
        is_up(&self.active_state)
    }

    /// Whether it ends and is started again, over and over; `systemctl` does not call that failed.
    pub(super) fn is_crash_looping(&self) -> bool {
        self.active_state == "activating" && self.sub_state.starts_with("auto-restart")
    }

    /// Its state in a few words, such as `active (running)`.
    pub(super) fn in_words(&self) -> String {
        match self.load_state.as_str() {
            "not-found" => return "not installed".into(),
            "masked" if !self.is_up() => return "masked".into(),
            _ => {}
        }
        let restarts = match self.n_restarts {
            0 => String::new(),
            1 => ", restarted once".into(),
            n => format!(", restarted {n} times"),
        };
        let how = match self.result.as_str() {
            "" | "success" => String::new(),
            "exit-code" => format!(", exit status {}", self.exit_status),
            "signal" | "core-dump" => format!(", signal {}", self.exit_status),
            other => format!(", {other}"),
        };
        format!("{} ({}){how}{restarts}", self.active_state, self.sub_state)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::facts::Facts,
        {Unit, arg, check_name},
    };

    fn parse(text: &str) -> Unit {
        Facts::parse(text)[0].unit()
    }

    #[test]
    fn an_active_unit_is_read() {
        let unit = parse(
            "MainPID=412\nResult=success\nNRestarts=0\nExecMainStatus=0\nId=ssh.service\nLoadState=loaded\n\
             ActiveState=active\nSubState=running\nUnitFileState=enabled\nStateChangeTimestamp=@1737627300\n",
        );
        assert_eq!((unit.unit.as_str(), unit.main_pid), ("ssh.service", 412));
        assert_eq!(unit.in_words(), "active (running)");
        assert_eq!(unit.since.as_deref(), Some("2025-01-23T10:15:00Z"));
        assert!(unit.is_active() && !unit.is_crash_looping());
    }

    #[test]
    fn the_states_that_look_alike_are_told_apart() {
        let looping = parse(
            "MainPID=0\nResult=exit-code\nNRestarts=7\nExecMainStatus=3\nId=crash.service\nLoadState=loaded\n\
             ActiveState=activating\nSubState=auto-restart\nUnitFileState=static\n\
             StateChangeTimestamp=@1795497242\nLoadError=\n",
        );
        assert!(looping.is_crash_looping() && !looping.is_active() && looping.is_up());
        assert_eq!(looping.in_words(), "activating (auto-restart), exit status 3, restarted 7 times");
        let missing = parse(
            "MainPID=0\nResult=success\nNRestarts=0\nExecMainStatus=0\nId=nosuch.service\nLoadState=not-found\n\
             ActiveState=inactive\nSubState=dead\nUnitFileState=\nStateChangeTimestamp=\n\
             LoadError=org.freedesktop.systemd1.NoSuchUnit \"Unit nosuch.service not found.\"\n",
        );
        assert_eq!(missing.in_words(), "not installed");
        let masked = parse(
            "Id=x.service\nLoadState=masked\nActiveState=inactive\nSubState=dead\nUnitFileState=masked\n",
        );
        assert_eq!(masked.in_words(), "masked");
        let failed = parse(
            "Id=x.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\nResult=signal\nExecMainStatus=9\n\
             NRestarts=5\nStateChangeTimestamp=\n",
        );
        assert_eq!(failed.in_words(), "failed (failed), signal 9, restarted 5 times");
        assert_eq!(failed.since, None);
    }

    #[test]
    fn names_that_systemctl_would_misread_are_refused() {
        for bad in ["", "-x", "--all", "*", "a b", "a;b", "a/b", "$(x)", "a\n", "?"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!((arg("-.mount").as_str(), arg("ssh").as_str()), ("-- -.mount", "ssh"));
        for good in [
            "-.mount",
            "-.slice",
            "ssh",
            "ssh.service",
            "getty@tty1.service",
            "dev-sda.device",
            "a\\x2db",
            "my:unit",
        ] {
            assert!(check_name(good).is_ok(), "{good}");
        }
    }
}
