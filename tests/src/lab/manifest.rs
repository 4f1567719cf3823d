//! What there is in both boxes, as a list that can be compared: the proof that a run left no garbage.

use std::collections::BTreeMap;
use std::fmt;

use super::{DAEMON, DATABASE, Lab, Node};

/// Where to look for files. The rest (units, processes, sockets, rows) is looked at as a whole.
#[derive(Clone, Debug)]
pub struct Scope {
    pub edge: Vec<String>,
    pub nas: Vec<String>,
    /// Paths that begin so are left out.
    pub without: Vec<String>,
}

impl Default for Scope {
    /// Wherever a smoke test writes, but for the database's files (their rows count) and Shakedown's own history.
    fn default() -> Self {
        let strings = |paths: &[&str]| paths.iter().map(ToString::to_string).collect();
        Self {
            edge: strings(&["/data", "/etc", "/home", "/root", "/run", "/tmp", "/usr/local", "/var"]),
            nas: strings(&["/etc", "/home", "/root", "/run", "/tmp", "/volume1", "/var"]),
            without: strings(&[
                DATABASE,
                "/root/.local/state/shakedown",
                "/run/host",
                "/run/log",
                "/run/media-sync-daemon.ready",
                // Made by whoever mounts something.
                "/run/mount",
                "/run/sshd.pid",
                "/run/systemd",
                "/run/utmp",
                "/var/lib/systemd",
                "/var/log",
                "/usr/local/bin/shakedown",
            ]),
        }
    }
}

/// Each thing under its name, with what can change about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    things: BTreeMap<String, String>,
}

impl Manifest {
    pub(crate) fn take(lab: &Lab, scope: &Scope) -> Self {
        let mut manifest = Self::default();
        for (node, folders) in [(lab.edge(), &scope.edge), (lab.nas(), &scope.nas)] {
            // First, while no command of ours runs there.
            manifest.add_processes(node);
            manifest.add_files(node, folders, &scope.without);
            manifest.add_units(node);
            manifest.add_sockets(node);
        }
        manifest.add_rows(lab);
        manifest
    }

    /// One more thing.
    pub(crate) fn add(&mut self, name: String, facts: String) {
        self.things.insert(name, facts);
    }

    /// One more of things that are alike.
    pub(crate) fn count(&mut self, name: String) {
        let count = self.things.get(&name).and_then(|count| count.parse().ok()).unwrap_or(0);
        self.things.insert(name, (count + 1_u32).to_string());
    }

    /// This does not count.
    pub(crate) fn remove(&mut self, name: &str) {
        self.things.remove(name);
    }

    fn add_processes(&mut self, node: &Node) {
        for (_, argv) in node.processes() {
            self.count(format!("{} process {}", node.name(), argv.join(" ")));
        }
    }

    fn add_files(&mut self, node: &Node, folders: &[String], without: &[String]) {
        // Not a path that vanishes meanwhile: `find` then fails, but names all others.
        let list = r#"find "$@" -xdev -printf '%p\t%y %m %u:%g %l\0' 2>/dev/null; true"#;
        let sums =
            r#"find "$@" -xdev -type f -print0 2>/dev/null | xargs -0r sha256sum -z 2>/dev/null; true"#;
        let run = |line: &str| {
            let head = ["/bin/sh", "-c", line, "manifest"].map(str::to_owned);
            node.run(head.iter().chain(folders)).ok()
        };
        let wanted = |path: &str| !without.iter().any(|prefix| path.starts_with(prefix));
        let name = |path: &str| format!("{} file {path}", node.name());
        for entry in run(list).split_terminator('\0') {
            if let Some((path, facts)) = entry.split_once('\t').filter(|(path, _)| wanted(path)) {
                self.things.insert(name(path), facts.trim_end().to_owned());
            }
        }
        for entry in run(sums).split_terminator('\0') {
            // The sum, a blank, and a second one or `*`.
            if let (Some(sum), Some(path)) = (entry.get(..64), entry.get(66..))
                && let Some(facts) = self.things.get_mut(&name(path))
            {
                facts.push_str(" sha256:");
                facts.push_str(sum);
            }
        }
    }

