//! What is sent. Secrets are put in when the connection stands, and are not kept.

use super::{Params, address::Address, body::Outgoing};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{ErrorClass, StepError, local::reading, secret::is_marked, step::Context};
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use std::path::PathBuf;

/// Headers that say how the message is framed; they are this program's business.
const FRAMING: [&str; 7] =
    ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// A request before its secrets are put in.
pub(super) struct Draft<'a> {
    pub(super) method: Method,
    pub(super) to: Address,
    headers: Vec<(HeaderName, &'a str)>,
    auth: Option<Auth<'a>>,
    payload: Payload<'a>,
}

#[derive(Clone, Copy)]
enum Auth<'a> {
    Basic(&'a str, &'a str),
    Bearer(&'a str),
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    None,
    Text(&'a str),
    Json(&'a Value),
    File(&'a str),
}

/// The method of that name; only those that make sense as a step.
pub(super) fn method(name: Option<&str>) -> Result<Method, String> {
    let name = name.unwrap_or("GET").to_ascii_uppercase();
    if matches!(name.as_str(), "CONNECT" | "TRACE") {
        return Err(format!("`{name}` cannot be a step"));
    }
    let letters = !name.is_empty() && name.bytes().all(|c| c.is_ascii_uppercase() || c == b'-');
    Method::from_bytes(name.as_bytes())
        .ok()
        .filter(|_| letters)
        .ok_or_else(|| format!("expected a method such as GET or POST, found `{}`", name.escape_debug()))
}

/// Whether a method only reads by its definition.
pub(super) fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Why a header cannot be given; none if it can.
pub(super) fn refused(name: &str, value: &str) -> Option<String> {
    let known = HeaderName::from_bytes(name.as_bytes());
    let Ok(known) = known else {
        return Some(format!("`{}` is no name of a header", name.escape_debug()));
    };
    if FRAMING.contains(&known.as_str()) {
        return Some(format!("`{known}` says how the message is sent: it cannot be given"));
    }
    let wrong = HeaderValue::from_bytes(value.as_bytes()).is_err();
    wrong.then(|| format!("the value of `{known}` holds a line feed or another control character"))
}

fn invalid(message: String) -> StepError {
    StepError::new(ErrorClass::Invalid, message)
}

impl<'a> Draft<'a> {
    /// # Errors
    /// The address or a header is none.
    pub(super) fn of(cx: &Context, params: &'a Params) -> Result<Self, StepError> {
        let query = params.query.iter().map(|(name, value)| (name.as_str(), value.0.as_str()));
        let to = Address::of(cx, &params.url, query)?;
        let mut headers = Vec::new();
        for (name, value) in &params.headers {
            if let Some(why) = refused(name, cx.reveal(&value.0)?.expose()) {
                return Err(invalid(format!("`headers`: {why}")));
            }
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(error.to_string()))?;
            headers.push((name, value.0.as_str()));
        }
        let basic = params.basic_auth.as_ref().map(|basic| Auth::Basic(&basic.user, &basic.password));
        let payload = match (&params.body, &params.json, &params.file) {
            (Some(text), ..) => Payload::Text(text),
            (_, Some(value), _) => Payload::Json(value),
            (.., Some(path)) => Payload::File(path),
            _ => Payload::None,
        };
        Ok(Self {
            method: method(params.method.as_deref()).map_err(invalid)?,
            to,
            headers,
            auth: params.bearer.as_deref().map(Auth::Bearer).or(basic),
            payload,
        })
    }

    /// The request that a redirect asks for.
    ///
    /// # Errors
    /// It leads nowhere that may be gone to, or would hand a secret to another server.
    pub(super) fn redirected(mut self, cx: &Context, status: u16, location: &str) -> Result<Self, StepError> {
        let to = self.to.follow(cx, location)?;
        // As browsers do: 307 and 308 ask for the same once more, 303 for the result, and the older ones meant that too.
        let again = match status {
            303 => self.method == Method::HEAD,
            301 | 302 => self.method != Method::POST,
            _ => true,
        };
        if !again {
            self.method = Method::GET;
            self.payload = Payload::None;
            self.headers.retain(|(name, _)| !name.as_str().starts_with("content-"));
        }
        if !self.to.same_origin(&to) {
            self.auth = None;
            let private = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::HOST];
            self.headers.retain(|(name, value)| !private.contains(name) && !is_marked(value));
            let secret = match self.payload {
                Payload::Text(text) => is_marked(text),
                Payload::Json(value) => is_marked(&value.to_string()),
                Payload::File(_) | Payload::None => false,
            };
            if secret {
                let message = format!(
                    "`{}` redirects to another server, `{}`, and the body holds a secret: it is not sent there",
                    self.to.label, to.label
                );
                return Err(StepError::new(ErrorClass::Denied, message)
                    .hint("if that server may know it, name it in `url`"));
            }
        }
        self.to = to;
        Ok(self)
    }

    /// The request itself, with its secrets.
    ///
    /// # Errors
    /// A secret was not found, or the file cannot be read.
    pub(super) async fn request(&self, cx: &Context) -> Result<Request<Outgoing>, StepError> {
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, text: &str, sensitive: bool| {
            let mut value = HeaderValue::from_bytes(text.as_bytes())
                .map_err(|_| invalid(format!("the value of `{name}` holds a control character")))?;
            value.set_sensitive(sensitive);
            headers.insert(name, value);
            Ok::<_, StepError>(())
        };
        put(header::HOST, &self.to.authority(), false)?;
        put(header::USER_AGENT, concat!("shakedown/", env!("CARGO_PKG_VERSION")), false)?;
        put(header::ACCEPT, "*/*", false)?;
        match self.payload {
            Payload::None => {}
            Payload::Text(_) => put(header::CONTENT_TYPE, "text/plain; charset=utf-8", false)?,
            Payload::Json(_) => put(header::CONTENT_TYPE, "application/json", false)?,
            Payload::File(_) => put(header::CONTENT_TYPE, "application/octet-stream", false)?,
        }
        match self.auth {
            None => {}
            Some(Auth::Bearer(token)) => {
                put(header::AUTHORIZATION, &format!("Bearer {}", cx.reveal(token)?.expose()), true)?;
            }
            Some(Auth::Basic(user, password)) => {
                let both = format!("{}:{}", cx.reveal(user)?.expose(), cx.reveal(password)?.expose());
                put(header::AUTHORIZATION, &format!("Basic {}", STANDARD.encode(both)), true)?;
            }
        }
        for (name, value) in &self.headers {
            put(name.clone(), cx.reveal(value)?.expose(), is_marked(value))?;
        }
        // Each request has a connection of its own.
        put(header::CONNECTION, "close", false)?;
        let body = self.body(cx).await?;
        let uri: Uri = self.to.path().parse().map_err(|_| {
            invalid(format!("`{}` holds a character that no address may hold", self.to.label))
        })?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn body(&self, cx: &Context) -> Result<Outgoing, StepError> {
        let bytes = match self.payload {
            Payload::None => Bytes::new(),
            Payload::Text(text) => Bytes::copy_from_slice(cx.reveal(text)?.expose().as_bytes()),
            Payload::Json(value) => Bytes::from(revealed(cx, value)?.to_string()),
            Payload::File(path) => {
                let cannot = |error| StepError::io(format!("read `{path}`"), &error);
                let named = PathBuf::from(path);
                let opened = tokio::task::spawn_blocking(move || reading::open(&named)).await;
                let opened = opened.unwrap_or_else(|error| Err(error.into())).map_err(cannot)?;
                let file = tokio::fs::File::from_std(opened.into_file());
                let total = file.metadata().await.map_err(cannot)?.len();
                return Ok(Outgoing::File { file, total, left: total, cx: Box::new(cx.clone()) });
            }
        };
        Ok(Outgoing::Bytes(bytes))
    }

    /// The file that is sent, if one is.
    pub(super) fn file(&self) -> Option<&'a str> {
        match self.payload {
            Payload::File(path) => Some(path),
            _ => None,
        }
    }
}

/// The value with secrets in its texts and names.
fn revealed(cx: &Context, value: &Value) -> Result<Value, StepError> {
    Ok(match value {
        Value::String(text) => Value::String(cx.reveal(text)?.expose().to_owned()),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| revealed(cx, item)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let one = |(name, item): (&String, &Value)| {
                Ok::<_, StepError>((cx.reveal(name)?.expose().to_owned(), revealed(cx, item)?))
            };
            Value::Object(map.iter().map(one).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::{method, refused};

    #[test]
    fn headers_that_would_break_out_or_frame_the_message_are_refused() {
        for (name, value) in [
            ("X-A", "a\r\nX-B: b"),
            ("X-A", "a\nb"),
            ("X-A", "a\0b"),
            ("X A", "a"),
            ("X-A\r\nX-B", "a"),
            ("", "a"),
            ("Content-Length", "0"),
            ("transfer-encoding", "chunked"),
        ] {
            assert!(refused(name, value).is_some(), "{name} {value}");
        }
        assert_eq!(refused("X-名", "a").map(|why| why.contains("no name")), Some(true));
        assert_eq!(refused("X-A", "值\ttab"), None);
    }

    #[test]
    fn methods_are_words() {
        assert_eq!(method(Some("post")).unwrap(), "POST");
        for wrong in ["", "GET /", "CONNECT", "P\r\nST", "TRACE"] {
            assert!(method(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
