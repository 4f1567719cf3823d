//! A request and its answer, over as many redirects as are allowed; and what is known when it is cut short.

use super::{
    Output, Params,
    address::Address,
    answer,
    body::Received,
    errors, link,
    request::{Draft, only_reads},
    status::Statuses,
};
use engine::{ErrorClass, StepError, step::Context};
use hyper::{Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// How long an answer to a change is still waited for when the run stops: a change that is known beats one in doubt.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How far it came.
#[derive(Default)]
struct Seen {
    /// The server may have acted on it.
    sent: AtomicBool,
    /// The status of the last answer; 0 before.
    status: AtomicU16,
    /// Bytes of its body.
    received: AtomicU64,
}

/// Why there is no good answer.
enum Trouble {
    /// The server said what it did not do.
    Clear(StepError),
    /// If the request has been sent, nobody knows what became of it.
    Doubt(StepError),
}

impl From<StepError> for Trouble {
    fn from(error: StepError) -> Self {
        Self::Doubt(error)
    }
}

/// Drives the connection beside the request, and ends with it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends it and gives the answer that was expected.
///
/// # Errors
/// No answer, or another one. Of a request that changes something they say whether it may have done so.
pub(super) async fn run(cx: &Context, params: &Params) -> Result<Output, StepError> {
    let draft = Draft::of(cx, params)?;
    let changes = !(params.reads || only_reads(&draft.method));
    let label = draft.to.label.clone();
    let seen = Seen::default();
    let work = converse(cx, params, draft, &seen);
    tokio::pin!(work);
    let error = tokio::select! {
        ended = tokio::time::timeout(params.timeout.duration(), &mut work) => match ended {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(Trouble::Clear(error))) => return Err(error),
            Ok(Err(Trouble::Doubt(error))) => error,
            Err(_) => {
                let status = Some(seen.status.load(Ordering::Relaxed)).filter(|status| *status > 0);
                errors::no_answer(&label, params.timeout, status, seen.received.load(Ordering::Relaxed))
            }
        },
        () = cx.cancel.cancelled() => match last_words(&seen, changes, &mut work).await {
            Some(Ok(output)) => return Ok(output),
            Some(Err(Trouble::Clear(error))) => return Err(error),
            Some(Err(Trouble::Doubt(error))) => error,
            None => errors::stopped(),
        },
    };
    let in_doubt = changes && seen.sent.load(Ordering::Relaxed);
    Err(if in_doubt { error.unknown_outcome() } else { error })
}

async fn last_words(
    seen: &Seen,
    changes: bool,
    work: impl Future<Output = Result<Output, Trouble>>,
) -> Option<Result<Output, Trouble>> {
    if !changes || !seen.sent.load(Ordering::Relaxed) {
        return None;
    }
    tokio::time::timeout(LAST_ANSWER, work).await.ok()
}

