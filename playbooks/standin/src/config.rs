//! `unified_config.json`, the settings that the daemon shares with the operator's scripts.
//!
//! Every key has a default and unknown keys are ignored, as in the field: one file serves several programs
//! of different versions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// The whole file. Sections that only the operator's scripts read are there so that a wrong type in them is
/// found here, too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub nas_settings: NasSettings,
    pub local_settings: LocalSettings,
    pub sync_settings: SyncSettings,
    pub database: DatabaseSettings,
    pub smoke_test: SmokeTest,
    pub diagnostics: Diagnostics,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct NasSettings {
    /// `local` means: no NAS at all, `base_path` is a folder of this machine.
    pub host: String,
    pub username: String,
    /// A `Host` of the user's ssh_config; wins over `username@host`.
    pub ssh_alias: String,
    pub base_path: PathBuf,
    pub backup_path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct LocalSettings {
    pub media_path: PathBuf,
    pub log_path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct SyncSettings {
    pub interval_minutes: u64,
    /// How often a transfer is tried before its row says `failed`; at least once.
    pub max_retry_attempts: u32,
    pub delete_after_sync: bool,
    pub safe_delete_delay_minutes: u64,
    /// The limit of one try.
    pub sync_timeout_seconds: u64,
    pub verify_remote_before_delete: bool,
}

/// Where the states of files are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Sqlite,
    Postgres,
    /// The states in SQLite, and what is ready in a list of a Redis server.
    #[serde(rename = "redis+sqlite")]
    RedisSqlite,
    /// A JSON document under a file lock.
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct DatabaseSettings {
    /// Which store it is; the other keys of a store are read only if it is chosen.
    pub store: Kind,
    /// `sqlite` and `redis+sqlite`: the database.
    pub path: PathBuf,
    /// `postgres`: the database, as `postgresql://USER@HOST:PORT/NAME` or `host=/run/postgresql dbname=NAME user=USER`.
    /// The daemon speaks no TLS.
    pub url: String,
    /// `redis+sqlite`: the server, as `redis://HOST:PORT/DB`.
    pub redis_url: String,
    /// `redis+sqlite`: the list of the ids of rows that are ready, the oldest on its left. What the daemon works on
    /// stands in another list, named so with `:processing` behind it.
    pub queue: String,
    /// `json`: the document `{"media": [...]}`, whose elements have the columns of the table as members.
    pub document: PathBuf,
    /// `json`: the file that everybody locks who works on the document; `DOCUMENT.lock` if empty.
    pub lock: PathBuf,
    pub enable_wal_mode: bool,
    pub connection_timeout_seconds: u64,
    pub max_retries: u32,
    /// The first delay between two tries of a write; it doubles.
    pub retry_delay_ms: u64,
    pub busy_timeout_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct SmokeTest {
    pub default_file_size_bytes: u64,
    pub default_wait_minutes: u64,
    pub poll_interval_seconds: u64,
    pub test_file_prefix: String,
    pub test_file_extension: String,
    pub cleanup_test_files: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Diagnostics {
    pub check_disk_space: bool,
    pub check_network_connectivity: bool,
    pub check_ssh_connection: bool,
    pub check_daemon_status: bool,
    pub check_database_health: bool,
    pub save_reports: bool,
    pub reports_path: PathBuf,
}

impl Default for NasSettings {
    fn default() -> Self {
        Self {
            host: "nas".into(),
            username: "drone".into(),
            ssh_alias: String::new(),
            base_path: "/volume1/drone/drone_media".into(),
            backup_path: "/volume1/drone/backup".into(),
        }
    }
}

impl Default for LocalSettings {
    fn default() -> Self {
        Self { media_path: "/data/temp/dji/media".into(), log_path: "/var/log/media-sync".into() }
    }
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            interval_minutes: 10,
            max_retry_attempts: 3,
            delete_after_sync: true,
            safe_delete_delay_minutes: 30,
            sync_timeout_seconds: 300,
            verify_remote_before_delete: true,
        }
    }
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            store: Kind::Sqlite,
            path: "/data/media_status.db".into(),
            url: "postgresql://media_sync@127.0.0.1:5432/media".into(),
            redis_url: "redis://127.0.0.1:6379/0".into(),
            queue: "media:ready".into(),
            document: "/data/media_status.json".into(),
            lock: PathBuf::new(),
            enable_wal_mode: true,
            connection_timeout_seconds: 30,
            max_retries: 3,
            retry_delay_ms: 100,
            busy_timeout_ms: 30_000,
        }
    }
}

impl Default for SmokeTest {
    fn default() -> Self {
        Self {
            default_file_size_bytes: 1024,
            default_wait_minutes: 12,
            poll_interval_seconds: 30,
            test_file_prefix: "smoketest".into(),
            test_file_extension: ".txt".into(),
            cleanup_test_files: true,
        }
    }
}

impl Default for Diagnostics {
    fn default() -> Self {
        Self {
            check_disk_space: true,
            check_network_connectivity: true,
            check_ssh_connection: true,
            check_daemon_status: true,
            check_database_health: true,
            save_reports: true,
            reports_path: "reports".into(),
        }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence with the path, when it cannot be read or is not such a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the config `{}`: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("config `{}`: {error}", path.display()))
    }
}

impl DatabaseSettings {
    /// The file that is locked for the document.
    pub(crate) fn document_lock(&self) -> PathBuf {
        if !self.lock.as_os_str().is_empty() {
            return self.lock.clone();
        }
        let mut name = self.document.clone().into_os_string();
        name.push(".lock");
        name.into()
    }
}

impl NasSettings {
    /// Whom to give to `ssh`: the alias, else `username@host`.
    pub(crate) fn ssh_target(&self) -> String {
        match (self.ssh_alias.as_str(), self.username.as_str()) {
            ("", "") => self.host.clone(),
            ("", user) => format!("{user}@{}", self.host),
            (alias, _) => alias.to_owned(),
        }
    }
}

impl SyncSettings {
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_minutes.max(1) * 60)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn missing_keys_have_defaults_and_unknown_ones_are_ignored() {
        let config: Config =
            serde_json::from_str(r#"{"sync_settings": {"max_retry_attempts": 1, "new": 0}, "other": {}}"#)
                .expect("reads");
        assert_eq!(config.sync_settings.max_retry_attempts, 1);
        assert_eq!(config.sync_settings.interval_minutes, 10);
        assert_eq!(config.database.busy_timeout_ms, 30_000);
    }

    #[test]
    fn the_ssh_target_is_the_alias_else_user_at_host() {
        let target =
            |json: &str| serde_json::from_str::<Config>(json).expect("reads").nas_settings.ssh_target();
        assert_eq!(target(r#"{"nas_settings": {"ssh_alias": "nas", "host": "h"}}"#), "nas");
        assert_eq!(target(r#"{"nas_settings": {"host": "h", "username": "u"}}"#), "u@h");
        assert_eq!(target(r#"{"nas_settings": {"host": "h", "username": ""}}"#), "h");
    }
}
