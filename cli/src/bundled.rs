//! The playbooks that come with the program.

/// A playbook that comes with the program.
#[derive(Debug)]
pub(crate) struct Bundled {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

/// All of them, the one to begin with first.
pub(crate) const ALL: &[Bundled] = &[
    Bundled { name: "quickstart", text: include_str!("../../playbooks/quickstart.yaml") },
    Bundled { name: "host-health", text: include_str!("../../playbooks/host-health.yaml") },
    Bundled { name: "media-sync", text: include_str!("../../playbooks/media-sync.yaml") },
    Bundled {
        name: "media-sync-diagnostics",
        text: include_str!("../../playbooks/media-sync-diagnostics.yaml"),
    },
];

/// What playbooks include as `bundled:NAME`.
pub(crate) const FRAGMENTS: &[Bundled] = &[
    Bundled { name: "daemon", text: include_str!("../../playbooks/fragments/daemon.yaml") },
    Bundled { name: "database", text: include_str!("../../playbooks/fragments/database.yaml") },
    Bundled { name: "host", text: include_str!("../../playbooks/fragments/host.yaml") },
];

/// The one with this name.
pub(crate) fn find(name: &str) -> Option<&'static Bundled> {
    ALL.iter().find(|bundled| bundled.name == name)
}
