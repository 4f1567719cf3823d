//! What expressions may read of this machine: files by `load`, variables by `env`.

use crate::{expr::Outside, playbook};
use serde_json::Value;
use std::{
    fs::File,
    io::Read,
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
        let cannot = |error: std::io::Error| format!("cannot read `{}`: {error}", full.display());
        let file = File::open(&full).map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(format!("`{}` is no file", full.display()));
        }
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > MAX_FILE {
            return Err(format!("`{}` is larger than 1 MiB", full.display()));
        }
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
