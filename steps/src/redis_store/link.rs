//! The connection: opened within a limit, given up with the run, its errors told in words that hold no secret.

mod replies;

use super::{
    Params,
    address::{Address, Place},
    errors::{self, Trouble},
    value,
};
use engine::{
    ErrorClass, StepError,
    step::{Context, Leftover},
};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, Pipeline, ProtocolVersion, RedisError,
    Value as Reply,
    aio::{ConnectionLike, MultiplexedConnection},
};
use replies::Bounded;
use std::{future::Future, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long an answer may take at least, once the server has accepted the connection.
const ANSWER: Duration = Duration::from_secs(30);
/// How long an answer to a change is still waited for when the run stops: a change that is known beats one in doubt.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// How often a transaction is tried while others change the key.
const TRIES: u32 = 100;

/// How often a key was looked at in order to change it.
#[derive(Default)]
pub(super) struct Tries(u32);

/// A stream to the server, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of its own for one look or one change, so that nothing else shares its transactions.
pub(super) struct Link<'a> {
    pub(super) cx: &'a Context,
    pub(super) place: Place,
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    answer: Duration,
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<'a> Link<'a> {
    /// # Errors
    /// The server does not answer, or does not let the user in.
    pub(super) async fn open(cx: &'a Context, params: &Params) -> Result<Self, StepError> {
        let place = Place::of(params);
        let address = Address::of(cx, params, &place)?;
        let limit = params.connect_timeout.duration();
        let opening = async {
            let mut login = address.login.clone();
            match handshake(&address.to, &login, params.ca.as_deref(), &place).await {
                // Servers before version 6 know only the older protocol.
                Err(Trouble::Server(error))
                    if error.kind() == ErrorKind::RESP3NotSupported && !address.fixed_protocol =>
                {
                    login = login.set_protocol(ProtocolVersion::RESP2);
                    handshake(&address.to, &login, params.ca.as_deref(), &place).await
                }
                other => other,
            }
        };
        let opened = tokio::select! {
            opened = tokio::time::timeout(limit, opening) => opened,
            () = cx.cancel.cancelled() => {
                return Err(StepError::new(ErrorClass::Cancelled, "the connection was given up with the run"));
            }
        };
        match opened {
            Ok(Ok((connection, driver))) => {
                Ok(Self { cx, place, connection, driver, answer: ANSWER.max(limit) })
            }
            Ok(Err(trouble)) => Err(trouble.explain(&place)),
            Err(_) => Err(errors::silent(&place, params.connect_timeout)),
        }
    }

    /// Asks for something that changes nothing.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Reply, StepError> {
        self.try_ask(command).await?.map_err(|error| errors::explain(&error, &self.place))
    }

    /// As [`Link::ask`]; what the server objects to is for the caller to judge.
    pub(super) async fn try_ask(&mut self, command: &Cmd) -> Result<Result<Reply, RedisError>, StepError> {
        let (cx, limit) = (self.cx, self.answer);
        match within(cx, limit, self.connection.req_packed_command(command)).await? {
            Some(Err(error)) if error.is_io_error() => Err(errors::explain(&error, &self.place)),
            Some(answer) => Ok(answer.and_then(Reply::extract_error)),
            None => Err(self.silent()),
        }
    }

    /// Asks several things of one moment.
    pub(super) async fn ask_all(&mut self, questions: &Pipeline) -> Result<Vec<Reply>, StepError> {
        let (cx, limit) = (self.cx, self.answer);
        match within(cx, limit, questions.query_async::<Vec<Reply>>(&mut self.connection)).await? {
            Some(answer) => answer.map_err(|error| errors::explain(&error, &self.place)),
            None => Err(self.silent()),
        }
    }

    /// Sends a command that changes something: without an answer it is not known whether it did.
    pub(super) async fn change(&mut self, command: &Cmd) -> Result<Reply, StepError> {
        self.try_change(command).await?.map_err(|error| errors::explain(&error, &self.place))
    }

    /// As [`Link::change`]; what the server objects to is for the caller to judge.
    pub(super) async fn try_change(&mut self, command: &Cmd) -> Result<Result<Reply, RedisError>, StepError> {
        let (cx, limit) = (self.cx, self.answer);
        match persist(cx, limit, self.connection.req_packed_command(command)).await {
            Some(Err(error)) if errors::is_lost(&error) => {
                Err(errors::explain(&error, &self.place).unknown_outcome())
            }
            Some(answer) => Ok(answer.and_then(Reply::extract_error)),
            None => Err(self.unanswered()),
        }
    }

    /// Makes changes at once, if the watched keys are still as they were; nothing if they are not.
    pub(super) async fn commit(&mut self, changes: &Pipeline) -> Result<Option<Vec<Reply>>, StepError> {
        let (cx, limit) = (self.cx, self.answer);
        match persist(cx, limit, changes.query_async::<Option<Vec<Reply>>>(&mut self.connection)).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => {
                let lost = errors::is_lost(&error);
                let error = errors::explain(&error, &self.place);
                Err(if lost { error.unknown_outcome() } else { error })
            }
            None => Err(self.unanswered()),
        }
    }

    /// Begins a look at a key that ends with [`Link::commit`] or [`Link::unwatch`]; again while others change the key.
    ///
    /// # Errors
    /// Others have changed it in each of many tries.
    pub(super) async fn watch(&mut self, tries: &mut Tries, key: &[u8]) -> Result<(), StepError> {
        tries.0 += 1;
        if tries.0 > TRIES {
            let message =
                format!("others changed the key on `{}` in each of {TRIES} tries", self.place.label);
            return Err(
                StepError::new(ErrorClass::Busy, message).hint(self.place.type_in(&["CLIENT", "LIST"]))
            );
        }
        self.ask(redis::cmd("WATCH").arg(key)).await.map(drop)
    }

    /// Ends a look that changes nothing.
    pub(super) async fn unwatch(&mut self) -> Result<(), StepError> {
        self.ask(&redis::cmd("UNWATCH")).await.map(drop)
    }

    /// The type of the value at a key, `none` if there is none.
    pub(super) async fn type_of(&mut self, key: &[u8]) -> Result<String, StepError> {
        let reply = self.ask(redis::cmd("TYPE").arg(key)).await?;
        Ok(value::text(&reply).unwrap_or("none").to_owned())
    }

    /// # Errors
    /// The key holds a value of another type.
    pub(super) async fn require_type(
        &mut self,
        key: &[u8],
        name: &str,
        wanted: &str,
    ) -> Result<bool, StepError> {
        let found = self.type_of(key).await?;
        if found == "none" || found == wanted {
            return Ok(found == wanted);
        }
        Err(errors::wrong_type(&self.place, name, &found, wanted))
    }

    /// Whether the server is a `master` or a `slave`, if the user may know.
    pub(super) async fn role(&mut self) -> Option<String> {
        let reply = self.try_ask(&redis::cmd("ROLE")).await.ok()?.ok()?;
        Some(value::text(value::list(reply).first()?)?.to_owned())
    }

    /// Something that stays, with the command that removes it.
    pub(super) fn leftover(&self, what: String, why: &str, remove_with: String) -> Leftover {
        Leftover { what: format!("{what} of `{}`", self.place.label), why: why.to_owned(), remove_with }
    }

    fn silent(&self) -> StepError {
        let message = format!("`{}` did not answer within {} s", self.place.label, self.answer.as_secs());
        StepError::new(ErrorClass::Unreachable, message).hint(self.place.type_in(&["SLOWLOG", "GET", "5"]))
    }

    fn unanswered(&self) -> StepError {
        if self.cx.cancel.is_cancelled() {
            return stopped().unknown_outcome();
        }
        self.silent().unknown_outcome()
    }
}