    fn add_units(&mut self, node: &Node) {
        let units = node.sh("systemctl list-units --all --plain --no-legend --no-pager").ok();
        for line in units.lines() {
            let mut words = line.split_whitespace();
            if let (Some(unit), Some(load), Some(active), Some(sub)) =
                (words.next(), words.next(), words.next(), words.next())
                // systemd knows an inactive unit only as long as something happens to refer to it.
                && (active != "inactive" || unit == DAEMON)
            {
                self.things.insert(format!("{} unit {unit}", node.name()), format!("{load} {active} {sub}"));
            }
        }
    }

    fn add_sockets(&mut self, node: &Node) {
        for line in node.sh("ss -Hltn; ss -Hlx").ok().lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let socket = match words[..] {
                // Listening TCP: state, queues, local address, peer.
                ["LISTEN", _, _, local, ..] => format!("tcp {local}"),
                [kind, "LISTEN" | "UNCONN", _, _, path, ..] => format!("{kind} {path}"),
                _ => continue,
            };
            self.things.insert(format!("{} socket {socket}", node.name()), String::new());
        }
    }

    fn add_rows(&mut self, lab: &Lab) {
        if !lab.edge().exists(DATABASE) {
            return;
        }
        let argv = ["sqlite3", "-readonly", "-cmd", ".timeout 10000", "-quote", DATABASE];
        let rows = lab.edge().run(argv.into_iter().chain(["SELECT * FROM media_transfer_status"])).ok();
        for row in rows.lines() {
            let (id, rest) = row.split_once(',').unwrap_or((row, ""));
            self.things.insert(format!("edge row {id}"), rest.to_owned());
        }
    }

    /// From `self` to `later`, a line each: `+` new, `-` gone, `~` changed. Empty means equal.
    #[must_use]
    pub fn diff(&self, later: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, was) in &self.things {
            match later.things.get(name) {
                None => lines.push(format!("- {name}  {was}")),
                Some(is) if is != was => lines.push(format!("~ {name}  {was} -> {is}")),
                Some(_) => {}
            }
        }
        let new = later.things.iter().filter(|(name, _)| !self.things.contains_key(*name));
        lines.extend(new.map(|(name, is)| format!("+ {name}  {is}")));
        lines
    }

    /// # Panics
    /// With the difference, if there is one.
    #[track_caller]
    pub fn assert_same(&self, later: &Self) {
        let difference = self.diff(later);
        assert!(difference.is_empty(), "the lab has changed:\n{}", difference.join("\n"));
    }

    /// The things whose name holds `text`, as lines.
    #[must_use]
    pub fn matching(&self, text: &str) -> Vec<String> {
        let found = self.things.iter().filter(|(name, _)| name.contains(text));
        found.map(|(name, facts)| format!("{name}  {facts}")).collect()
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.things.iter().try_for_each(|(name, facts)| writeln!(f, "{name}  {facts}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    fn manifest(things: &[(&str, &str)]) -> Manifest {
        Manifest { things: things.iter().map(|(name, facts)| ((*name).into(), (*facts).into())).collect() }
    }

    #[test]
    fn the_difference_names_what_came_went_and_changed() {
        let before = manifest(&[("edge file /a", "644"), ("edge file /b", "644"), ("edge row 1", "x")]);
        let after = manifest(&[("edge file /a", "600"), ("edge row 1", "x"), ("nas file /c", "644")]);
        assert_eq!(
            before.diff(&after),
            ["~ edge file /a  644 -> 600", "- edge file /b  644", "+ nas file /c  644"]
        );
        assert!(before.diff(&before.clone()).is_empty());
    }
}
