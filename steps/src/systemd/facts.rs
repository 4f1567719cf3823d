//! What a service manager says of a unit: its properties as `systemctl show` writes them, whichever way they came.

use super::unit::Unit;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The properties that are asked for, of all units.
pub(super) const OF_UNITS: [&str; 42] = [
    "ActiveEnterTimestampMonotonic",
    "ActiveState",
    "ActivationDetails",
    "AssertResult",
    "Asserts",
    "BindsTo",
    "BoundBy",
    "CanStart",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "Conditions",
    "ConflictedBy",
    "Conflicts",
    "ConsistsOf",
    "FragmentPath",
    "Id",
    "InactiveExitTimestampMonotonic",
    "InvocationID",
    "Job",
    "LoadError",
    "LoadState",
    "NeedDaemonReload",
    "OnFailure",
    "OnSuccess",
    "PropagatesReloadTo",
    "PropagatesStopTo",
    "RequiredBy",
    "Requires",
    "RequisiteOf",
    "StateChangeTimestamp",
    "StopWhenUnneeded",
    "SubState",
    "Transient",
    "TriggeredBy",
    "Triggers",
    "UnitFileState",
    "UpheldBy",
    "Upholds",
    "WantedBy",
    "Wants",
    "Perpetual",
    "Names",
];

/// Those that services have beside.
pub(super) const OF_SERVICES: [&str; 10] = [
    "ControlGroup",
    "ExecMainCode",
    "ExecMainStartTimestampMonotonic",
    "ExecMainStatus",
    "MainPID",
    "NRestarts",
    "RemainAfterExit",
    "Restart",
    "Result",
    "Type",
];

/// The properties of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts(BTreeMap<String, String>);

impl FromIterator<(String, String)> for Facts {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Facts {
    /// Reads the lines `Name=value` of several units, parted by empty lines.
    pub(super) fn parse(text: &str) -> Vec<Self> {
        let units = text.split("\n\n").map(|unit| {
            let pairs = unit.lines().filter_map(|line| line.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect::<Self>()
        });
        units.filter(|facts| !facts.0.is_empty()).collect()
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(super) fn is(&self, key: &str) -> bool {
        self.text(key) == "yes"
    }

    pub(super) fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    /// The units that a property names.
    pub(super) fn units(&self, keys: &[&str]) -> Vec<String> {
        keys.iter().flat_map(|key| self.text(key).split_ascii_whitespace()).map(str::to_owned).collect()
    }

    /// The unit's own name, whichever of its names was asked for.
    pub(super) fn id(&self) -> &str {
        self.text("Id")
    }

    /// Whether it is up or on its way there.
    pub(super) fn is_up(&self) -> bool {
        is_up(self.text("ActiveState"))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.text("ActiveState") == "failed"
    }

    /// Whether the manager is still at work on it.
    pub(super) fn is_moving(&self) -> bool {
        self.number("Job") != 0 || self.text("ActiveState") == "deactivating"
    }

    /// Whether processes of it run on though it is down, as `KillMode=process` leaves them: only then has it a control group.
    pub(super) fn has_remains(&self) -> bool {
        let is_down = matches!(self.text("ActiveState"), "inactive" | "failed");
        is_down && !self.text("ControlGroup").is_empty()
    }

    /// Whether it is there to make others start.
    pub(super) fn is_trigger(&self) -> bool {
        [".socket", ".timer", ".path", ".automount"].iter().any(|ending| self.id().ends_with(ending))
    }

    /// As `out` shows it.
    pub(super) fn unit(&self) -> Unit {
        let text = |key: &str| self.text(key).to_owned();
        let seconds = self.text("StateChangeTimestamp").strip_prefix('@').and_then(|s| s.parse().ok());
        Unit {
            unit: text("Id"),
            load_state: text("LoadState"),
            active_state: text("ActiveState"),
            sub_state: text("SubState"),
            unit_file_state: text("UnitFileState"),
            main_pid: self.text("MainPID").parse().unwrap_or(0),
            result: text("Result"),
            exit_status: self.text("ExecMainStatus").parse().unwrap_or(0),
            n_restarts: self.number("NRestarts"),
            since: seconds.and_then(|s| Timestamp::from_second(s).ok()).map(|time| time.to_string()),
            along: Vec::new(),
            note: None,
        }
    }
}

/// Whether a unit in this state is up or on its way there.
pub(super) fn is_up(active_state: &str) -> bool {
    matches!(active_state, "active" | "reloading" | "refreshing" | "activating")
}

#[cfg(test)]
mod tests {
    use super::Facts;

    #[test]
    fn units_are_parted_by_empty_lines() {
        let found = Facts::parse("Id=a.service\nWants=b.service c.socket\n\nId=d.socket\nTransient=yes\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].units(&["Requires", "Wants"]), ["b.service", "c.socket"]);
        assert!(found[1].is("Transient") && found[1].is_trigger() && !found[0].is_trigger());
        assert!(Facts::parse("\n").is_empty());
    }
}
