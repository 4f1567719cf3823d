//! The files that are a lab's own: a layer for each box, laid over the cached root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{CONFIG, DAEMON, DATABASE, FAULTS, MEDIA, READY, REMOTE, binaries};

/// The unprivileged user of both boxes, as `tests/lab/prepare` makes it.
const PILOT: u32 = 2002;
const NAS_ADDRESS: &str = "10.97.2.2";
const HOSTS: &str = "127.0.0.1 localhost\n10.97.1.2 edge\n10.97.2.2 nas\n";

/// `<folder>/edge` and `<folder>/nas`.
pub(crate) fn make(folder: &Path) -> Result<(), String> {
    let keys = [keypair(folder, "edge-host")?, keypair(folder, "nas-host")?, keypair(folder, "user")?];
    let [edge_host, nas_host, user] = &keys;
    let made = || -> std::io::Result<()> {
        let edge = Layer::new(folder.join("edge"), "edge", edge_host)?;
        edge.file("etc/systemd/system/media-sync-daemon.service", 0o644, unit())?;
        edge.folder("etc/systemd/system/multi-user.target.wants", 0o755)?;
        std::os::unix::fs::symlink(
            format!("/etc/systemd/system/{DAEMON}"),
            edge.path(&format!("etc/systemd/system/multi-user.target.wants/{DAEMON}")),
        )?;
        edge.file(CONFIG, 0o644, config())?;
        edge.file("usr/local/bin/media-sync-daemon", 0o755, fs::read(binaries::daemon())?)?;
        edge.ssh_client("root", 0o700, None, user, nas_host)?;
        edge.ssh_client("home/pilot", 0o755, Some(PILOT), user, nas_host)?;

        let nas = Layer::new(folder.join("nas"), "nas", nas_host)?;
        nas.file("etc/ssh/keys/drone", 0o644, &user.public)
    };
    made().map_err(|error| format!("cannot make the lab's files: {error}"))
}

/// As the field's unit, but for the times: a test must not wait ten seconds for a restart, and a crash at every
/// start must stay one, and not run into systemd's limit of starts.
fn unit() -> String {
    format!(
        "[Unit]\nDescription=Sends media files to the NAS\nAfter=network.target\nStartLimitIntervalSec=0\n\n\
         [Service]\nType=simple\n\
         ExecStart=/usr/local/bin/media-sync-daemon --config {CONFIG} --interval 300 --init-db \
         --faults {FAULTS} --ready-file {READY}\n\
         Restart=always\nRestartSec=1\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

fn config() -> String {
    json!({
        "nas_settings": {
            "host": NAS_ADDRESS, "username": "drone", "ssh_alias": "nas",
            "base_path": REMOTE, "backup_path": "/volume1/drone/backup",
        },
        "local_settings": { "media_path": MEDIA, "log_path": "/var/log/media-sync" },
        "sync_settings": {
            "interval_minutes": 10, "max_retry_attempts": 3, "delete_after_sync": true,
            "safe_delete_delay_minutes": 30, "sync_timeout_seconds": 300, "verify_remote_before_delete": true,
        },
        "database": {
            "path": DATABASE, "enable_wal_mode": true, "connection_timeout_seconds": 30,
            "max_retries": 3, "retry_delay_ms": 100, "busy_timeout_ms": 30000,
        },
        "smoke_test": {
            "default_file_size_bytes": 1024, "default_wait_minutes": 12, "poll_interval_seconds": 30,
            "test_file_prefix": "smoketest", "test_file_extension": ".txt", "cleanup_test_files": true,
        },
        "diagnostics": {
            "check_disk_space": true, "check_network_connectivity": true, "check_ssh_connection": true,
            "check_daemon_status": true, "check_database_health": true, "save_reports": true,
            "reports_path": "/var/log/media-sync/reports",
        },
    })
    .to_string()
}

struct Keypair {
    private: Vec<u8>,
    public: String,
}

fn keypair(folder: &Path, name: &str) -> Result<Keypair, String> {
    let path = folder.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
        .arg(&path)
        .output()
        .map_err(|error| format!("cannot start `ssh-keygen`: {error}"))?;
    if !made.status.success() {
        return Err(format!("ssh-keygen: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let read =
        || Ok(Keypair { private: fs::read(&path)?, public: fs::read_to_string(path.with_extension("pub"))? });
    read().map_err(|error: std::io::Error| format!("cannot read the new key `{name}`: {error}"))
}

/// A folder whose modes and owners are set in full: they win over those of the cached root, also of folders.
struct Layer {
    root: PathBuf,
}

impl Layer {
    /// What each box has.
    fn new(root: PathBuf, name: &str, host_key: &Keypair) -> std::io::Result<Self> {
        let layer = Self { root };
        layer.folder("", 0o755)?;
        layer.file("etc/hostname", 0o644, format!("{name}\n"))?;
        layer.file("etc/hosts", 0o644, HOSTS)?;
        // A fixed one, else systemd takes each boot for the first and sets up all units anew.
        layer.file(
            "etc/machine-id",
            0o444,
            format!("{}\n", if name == "edge" { "e" } else { "a" }.repeat(32)),
        )?;
        layer.file("etc/ssh/ssh_host_ed25519_key", 0o600, &host_key.private)?;
        Ok(layer)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn folder(&self, path: &str, mode: u32) -> std::io::Result<()> {
        let path = self.path(path);
        if let Some(parent) = path.strip_prefix(&self.root).ok().and_then(Path::parent)
            && !self.root.join(parent).exists()
        {
            self.folder(&parent.to_string_lossy(), 0o755)?;
        }
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    }

    fn file(&self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> std::io::Result<()> {
        let path = self.path(path);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists())
            && let Ok(inside) = parent.strip_prefix(&self.root)
        {
            self.folder(&inside.to_string_lossy(), 0o755)?;
        }
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    }

    /// What a user needs to reach the NAS by its alias, without a question.
    fn ssh_client(
        &self,
        home: &str,
        mode: u32,
        owner: Option<u32>,
        user: &Keypair,
        nas_host: &Keypair,
    ) -> std::io::Result<()> {
        self.folder(home, mode)?;
        let ssh = format!("{home}/.ssh");
        self.folder(&ssh, 0o700)?;
        let config = format!(
            "Host nas\n    HostName {NAS_ADDRESS}\n    User drone\n    IdentityFile ~/.ssh/id_ed25519\n"
        );
        self.file(&format!("{ssh}/config"), 0o600, config)?;
        self.file(&format!("{ssh}/id_ed25519"), 0o600, &user.private)?;
        let known = format!("nas,{NAS_ADDRESS} {}", nas_host.public);
        self.file(&format!("{ssh}/known_hosts"), 0o600, known)?;
        for path in ["", "/.ssh", "/.ssh/config", "/.ssh/id_ed25519", "/.ssh/known_hosts"] {
            chown(self.path(&format!("{home}{path}")), owner, owner)?;
        }
        Ok(())
    }
}
