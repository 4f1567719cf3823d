//! An editor as the YAML language server knows it: JSON-RPC over stdio, just enough to open files and ask.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long an answer may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A place in a text: line and column, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub usize, pub usize);

/// An editor with its language server, which ends with it.
#[derive(Debug)]
pub struct Editor {
    server: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    asked: u64,
    versions: BTreeMap<String, u64>,
    settings: Value,
}

impl Editor {
    /// One that uses `schema`, a file, for all YAML files; without one only where a file names its own. None, after it
    /// has said why in a line that a CI script can count, where the server is not installed.
    ///
    /// # Panics
    /// The server does not start, or `SHAKEDOWN_LAB=required` and there is node but no server.
    #[must_use]
    #[track_caller]
    pub fn start_or_skip(schema: Option<&Path>) -> Option<Self> {
        let prepare = Path::new(env!("CARGO_MANIFEST_DIR")).join("editor/prepare");
        let path = Command::new(prepare).arg("--path").output().expect("the script starts").stdout;
        let folder = String::from_utf8(path).expect("a path");
        let program =
            Path::new(folder.trim()).join("node_modules/yaml-language-server/bin/yaml-language-server");
        let node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
        if !node || !program.exists() {
            let reason =
                if node { "no language server: tests/editor/prepare installs it" } else { "no node" };
            let required = std::env::var("SHAKEDOWN_LAB").is_ok_and(|value| value == "required");
            assert!(!required || !node, "SHAKEDOWN_LAB=required, but there is {reason}");
            // Not eprintln: the test runner would keep it to itself, for the test passes.
            let _unread = writeln!(std::io::stderr(), "SKIPPED lab test: {reason}");
            return None;
        }
        let mut command = Command::new("node");
        command.arg(program).arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("the server starts");
        let to = server.stdin.take().expect("a pipe");
        let mut out = BufReader::new(server.stdout.take().expect("a pipe"));
        let (send, from) = channel();
        std::thread::spawn(move || {
            while let Some(message) = read(&mut out) {
                if send.send(message).is_err() {
                    break;
                }
            }
        });
        let mut schemas = json!({});
        if let Some(schema) = schema {
            schemas[format!("file://{}", schema.display())] = json!(["*.yaml"]);
        }
        let settings = json!({
            "schemas": schemas, "schemaStore": { "enable": false }, "validate": true, "hover": true, "completion": true,
        });
        let versions = BTreeMap::new();
        let mut editor = Self { server, to, from, asked: 0, versions, settings };
        editor.ask(
            "initialize",
            json!({
                "processId": std::process::id(),
                "rootUri": null,
                "capabilities": {
                    "workspace": { "configuration": true },
                    "textDocument": {
                        "completion": { "completionItem": { "snippetSupport": true } },
                        "hover": { "contentFormat": ["markdown"] },
                    },
                },
            }),
        );
        editor.tell("initialized", json!({}));
        if schema.is_some() {
            // Settings arrive when they arrive: a text that the schema refuses shows when they are in force.
            let begun = Instant::now();
            while editor.open("sentinel.yaml", "no_such_key: 1\n").is_empty() {
                assert!(begun.elapsed() < LIMIT, "the server never used the schema");
            }
        }
        Some(editor)
    }

    /// Shows a file, or a new text of it, to the server: what it says of that text, line by line from 1.
    pub fn open(&mut self, name: &str, text: &str) -> Vec<(u64, String)> {
        let uri = uri(name);
        let version = self.versions.entry(uri.clone()).or_default();
        *version += 1;
        let version = *version;
        match version {
            1 => self.tell(
                "textDocument/didOpen",
                json!({ "textDocument": { "uri": uri, "languageId": "yaml", "version": 1, "text": text } }),
            ),
            _ => self.tell(
                "textDocument/didChange",
                json!({ "textDocument": { "uri": uri, "version": version }, "contentChanges": [{ "text": text }] }),
            ),
        }
        let about = |message: &Value| {
            message["method"] == "textDocument/publishDiagnostics" && message["params"]["uri"] == uri.as_str()
        };
        let message = self.until(&format!("what the server says of {name}"), about);
        let list = message["params"]["diagnostics"].as_array().expect("a list");
        let one = |found: &Value| {
            let line = found["range"]["start"]["line"].as_u64().expect("a line") + 1;
            (line, found["message"].as_str().expect("a message").to_owned())
        };
        list.iter().map(one).collect()
    }

    /// What the server offers at a place: each with its documentation and the text that it inserts.
    pub fn complete(&mut self, name: &str, at: At) -> BTreeMap<String, (String, String)> {
        let answer = self.ask("textDocument/completion", place(name, at));
        let items = answer["items"].as_array().or(answer.as_array()).cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().or(value["value"].as_str()).unwrap_or_default().to_owned();
        let one =
            |item: &Value| (text(&item["label"]), (text(&item["documentation"]), text(&item["insertText"])));
        items.iter().map(one).collect()
    }

    /// What the server shows of the word at a place, in Markdown.
    pub fn hover(&mut self, name: &str, at: At) -> String {
        let answer = self.ask("textDocument/hover", place(name, at));
        answer["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        let mut answer = self.until(&format!("the answer to {method}"), |message| {
            message["id"] == id && message.get("method").is_none()
        });
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{body}", body.len()).expect("the server reads");
        self.to.flush().expect("the server reads");
    }

    /// The next message of which `wanted` holds; answers the server's own questions meanwhile.
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(begun.elapsed());
            let message = self.from.recv_timeout(left).unwrap_or_else(|_| panic!("never came: {what}"));
            if let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) {
                let answer = match method {
                    "workspace/configuration" => self.configuration(&message["params"]["items"]),
                    _ => Value::Null,
                };
                self.send(&json!({ "jsonrpc": "2.0", "id": id, "result": answer }));
            }
            if wanted(&message) {
                return message;
            }
        }
    }

    fn configuration(&self, items: &Value) -> Value {
        let items = items.as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| if item["section"] == "yaml" { self.settings.clone() } else { json!({}) })
            .collect()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.server.kill();
        let _gone = self.server.wait();
    }
}

fn uri(name: &str) -> String {
    format!("file:///editor/{name}")
}

fn place(name: &str, At(line, column): At) -> Value {
    json!({ "textDocument": { "uri": uri(name) }, "position": { "line": line, "character": column } })
}

/// One message, or nothing at the end.
fn read(from: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().split_once(':') {
            Some((key, value)) if key.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
