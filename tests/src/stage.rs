//! A lab with `shakedown` in its edge box, one playbook, and what both boxes looked like before.

use serde_json::Value;

use crate::lab::{Lab, Manifest, Output, Scope, binaries};

/// Where the history is, unless a test chooses another folder.
pub const STATE: &str = "/root/.local/state/shakedown";
const PLAYBOOK: &str = "/root/it.yaml";
/// Folders of the lab that are slow to look at.
pub(crate) const LARGE: [&str; 3] = ["/etc", "/usr/local", "/var"];

#[derive(Debug)]
pub struct Stage {
    pub lab: Lab,
    pub before: Manifest,
    scope: Scope,
}

impl Stage {
    /// With a playbook of the test's own; see [`Stage::run`].
    #[must_use]
    pub fn new(lab: Lab, playbook: &str) -> Self {
        lab.edge().install_binary(binaries::shakedown_with_faults(), "/usr/local/bin/shakedown");
        lab.edge().sh(&format!("mkdir -p -m 700 {STATE}")).ok();
        lab.edge().write(PLAYBOOK, playbook);
        let before = lab.manifest();
        Self { lab, before, scope: Scope::default() }
    }

    /// Looks from now on also at the file system that is mounted at this folder of a box.
    pub fn mount(&mut self, node: &str, folder: &str, options: &str) {
        let (node, folders) = match node {
            "nas" => (self.lab.nas(), &mut self.scope.nas),
            _ => (self.lab.edge(), &mut self.scope.edge),
        };
        node.sh(&format!("mkdir -p {folder} && mount -t tmpfs -o {options} tmpfs {folder}")).ok();
        folders.push(folder.to_owned());
        self.look();
    }

    /// Leaves out, from now on, the large folders of the system: for tests of what never writes there, and looks often.
    pub fn look_less(&mut self) {
        for folders in [&mut self.scope.edge, &mut self.scope.nas] {
            folders.retain(|folder| !LARGE.contains(&folder.as_str()));
        }
        self.look();
    }

    /// Another playbook.
    pub fn playbook(&mut self, text: &str) {
        self.lab.edge().write(PLAYBOOK, text);
        self.look();
    }

    /// What is there now is what has to be there in the end.
    pub fn look(&mut self) {
        self.before = self.lab.manifest_of(&self.scope);
    }

    /// Runs the playbook.
    pub fn run(&self, more: &[&str]) -> Output {
        self.shakedown(&[&["run", PLAYBOOK], more].concat())
    }

    /// Runs any command of `shakedown`; runs also write their report.
    pub fn shakedown(&self, argv: &[&str]) -> Output {
        self.lab.edge().run(self.argv(argv))
    }

    /// Starts the playbook; the test goes on beside it.
    pub fn start(&self, more: &[&str]) -> crate::lab::Running {
        self.start_shakedown(&[&["run", PLAYBOOK], more].concat())
    }

    /// Starts any command of `shakedown`, as [`Stage::shakedown`] does.
    pub fn start_shakedown(&self, argv: &[&str]) -> crate::lab::Running {
        self.lab.edge().spawn(self.argv(argv))
    }

    fn argv(&self, argv: &[&str]) -> Vec<String> {
        let mut words = vec!["shakedown".to_owned()];
        words.extend(argv.iter().map(|word| (*word).to_owned()));
        if argv.first() == Some(&"run") {
            let more =
                ["--no-input", "--report", "json=/dev/shm/report.json", "--events", "/dev/shm/events.jsonl"];
            words.extend(more.map(str::to_owned));
        }
        words
    }

    /// The last run's report.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn report(&self) -> Value {
        serde_json::from_slice(&self.lab.edge().read("/dev/shm/report.json")).expect("JSON")
    }

    /// A step of the last run's report.
    ///
    /// # Panics
    /// If there is none of that id.
    #[must_use]
    pub fn step(&self, id: &str) -> Value {
        let phases = self.report()["phases"].as_array().expect("phases").clone();
        let steps = phases.iter().flat_map(|phase| phase["steps"].as_array().expect("steps").clone());
        steps.into_iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step `{id}`"))
    }

    /// The events of the run so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let text = self.lab.edge().sh("cat /dev/shm/events.jsonl 2>/dev/null || true").ok();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many events of this kind there are.
    #[must_use]
    pub fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|one| one["event"] == event).count()
    }

    /// Nothing is left: files, rows, units, processes, sockets, remote files.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.before.assert_same(&self.lab.manifest_of(&self.scope));
    }

    /// The same, once what ends by itself within half a minute has ended.
    #[track_caller]
    pub fn assert_clean_soon(&self) {
        let begun = std::time::Instant::now();
        while begun.elapsed().as_secs() < 30 {
            if self.before.diff(&self.lab.manifest_of(&self.scope)).is_empty() {
                return;
            }
        }
        self.assert_clean();
    }
}
