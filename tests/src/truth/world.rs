//! Where rows happen: a folder of this machine, or a lab. What is seen there is seen without Shakedown.

use super::{
    Place, Server,
    here::{Captured, Here},
    sight,
};
use crate::{
    lab::{Lab, Manifest, Node, Running, Scope, binaries},
    stage::{LARGE, STATE},
};
use std::{fmt, os::unix::process::ExitStatusExt as _, path::Path, time::Duration};

/// The folder of a case on each box of the lab.
const CASE: &str = "/root/case";
/// Where the lab is looked at closely, with extended attributes and also behind mounts.
const CLOSELY: [(&str, &[&str]); 2] =
    [("edge", &[CASE, "/data"]), ("nas", &[CASE, "/volume1", "/home/drone"])];
/// Keeps the run waiting until another has done something.
const WAIT: &str = "monitor: { waits: { wait: { until: { file: { stat: '@DIR@/go' } }, \
    succeed_when: out.exists, every: 20ms } } }";

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// SIGKILL ended it.
    pub killed: bool,
    /// All that it said.
    pub text: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "exit code {code}:\n{}", self.text),
            None => write!(f, "ended by a signal:\n{}", self.text),
        }
    }
}

impl From<crate::lab::Output> for Said {
    fn from(output: crate::lab::Output) -> Self {
        let killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
        Self { code: output.status.code(), killed, text: format!("{}{}", output.stdout, output.stderr) }
    }
}

/// A program that runs while the test goes on.
#[derive(Debug)]
pub enum Started {
    /// On this machine.
    Here(Captured),
    /// In the lab.
    Lab(Running),
}