async fn converse(
    cx: &Context,
    params: &Params,
    mut draft: Draft<'_>,
    seen: &Seen,
) -> Result<Output, Trouble> {
    let began = Instant::now();
    let expected = params.status.clone().unwrap_or_default();
    let first_method = draft.method.clone();
    let mut way = vec![draft.to.label.clone()];
    loop {
        let (certificate, _driver, response) = ask(cx, params, &draft, seen).await?;
        let status = response.status().as_u16();
        seen.status.store(status, Ordering::Relaxed);
        let location = response.headers().get(header::LOCATION);
        let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let leads_on = matches!(status, 301 | 302 | 303 | 307 | 308) && !expected.hold(status);
        if let (true, Some(location), true) = (leads_on, &location, params.redirects > 0) {
            if way.len() > usize::from(params.redirects) {
                return Err(Trouble::Clear(too_many(&draft.to, location, &way)));
            }
            draft = draft.redirected(cx, status, location).map_err(|error| match status {
                // It asks for the same once more, and so has not done it.
                307 | 308 => Trouble::Clear(error),
                _ => Trouble::Doubt(error),
            })?;
            way.push(draft.to.label.clone());
            // Who asks for the same once more has not done it; who asks for a look at the result has.
            seen.sent.store(draft.method != first_method, Ordering::Relaxed);
            seen.status.store(0, Ordering::Relaxed);
            continue;
        }
        let reason = response.status().canonical_reason().unwrap_or_default();
        let headers = answer::headers(response.headers());
        let content_type = headers.get("content-type").cloned().unwrap_or_default();
        let received = Received::read(cx, response.into_body(), &seen.received)
            .await
            .map_err(|error| errors::broken(&draft.to, &error))?;
        if !expected.hold(status) {
            let error = unexpected(&draft.to, status, reason, &expected, location.as_deref(), &received);
            // A gateway that lost its upstream server does not know either; nor does the page behind a redirect.
            let clear = draft.method == first_method && !matches!(status, 502 | 504);
            return Err(if clear { Trouble::Clear(error) } else { Trouble::Doubt(error) });
        }
        let body = answer::text(&received, &content_type);
        return Ok(Output {
            status,
            json: answer::json(&received, &content_type),
            body,
            truncated: !received.is_whole(),
            size: received.size,
            sha256: received.sha256,
            headers,
            url: draft.to.label.clone(),
            redirects: u32::try_from(way.len() - 1).unwrap_or(u32::MAX),
            certificate,
            took_ms: engine::quantity::Millis::from(began.elapsed()).0,
        });
    }
}

/// One request and the head of its answer.
async fn ask(
    cx: &Context,
    params: &Params,
    draft: &Draft<'_>,
    seen: &Seen,
) -> Result<(Option<link::Certificate>, Driver, Response<Incoming>), Trouble> {
    let to = &draft.to;
    // A file that cannot be read is known before anybody is called.
    let request = draft.request(cx).await?;
    let (stream, certificate) = link::open(to, params.ca.as_deref(), params.connect_timeout).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(errors::HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| errors::broken(to, &error))?;
    let driver = Driver(tokio::spawn(async move {
        // What goes wrong is told to the request.
        let _told = connection.await;
    }));
    let before = seen.sent.swap(true, Ordering::Relaxed);
    match sender.try_send_request(request).await {
        Ok(response) => Ok((certificate, driver, response)),
        Err(mut failed) => {
            if failed.take_message().is_some() {
                // It has not left this machine.
                seen.sent.store(before, Ordering::Relaxed);
            }
            let error = failed.error();
            Err(Trouble::Doubt(match draft.file().filter(|_| error.is_user()) {
                Some(path) => {
                    let why = std::error::Error::source(error)
                        .map_or_else(|| error.to_string(), ToString::to_string);
                    StepError::new(ErrorClass::Corrupt, format!("cannot send `{path}` whole: {why}"))
                        .hint("send a file that nobody writes to")
                }
                None => errors::broken(to, error),
            }))
        }
    }
}

fn too_many(from: &Address, location: &str, way: &[String]) -> StepError {
    let followed = way.len() - 1;
    let mut error = StepError::expectation(format!(
        "`{}` redirects once more, to `{location}`: expected at most {followed} redirects",
        from.label
    ))
    .hint("allow more with `redirects`, or look where they lead: curl -sIL URL");
    error.details = way.to_vec();
    error
}

fn unexpected(
    to: &Address,
    status: u16,
    reason: &str,
    expected: &Statuses,
    location: Option<&str>,
    received: &Received,
) -> StepError {
    let answered = format!("{status} {reason}");
    let message = format!("`{}` answered {}, expected {expected}", to.label, answered.trim_end());
    let mut error = StepError::expectation(message);
    error.details = answer::first_lines(received);
    match (status, location) {
        (300..=399, Some(location)) => error
            .hint(format!("it leads to `{location}`: follow it with `redirects: 1`, or name that in `url`")),
        (401 | 403, _) => error.hint("give `bearer` or `basic_auth`, or check what they may do"),
        (407, _) => error.hint("this is the answer of a proxy: name the server itself in `url`"),
        (500..=599, _) => error.hint("look what the service says: journalctl -u UNIT -n 50"),
        _ => error.hint(to.by_curl()),
    }
}
