//! The lab: an edge box and a NAS on one Linux machine, with real systemd, journald, D-Bus, sshd and SQLite.
//!
//! Each [`Lab`] is private to the test that starts it: two `systemd-nspawn` boxes over one cached root (see
//! `tests/lab/README.md`), joined by a router, in namespaces of its own. It takes about a second to start, and any
//! number run side by side. Dropping it, a panic, or the death of the test process removes all of it.
//!
//! ```no_run
//! use tests::lab::lab_or_skip;
//!
//! let lab = lab_or_skip!();
//! lab.edge().install_binary(tests::lab::binaries::shakedown(), "/usr/local/bin/shakedown");
//! let before = lab.manifest();
//! lab.edge().command(["shakedown", "run", "media-sync"]).status().expect("starts");
//! before.assert_same(&lab.manifest());
//! ```

pub mod binaries;
mod keeper;
mod manifest;
mod node;
mod proc;
mod stage;
mod wait;

pub use manifest::{Manifest, Scope};
pub use node::{Node, Output, Running};
pub use wait::{lasts, until};

use std::io::Write;
use std::time::Duration;

use keeper::Keeper;

/// The unit of the daemon under test, on the edge box.
pub const DAEMON: &str = "media-sync-daemon.service";
/// The daemon's database, on the edge box.
pub const DATABASE: &str = "/data/media_status.db";
/// The daemon's settings, on the edge box.
pub const CONFIG: &str = "/etc/media-sync/unified_config.json";
/// Where media wait, on the edge box.
pub const MEDIA: &str = "/data/temp/dji/media";
/// Where media arrive, on the NAS.
pub const REMOTE: &str = "/volume1/drone/drone_media";
/// What the daemon is told to get wrong, on the edge box.
pub const FAULTS: &str = "/etc/media-sync/faults.json";
/// Written by the daemon once it serves.
const READY: &str = "/run/media-sync-daemon.ready";

/// Generous: a loaded CI machine with two cores boots many labs at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Why there is no lab.
#[derive(Debug)]
pub enum LabError {
    /// This machine cannot have one, or is not prepared: the test is to be skipped.
    Unavailable(String),
    /// It should have come up and did not: the test has failed.
    Broken(String),
}

/// Both boxes, up and running, with the daemon serving on the edge box.
#[derive(Debug)]
pub struct Lab {
    edge: Node,
    nas: Node,
    keeper: Keeper,
}

/// What systemd says of the daemon's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonState {
    /// `active`, `activating`, `inactive`, `failed`, ...
    pub active: String,
    /// `running`, `auto-restart`, `dead`, ...
    pub sub: String,
    /// As the box counts, not as this machine does; 0 when it has no process.
    pub pid: u32,
    /// Restarts by systemd itself since the unit was last started by hand.
    pub restarts: u32,
}

impl Lab {
    /// Boots both boxes and waits until the daemon serves.
    pub fn start() -> Result<Self, LabError> {
        let keeper = Keeper::start()?;
        let up = |name| Node::up(name, &keeper, None).map_err(LabError::Broken);
        let lab = Self { edge: up("edge")?, nas: up("nas")?, keeper };
        lab.daemon_serves().map_err(LabError::Broken)?;
        Ok(lab)
    }

    fn daemon_serves(&self) -> Result<(), String> {
        if wait::holds(LIMIT, || self.edge.exists(READY)) {
            return Ok(());
        }
        Err(format!("the daemon did not start:\n{}", self.daemon_journal()))
    }

    /// Reboots the edge box in order, and waits until the daemon serves again. Its disk stays; `/run`, `/tmp` and
    /// the journal are new, and so is its boot id.
    pub fn reboot_edge(&mut self) {
        self.edge.sh("systemctl reboot").ok();
        self.edge_again();
    }

    /// Cuts the power of the edge box: all its processes are gone at once. It comes up as after a reboot.
    pub fn power_cut_edge(&mut self) {
        self.edge.kill();
        self.edge_again();
    }

