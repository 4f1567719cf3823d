//! The caller's values for params: `-p NAME=VALUE` and `--params FILE`.

use crate::failure::Failure;
use clap::Args;
use engine::{local::reading, playbook::yaml_value};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The largest file of params, in bytes.
const MAX_FILE: u64 = 1 << 20;

#[derive(Args, Debug)]
pub(crate) struct ParamArgs {
    /// Set a param; wins over --params. Repeatable
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// Take params from a YAML or JSON file: a map of names to values
    #[arg(long = "params", value_name = "FILE")]
    file: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

impl ParamArgs {
    /// All values, by name.
    pub(crate) fn values(&self) -> Result<Map<String, Value>, Failure> {
        let mut values = self.file.as_deref().map(from_file).transpose()?.unwrap_or_default();
        let mut seen = Map::new();
        for (name, value) in &self.params {
            if seen.insert(name.clone(), Value::Null).is_some() {
                return Err(Failure::invalid(format!("param `{name}` is set twice")));
            }
            values.insert(name.clone(), Value::String(value.clone()));
        }
        Ok(values)
    }
}

fn from_file(path: &Path) -> Result<Map<String, Value>, Failure> {
    let shown = path.display();
    let text =
        reading::text_given(path, MAX_FILE).map_err(|error| Failure::unread(&shown.to_string(), &error))?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let value = match is_json {
        true => serde_json::from_str(&text).map_err(|error| error.to_string()),
        false => yaml_value(&text),
    };
    match value.map_err(|error| Failure::invalid(format!("`{shown}`: {error}")))? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(Failure::invalid(format!("`{shown}`: expected a map of names to values"))),
    }
}
