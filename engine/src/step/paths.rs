//! A path means one thing: relative ones count from the folder in which the run was planned, whoever undoes it from where.
//!
//! Parameters that are paths say so in their schema by a format: `path` is one on the step's host, `local-path` one of
//! this machine wherever the step acts. Nothing in the program changes the working folder of the process.

use super::Context;
use serde_json::Value;
use std::{borrow::Cow, path::Path};

/// Where paths stand among the parameters of a step type.
#[derive(Debug, Default)]
pub(super) struct PathParams {
    on_host: Vec<String>,
    here: Vec<String>,
}

impl PathParams {
    /// Those that the schema of the parameters names.
    pub(super) fn of(schema: &Value) -> Self {
        let mut found = Self::default();
        found.visit(schema, "");
        found
    }

    fn visit(&mut self, schema: &Value, pointer: &str) {
        match schema.get("format").and_then(Value::as_str) {
            Some("path") => self.on_host.push(pointer.to_owned()),
            Some("local-path") => self.here.push(pointer.to_owned()),
            _ => {}
        }
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.visit(property, &format!("{pointer}/{key}"));
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            for variant in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
                self.visit(variant, pointer);
            }
        }
    }

    /// The parameters with the paths of this machine absolute.
    pub(super) fn absolute<'a>(&self, cx: &Context, params: &'a Value) -> Cow<'a, Value> {
        self.seen_from(&cx.services.run.dir, cx.host.is_local(), params)
    }

    /// The same, told what it needs of the context.
    pub(super) fn seen_from<'a>(&self, folder: &str, is_local: bool, params: &'a Value) -> Cow<'a, Value> {
        let mut params = Cow::Borrowed(params);
        let on_host = self.on_host.iter().filter(|_| is_local);
        for pointer in on_host.chain(&self.here) {
            let relative = |value: &Value| {
                let path = value.as_str().filter(|path| !path.is_empty() && !path.starts_with('/'))?;
                // Written in the shortest way, as people do: `.` is the folder itself.
                let path = path.trim_start_matches("./");
                let full = match path {
                    "" | "." => Path::new(folder).to_owned(),
                    path => Path::new(folder).join(path),
                };
                Some(full.to_str()?.to_owned())
            };
            if let Some(full) = params.pointer(pointer).and_then(relative)
                && let Some(value) = params.to_mut().pointer_mut(pointer)
            {
                *value = Value::String(full);
            }
        }
        params
    }
}

#[cfg(test)]
mod tests {
    use super::PathParams;
    use serde_json::json;

    #[test]
    fn paths_of_this_machine_count_from_the_folder_of_the_run() {
        let schema = json!({ "properties": {
            "path": { "type": "string", "format": "path" },
            "text": { "type": "string" },
            "upload": { "anyOf": [{ "properties": { "from": { "format": "local-path" } } }, { "type": "null" }] },
        } });
        let paths = PathParams::of(&schema);
        let given = json!({ "path": "./a/b", "text": "a", "upload": { "from": "c", "to": "d" } });
        let here = json!({ "path": "/run/a/b", "text": "a", "upload": { "from": "/run/c", "to": "d" } });
        let there = json!({ "path": "./a/b", "text": "a", "upload": { "from": "/run/c", "to": "d" } });
        assert_eq!(*paths.seen_from("/run", true, &given), here);
        assert_eq!(*paths.seen_from("/run", false, &given), there);
        assert_eq!(*paths.seen_from("/elsewhere", true, &here), here);
        assert_eq!(*paths.seen_from("/run", true, &json!({ "path": "." })), json!({ "path": "/run" }));
        assert_eq!(*paths.seen_from("/run", true, &json!({ "path": "" })), json!({ "path": "" }));
    }
}
