//! `http`: a request and what comes back, so that a service is known to answer, and as it should.

mod address;
mod answer;
mod body;
mod errors;
mod exchange;
mod link;
mod request;
mod status;

pub use link::Certificate;
pub use status::Statuses;

use crate::word::{Word, short};
use engine::{
    ErrorClass, Step, StepError,
    quantity::{Bytes, Millis},
    secret::is_marked,
    step::{Context, Description, Docs, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The step type.
#[derive(Clone, Copy, Debug)]
pub struct Http;

/// A request, and which answer is expected.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The address: `http://HOST:PORT/PATH` or `https://…`. It may hold a secret, but no user and no password.
    url: String,
    /// Names and values that are put behind the address, escaped as they must be.
    #[serde(default)]
    query: BTreeMap<String, Word>,
    /// `GET` if not given. All but `GET`, `HEAD` and `OPTIONS` count as changes and need a written `undo`, or `reads: true`.
    #[serde(default)]
    method: Option<String>,
    /// Headers; their values may hold secrets.
    #[serde(default)]
    headers: BTreeMap<String, Word>,
    /// A text to send.
    #[serde(default)]
    body: Option<String>,
    /// A value to send as JSON.
    #[serde(default, deserialize_with = "even_null")]
    json: Option<Value>,
    /// A file of this machine to send, as it is read.
    #[serde(default)]
    #[schemars(extend("format" = "local-path"))]
    file: Option<String>,
    /// A user and a password.
    #[serde(default)]
    basic_auth: Option<BasicAuth>,
    /// A token; best a secret.
    #[serde(default)]
    bearer: Option<String>,
    /// The status that is expected: `200`, `2xx`, `200-204`, or a list of these; `2xx` if not given.
    #[serde(default)]
    status: Option<Statuses>,
    /// How many redirects are followed; 0 if not given.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    redirects: u8,
    /// For `https`: a PEM file with the certificates to trust; those of this machine if not given.
    #[serde(default)]
    #[schemars(extend("format" = "local-path"))]
    ca: Option<String>,
    /// How long each connection may take: name, port and TLS; `5s` if not given.
    #[serde(default = "five_seconds")]
    connect_timeout: Millis,
    /// How long all of it may take, body and redirects too; `30s` if not given.
    #[serde(default = "thirty_seconds")]
    timeout: Millis,
    /// The request only reads although its method may change things, such as a search by `POST`.
    #[serde(default)]
    reads: bool,
}

/// What a server asks for with `WWW-Authenticate: Basic`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    user: String,
    /// The password; best a secret.
    password: String,
}

fn five_seconds() -> Millis {
    Millis(5_000)
}

fn thirty_seconds() -> Millis {
    Millis(30_000)
}

/// `json: null` is a value to send.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The status, such as 200.
    pub status: u16,
    /// The headers by their lower-case names. Repeated ones are joined by `, `; those of `set-cookie` by a line feed.
    pub headers: BTreeMap<String, String>,
    /// The body, at most its first 256 KiB; missing if it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body as a value if it is JSON and at most 256 KiB, else null.
    #[serde(default)]
    pub json: Value,
    /// Whether `body` holds less than has come.
    #[serde(default)]
    pub truncated: bool,
    /// How many bytes the whole body had.
    pub size: u64,
    /// The SHA-256 of the whole body, as it came.
    pub sha256: String,
    /// The address that answered; with redirects the last.
    pub url: String,
    /// How many redirects were followed.
    pub redirects: u32,
    /// With `https`: how long the server's certificate still holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// How long all of it took, in milliseconds.
    pub took_ms: u64,
}

const BODIES: [&str; 3] = ["body", "json", "file"];