impl Started {
    /// Kills it, and does not wait for its end.
    pub fn kill(&mut self) {
        match self {
            Self::Here(captured) => captured.kill(),
            Self::Lab(running) => running.signal(nix::sys::signal::Signal::SIGKILL),
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It cannot be waited for.
    #[must_use]
    pub fn wait(self) -> Said {
        match self {
            Self::Here(captured) => captured.wait(),
            Self::Lab(running) => running.wait().into(),
        }
    }
}

/// Where a row happens.
#[derive(Debug)]
pub enum World {
    /// On this machine.
    Here(Box<Here>),
    /// In the lab.
    Lab(Box<Lab>),
}

impl World {
    /// An empty one; none where there is no lab.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(place: Place, server: Server) -> Option<Self> {
        match place {
            Place::Here => Some(Self::Here(Box::new(Here::new(server)))),
            Place::Lab => {
                assert_eq!(server, Server::None, "the lab has no servers");
                let lab = Lab::start_or_skip()?;
                lab.edge().install_binary(binaries::shakedown_with_faults(), "/usr/local/bin/shakedown");
                lab.edge().sh(&format!("mkdir -p -m 700 {STATE}")).ok();
                for node in [lab.edge(), lab.nas()] {
                    node.sh(&format!("mkdir -p {CASE}")).ok();
                }
                Some(Self::Lab(Box::new(lab)))
            }
        }
    }

    /// How long what is about to end may take for it.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self {
            Self::Here(_) => Duration::from_secs(2),
            Self::Lab(_) => Duration::from_secs(20),
        }
    }

    /// The text with the names that only the world knows.
    #[must_use]
    pub fn filled(&self, text: &str) -> String {
        match self {
            Self::Here(here) => here.filled(text),
            Self::Lab(_) => text.replace("@DIR@", CASE),
        }
    }

    /// Writes the playbook `it.yaml`; `waits` adds a step that waits for the file `go`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, phases: &str, waits: bool) {
        let wait = if waits { WAIT } else { "" };
        let text = self.filled(&format!("name: it\n{phases}\n{wait}\n"));
        match self {
            Self::Here(here) => here.write("it.yaml", &text),
            Self::Lab(lab) => lab.edge().write(&format!("{CASE}/it.yaml"), text),
        }
    }

    /// Runs lines of a shell; those that begin with `nas: ` on the NAS.
    ///
    /// # Panics
    /// They do not start.
    #[must_use]
    pub fn sh(&self, lines: &str) -> Said {
        let mut said = Said { code: Some(0), killed: false, text: String::new() };
        for (far, part) in parts(lines) {
            let script = self.filled(&format!("set -e\ncd {}\n{part}", self.folder()));
            said = match self {
                Self::Here(here) => here.sh(&script),
                Self::Lab(lab) if far => lab.nas().sh(&script).into(),
                Self::Lab(lab) => lab.edge().sh(&script).into(),
            };
            if said.code != Some(0) {
                break;
            }
        }
        said
    }

    fn folder(&self) -> &'static str {
        match self {
            Self::Here(_) => ".",
            Self::Lab(_) => CASE,
        }
    }

    /// The same; they succeed.
    ///
    /// # Panics
    /// They fail.
    #[track_caller]
    pub fn sh_ok(&self, lines: &str) {
        let said = self.sh(lines);
        assert_eq!(said.code, Some(0), "{lines}: {said}");
    }

    /// Types a command as a report gives it, in another folder than that of the run.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn type_in(&self, line: &str) -> Said {
        match self {
            Self::Here(here) => here.sh(&format!("cd /\n{line}")),
            Self::Lab(lab) => lab.edge().sh(line).into(),
        }
    }

    /// Starts `shakedown` with these faults in a folder, seen from that of the case.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(&self, folder: &str, faults: &str, argv: &[String]) -> Started {
        match self {
            Self::Here(here) => Started::Here(here.start(folder, faults, argv)),
            Self::Lab(lab) => {
                let script =
                    r#"cd "$1" && SHAKEDOWN_FAULTS=$2 && export SHAKEDOWN_FAULTS && shift 2 && exec "$@""#;
                let folder = format!("{CASE}/{folder}");
                let head = ["/bin/sh", "-c", script, "case", &folder, faults, "shakedown"].map(str::to_owned);
                Started::Lab(lab.edge().spawn(head.iter().chain(argv)))
            }
        }
    }

    /// The id of the run that died, if one did and is not yet recovered.
    ///
    /// # Panics
    /// The history cannot be read.
    #[must_use]
    pub fn dead_run(&self) -> Option<String> {
        let list = self.start(".", "", &["runs", "--format", "json"].map(str::to_owned)).wait();
        // Warnings may follow it.
        let runs = serde_json::Deserializer::from_str(&list.text).into_iter::<serde_json::Value>().next();
        let runs = runs.expect("a list").expect("JSON");
        let dead = |run: &&serde_json::Value| run["verdict"].is_null() && run["alive"] == false;
        let found = runs.as_array().expect("a list").iter().find(dead)?;
        Some(found["id"].as_str().expect("an id").to_owned())
    }

    /// All that is there; of the lab `often` leaves out the large folders of the system, where no case does anything.
    #[must_use]
    pub fn look(&self, often: bool) -> Manifest {
        match self {
            Self::Here(here) => here.look(),
            Self::Lab(lab) => {
                let mut scope = Scope::default();
                if often {
                    for folders in [&mut scope.edge, &mut scope.nas] {
                        folders.retain(|folder| !LARGE.contains(&folder.as_str()));
                    }
                }
                scope
                    .without
                    .extend(CLOSELY.iter().flat_map(|(_, folders)| folders.iter().map(ToString::to_string)));
                // What others write there by themselves.
                scope.without.push("/var/lib/apt".into());
                let mut manifest = lab.manifest_of(&scope);
                for (node, folders) in
                    [lab.edge(), lab.nas()].into_iter().zip(CLOSELY.map(|(_, folders)| folders))
                {
                    for folder in folders {
                        look_closely(node, folder, &mut manifest);
                    }
                }
                manifest
            }
        }
    }
}

/// The lines for each box, in their order.
fn parts(lines: &str) -> Vec<(bool, String)> {
    let mut parts: Vec<(bool, String)> = Vec::new();
    for line in lines.lines() {
        let (far, line) = match line.trim_start().strip_prefix("nas: ") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        match parts.last_mut() {
            Some((last, part)) if *last == far => *part = format!("{part}\n{line}"),
            _ => parts.push((far, line.to_owned())),
        }
    }
    parts
}

/// A folder of a box as this machine sees it, and the databases in it as the box sees them.
fn look_closely(node: &Node, folder: &str, manifest: &mut Manifest) {
    let root = format!("/proc/{}/root", node.leader());
    let shown = |path: &Path| {
        let path = path.to_string_lossy();
        format!("{} file {}", node.name(), path.strip_prefix(&root).unwrap_or(&path))
    };
    for path in sight::files(Path::new(&format!("{root}{folder}")), &shown, manifest) {
        let path = path.to_string_lossy();
        let path = path.strip_prefix(&root).unwrap_or(&path);
        // The manifest of the lab holds the daemon's rows already.
        if path != crate::lab::DATABASE {
            let argv = ["sqlite3", "-readonly", "-cmd", ".timeout 10000", path, sight::DUMP];
            sight::rows(&format!("{} row {path}", node.name()), &node.run(argv).stdout, manifest);
        }
    }
}