fn stopped() -> StepError {
    StepError::new(ErrorClass::Cancelled, "the run stopped before the server answered")
}

/// The answer to a question, within the limit and as long as the run goes on.
async fn within<T>(
    cx: &Context,
    limit: Duration,
    answer: impl Future<Output = T>,
) -> Result<Option<T>, StepError> {
    tokio::select! {
        answer = tokio::time::timeout(limit, answer) => Ok(answer.ok()),
        () = cx.cancel.cancelled() => Err(stopped()),
    }
}

/// The answer to a change, within the limit; once the run stops, within a shorter one.
async fn persist<T>(cx: &Context, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(answer);
    tokio::select! {
        answer = tokio::time::timeout(limit, &mut answer) => return answer.ok(),
        () = cx.cancel.cancelled() => {}
    }
    tokio::time::timeout(LAST_ANSWER.min(limit), &mut answer).await.ok()
}

async fn handshake(
    to: &ConnectionAddr,
    login: &redis::RedisConnectionInfo,
    ca: Option<&str>,
    place: &Place,
) -> Result<(MultiplexedConnection, JoinHandle<()>), Trouble> {
    let stream = dial(to, ca, place).await?;
    // Answers have limits of this module's own, which know whether something was changed.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(login, Bounded::new(stream), config)
        .await
        .map_err(Trouble::Server)?;
    Ok((connection, tokio::spawn(driver)))
}

async fn dial(to: &ConnectionAddr, ca: Option<&str>, place: &Place) -> Result<Box<dyn Stream>, Trouble> {
    let tcp = async |host: &str, port: u16| {
        let stream = TcpStream::connect((host, port)).await.map_err(Trouble::Dial)?;
        // Commands are small and each waits for its answer.
        stream.set_nodelay(true).map_err(Trouble::Dial)?;
        Ok(stream)
    };
    Ok(match to {
        ConnectionAddr::Tcp(host, port) => Box::new(tcp(host, *port).await?),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let config = crate::tls::client(ca).map_err(Trouble::Told)?;
            let stream = tcp(host, *port).await?;
            // Nothing in this stream is about PostgreSQL: it is the one over rustls that these step types share.
            let mut maker = MakeRustlsConnect::new(config);
            let Ok(connector) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut maker, host);
            Box::new(connector.connect(stream).await.map_err(Trouble::Tls)?)
        }
        ConnectionAddr::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(Trouble::Dial)?),
        _ => {
            return Err(Trouble::Dial(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("`{}` is no kind of address that is known", place.label),
            )));
        }
    })
}