impl Step for Http {
    const KIND: &'static str = "http";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "a request over HTTP, and whether the answer is as expected",
            details: "Sends one request from this machine, straight to the server: variables such as `http_proxy` are not \
                      heeded, and redirects are followed only as often as `redirects` says. `GET`, `HEAD` and `OPTIONS` only \
                      read; any other method is a change that needs a written `undo`, unless `reads: true` says \
                      that it only reads.\n\nOf the body the first 256 KiB are kept; all of it is counted and hashed. \
                      `json` is filled if the content type says JSON, or if it says nothing or plain text and the body is a JSON \
                      object or array. Bodies are taken as they come: nothing is decompressed, and nothing \
                      compressed is asked for.\n\nSecrets may stand in `url`, `query`, `headers`, `body`, `json`, `bearer` and \
                      `basic_auth`. A redirect to another server takes no credentials along, no cookie and no header that \
                      holds a secret; from https to http none is followed.\n\nIf the connection breaks after a change \
                      was sent, or a gateway answers 502 or 504, its outcome is unknown: it is never sent again by \
                      itself.",
            example: "healthy:\n  wait:\n    until:\n      http: { url: 'http://127.0.0.1:8080/health' }\n    succeed_when: \
                      out.json.status == 'ok'\n  timeout: 1m\nvalid:\n  http: { url: 'https://api.example.com/', method: \
                      HEAD }\n  expect: out.certificate.days_left > 14\n",
            errors: &[
                ("unreachable", "refused, unknown name, no connection in time, or it broke: `curl -sv URL`"),
                ("timeout", "no whole answer within `timeout`; the message says how far it came"),
                (
                    "denied",
                    "the certificate is not trusted: name its authority with `ca`; the message says why",
                ),
                ("expectation", "another status than `status`; the first lines of the body are shown"),
                ("expectation", "more redirects than `redirects`; the way is shown"),
                ("corrupt", "what answers does not speak HTTP/1.1, or its head has no end"),
                ("invalid", "no http or https address, or a header that cannot be sent"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let name = if view.has("method") { view.show("method").to_ascii_uppercase() } else { "GET".into() };
        let title = short(&format!("{name} {}", view.show("url")));
        let reads = request::method(Some(&name)).is_ok_and(|method| request::only_reads(&method));
        if reads || view.is_true("reads") {
            Description::reads(title)
        } else {
            Description::needs_written_undo(title)
        }
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |key: &str, message: String| wrong.push((key.to_owned(), message));
        let known = |key: &'static str| view.get(key).filter(|_| view.is_known(key));
        let text = |key: &'static str| known(key).and_then(Value::as_str).filter(|text| !is_marked(text));
        if let Some(url) = text("url") {
            if let Some(why) = address::refused(url) {
                say("url", format!("`url`: {why}"));
            } else if view.has("ca")
                && url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:"))
            {
                say("ca", "`ca` goes with an `https://` address".into());
            }
        }
        let bodies = view.present(&BODIES);
        if let [first, rest @ ..] = bodies.as_slice() {
            rest.iter().for_each(|key| say(key, format!("`{key}` cannot go with `{first}`")));
            let method = view.is_known("method").then(|| view.show("method").to_ascii_uppercase());
            if !view.has("method") || method.is_some_and(|name| name == "GET" || name == "HEAD") {
                say(first, format!("`{first}` needs a `method` that sends a body, such as POST"));
            }
        }
        if view.has("basic_auth") && view.has("bearer") {
            say("bearer", "`bearer` cannot go with `basic_auth`".into());
        }
        if let Some(name) = text("method")
            && let Err(why) = request::method(Some(name))
        {
            say("method", why);
        }
        if let Some(Err(why)) = known("status").map(Statuses::read) {
            say("status", format!("`status`: {why}"));
        }
        for (name, value) in view.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().filter(|_| view.is_known("headers")).unwrap_or_default();
            if let Some(why) = request::refused(name, value) {
                say("headers", why);
            } else if name.eq_ignore_ascii_case("authorization")
                && (view.has("bearer") || view.has("basic_auth"))
            {
                say("headers", "`authorization` cannot go with `bearer` or `basic_auth`".into());
            }
        }
        wrong
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        let bodies = [params.body.is_some(), params.json.is_some(), params.file.is_some()];
        if bodies.iter().filter(|given| **given).count() > 1 {
            let message = format!("expected at most one of `{}`", BODIES.join("`, `"));
            return Err(StepError::new(ErrorClass::Invalid, message));
        }
        exchange::run(cx, params).await
    }

    fn summary(&self, output: &Output) -> String {
        format!("{} in {}, {}", output.status, Millis(output.took_ms), Bytes(output.size))
    }
}