    fn edge_again(&mut self) {
        self.edge.ended().unwrap_or_else(|problem| panic!("{problem}"));
        let again = Node::up("edge", &self.keeper, Some(self.edge.leader()));
        self.edge = again.unwrap_or_else(|problem| panic!("{problem}"));
        self.daemon_serves().unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// For [`lab_or_skip!`]: None after it has said why, in a line that a CI script can count.
    ///
    /// # Panics
    /// If the lab is broken, or `SHAKEDOWN_LAB=required` and there is none.
    #[must_use]
    #[track_caller]
    pub fn start_or_skip() -> Option<Self> {
        match Self::start() {
            Ok(lab) => Some(lab),
            Err(LabError::Broken(problem)) => panic!("the lab is broken: {problem}"),
            Err(LabError::Unavailable(reason)) => {
                let required = std::env::var("SHAKEDOWN_LAB").is_ok_and(|value| value == "required");
                assert!(!required, "SHAKEDOWN_LAB=required, but there is no lab: {reason}");
                // Not eprintln: the test runner would keep it to itself, for the test passes.
                let _ = writeln!(std::io::stderr(), "SKIPPED lab test: {reason}");
                None
            }
        }
    }

    /// The edge box: the daemon, its database and its media, and where `shakedown` runs.
    #[must_use]
    pub fn edge(&self) -> &Node {
        &self.edge
    }

    /// The NAS: sshd and the user `drone`, who owns the media folder.
    #[must_use]
    pub fn nas(&self) -> &Node {
        &self.nas
    }

    /// Cuts the network between the boxes: packets vanish in silence, sessions hang.
    pub fn link_down(&self) {
        self.keeper.forward(false);
    }

    /// Mends it: what was retransmitted meanwhile arrives, sessions go on.
    pub fn link_up(&self) {
        self.keeper.forward(true);
    }

    /// Tells the daemon what to get wrong, from its next sync on (or its next start, for `crash_at_start`); `{}`
    /// ends it. The keys are those of the stand-in's `faults.rs`.
    pub fn set_faults(&self, json: &str) {
        // Beside it and renamed: the daemon must not read half of it.
        self.edge.write(&format!("{FAULTS}.new"), json);
        self.edge.sh(&format!("mv {FAULTS}.new {FAULTS}")).ok();
    }

    /// Restarts the unit; returns when systemd has started the process.
    pub fn restart_daemon(&self) {
        self.edge.sh(&format!("systemctl restart {DAEMON}")).ok();
    }

    /// Stops the unit; returns when it is inactive.
    pub fn stop_daemon(&self) {
        self.edge.sh(&format!("systemctl stop {DAEMON}")).ok();
    }

    #[must_use]
    pub fn daemon_state(&self) -> DaemonState {
        let shown =
            self.edge.sh(&format!("systemctl show -p ActiveState,SubState,MainPID,NRestarts {DAEMON}")).ok();
        let value = |key: &str| {
            let line = shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        DaemonState {
            active: value("ActiveState"),
            sub: value("SubState"),
            pid: value("MainPID").parse().unwrap_or(0),
            restarts: value("NRestarts").parse().unwrap_or(0),
        }
    }

    /// The daemon's lines in the journal of the edge box.
    #[must_use]
    pub fn daemon_journal(&self) -> String {
        self.edge.sh(&format!("journalctl --no-pager -u {DAEMON}")).stdout
    }

    /// Runs SQL on the daemon's database; columns are parted by `|`, rows by newlines.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        let argv = ["sqlite3", "-cmd", ".timeout 10000", DATABASE, sql];
        self.edge.run(argv).ok()
    }

    /// What there is, to be compared with a later look: files, units, processes, sockets, rows.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        self.manifest_of(&Scope::default())
    }

    #[must_use]
    pub fn manifest_of(&self, scope: &Scope) -> Manifest {
        Manifest::take(self, scope)
    }

    /// Removes the lab as its drop does, but says whether all of it went.
    ///
    /// # Errors
    /// What is left, or why the removal could not be proven.
    pub fn stop(mut self) -> Result<(), String> {
        self.keeper.stop()
    }
}

/// A running [`Lab`], or an early return from the test after saying why there is none.
#[macro_export]
macro_rules! lab_or_skip {
    () => {
        match $crate::lab::Lab::start_or_skip() {
            Some(lab) => lab,
            None => return,
        }
    };
}
pub use crate::lab_or_skip;
