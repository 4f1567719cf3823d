//! What expressions may read of this machine: files by `load`, variables by `env`.

use super::reading;
use crate::{diagnostic::did_you_mean, expr::Outside, playbook};
use serde_json::Value;
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The largest file that `load` reads, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The files and the environment of this machine.
#[derive(Debug)]
pub struct LocalOutside {
    dir: PathBuf,
}

impl LocalOutside {
    /// With relative paths from `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }
}

impl Outside for LocalOutside {
    fn load(&self, path: &str) -> Result<Value, String> {
        let full = self.dir.join(path);
        let text = reading::text(&full, MAX_FILE).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no file `{}`: {}", full.display(), near_names(&full)),
            _ => format!("cannot read `{}`: {error}", full.display()),
        })?;
        let wrong = |error: &dyn std::fmt::Display| format!("`{}`: {error}", full.display());
        match full.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
            "json" => serde_json::from_str(&text).map_err(|error| wrong(&error)),
            "toml" => toml::from_str(&text).map_err(|error| wrong(&error)),
            "yaml" | "yml" => playbook::yaml_value(&text).map_err(|error| wrong(&error)),
            other => Err(format!(
                "`{}`: expected a file ending in .json, .yaml or .toml, found `.{other}`",
                full.display()
            )),
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// The most names of a folder that are looked at or shown.
const MAX_NAMES: usize = 1_000;
const SHOWN: usize = 8;

/// What to do about a path that does not exist: a name in the same folder that is near, or what is there instead.
#[must_use]
pub fn near_names(path: &Path) -> String {
    let Some(folder) = path.ancestors().skip(1).find(|folder| folder.is_dir()) else {
        return "the folder does not exist either".into();
    };
    let missing = path.strip_prefix(folder).ok().and_then(|rest| rest.iter().next());
    let missing = missing.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let entries = folder.read_dir().into_iter().flatten().flatten().take(MAX_NAMES);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    if let Some(near) = did_you_mean(&missing, names.iter().map(String::as_str)) {
        return near;
    }
    match names.len() {
        0 => format!("`{}` is empty", folder.display()),
        1..=SHOWN => format!("`{}` holds: {}", folder.display(), names.join(", ")),
        count => format!("none of the {count} names in `{}` is near", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::{LocalOutside, Outside as _};
    use nix::{sys::stat::Mode, unistd::mkfifo};

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_read() {
        let dir = tempfile::tempdir().expect("a folder");
        mkfifo(&dir.path().join("pipe.json"), Mode::S_IRWXU).expect("a pipe");
        std::fs::create_dir(dir.path().join("folder.json")).expect("a folder");
        let _socket =
            std::os::unix::net::UnixListener::bind(dir.path().join("socket.json")).expect("a socket");
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("device.json")).expect("a link");
        let outside = LocalOutside::new(dir.path());
        for name in ["pipe.json", "folder.json", "socket.json", "device.json"] {
            let why = outside.load(name).expect_err("no file");
            assert!(why.ends_with(", expected a file"), "{name}: {why}");
        }
    }
}
