//! Errors of the connection and of the server, by class, with a next step.

use super::address::{Place, shell_peer};
use engine::{ErrorClass, StepError, quantity::Millis};
use std::{error::Error as _, io};
use tokio_postgres::{Error, error::DbError};

/// What is worth another try: another has the lock, or the two stood in each other's way.
pub(super) fn passes(code: &str) -> bool {
    ["55P03", "40001", "40P01"].contains(&code)
}

/// The SQLSTATE, if the server said one.
pub(super) fn code(error: &Error) -> &str {
    error.code().map_or("", tokio_postgres::error::SqlState::code)
}

/// Whether the server says nothing of what became of the last statement: the connection broke, or it shuts down.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(error) => {
            let code = error.code().code();
            code.starts_with("57P") || code.starts_with("08")
        }
        None => true,
    }
}

/// How much of the server's words may be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// All of them.
    All,
    /// Only what comes before the first quotation: what is quoted may be a value with a secret.
    Unquoted,
}

/// What the server or the library said.
pub(super) fn explain(error: &Error, place: &Place, words: Words) -> StepError {
    match error.as_db_error() {
        Some(said) => server(said, place, words),
        None => library(error, place),
    }
}

fn server(said: &DbError, place: &Place, words: Words) -> StepError {
    let (label, code) = (&place.label, said.code().code());
    let message = match words {
        Words::All => said.message(),
        Words::Unquoted => told(said.message()),
    };
    let make = |class, message: String| StepError::new(class, message);
    let plain = |class| make(class, format!("`{label}`: {message} ({code})"));
    let read = || place.type_in("SELECT 1");
    let detail = |error: StepError| match said.detail() {
        Some(detail) if words == Words::All => error.detail(detail),
        _ => error,
    };
    match code {
        "28P01" | "28000" if said.message().contains("no encryption") => plain(ErrorClass::Denied)
            .hint("add `sslmode=require` to `url`: the server lets in only who encrypts"),
        "28P01" => {
            make(ErrorClass::Denied, format!("`{label}` does not accept this user and password")).hint(read())
        }
        "3D000" if words == Words::Unquoted => {
            make(ErrorClass::NotFound, format!("`{label}`: there is no such database ({code})"))
        }
        "3D000" => plain(ErrorClass::NotFound).hint(place.type_in_other("\\l")),
        "42P01" | "3F000" => plain(ErrorClass::NotFound).hint(place.type_in("\\dt *.*")),
        "42703" => plain(ErrorClass::NotFound)
            .hint(said.hint().map_or_else(|| place.type_in("\\d TABLE"), str::to_owned)),
        "42883" | "42704" => {
            plain(ErrorClass::NotFound).hint(said.hint().map_or_else(|| place.type_in("\\df"), str::to_owned))
        }
        "42501" => plain(ErrorClass::Denied).hint(place.type_in("\\dp")),
        "25006" => make(ErrorClass::Denied, format!("`{label}` takes no writes: {message}")).hint(
            place.type_in("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')"),
        ),
        "23505" | "42P07" | "42710" => detail(plain(ErrorClass::Exists)),
        "55P03" | "40P01" | "40001" | "55006" => plain(ErrorClass::Busy).hint(place.type_in(HOLDERS)),
        "57014" => plain(ErrorClass::Timeout)
            .hint("give it more time with `statement_timeout`, or see why it takes so long: EXPLAIN"),
        "53100" => plain(ErrorClass::NoSpace).hint("df -h on its host"),
        "53200" => plain(ErrorClass::NoSpace).hint("its memory is used up: free -h on its host"),
        "53300" => plain(ErrorClass::Busy).hint(
            place.type_in("SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2"),
        ),
        "57P03" => plain(ErrorClass::Busy).hint(read()),
        "25001" | "0A000" => plain(ErrorClass::Unsupported),
        "42601" => plain(ErrorClass::Invalid).hint("one statement of SQL, as psql takes it"),
        "XX001" | "XX002" => {
            plain(ErrorClass::Corrupt).hint("look into the server's log, and restore a backup")
        }
        _ => match &code[..2.min(code.len())] {
            "28" => plain(ErrorClass::Denied).hint(read()),
            "08" | "57" => plain(ErrorClass::Unreachable).hint(read()),
            "23" => detail(plain(ErrorClass::Invalid)),
            "53" | "55" => plain(ErrorClass::Busy),
            "58" | "XX" => plain(ErrorClass::Corrupt).hint("look into the server's log"),
            // A function or a trigger of the database itself objects.
            "P0" => detail(plain(ErrorClass::Expectation)),
            _ => detail(plain(ErrorClass::Invalid)),
        },
    }
}

/// Who holds a lock that another waits for.
const HOLDERS: &str = "SELECT pid, usename, application_name, state, query FROM pg_stat_activity WHERE pid IN \
                       (SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity)";

fn library(error: &Error, place: &Place) -> StepError {
    let label = &place.label;
    let mut source = error.source();
    let (mut socket, mut tls) = (None, None);
    while let Some(cause) = source {
        socket = socket.or_else(|| cause.downcast_ref::<io::Error>());
        tls = tls.or_else(|| cause.downcast_ref::<rustls::Error>());
        source = cause.source();
    }
    // The error of TLS hides inside of the socket's.
    tls = tls.or_else(|| socket?.get_ref()?.downcast_ref());
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let what = error.to_string();
    if let Some(rustls::Error::InvalidCertificate(why)) = tls {
        let message = format!("the certificate of `{label}` is not trusted: {why}");
        return StepError::new(ErrorClass::Denied, message).hint(format!(
            "name the certificate authority of the server with `ca`; its certificate: {}",
            look_at_certificate(place)
        ));
    }
    let read = || place.type_in("SELECT 1");
    let made = |class, message: String| StepError::new(class, message).hint(read());
    if what.contains("TLS") {
        let message = format!("no TLS connection to `{label}`: {cause}");
        return StepError::new(ErrorClass::Unreachable, message).hint(look_at_certificate(place));
    }
    if cause.contains("password missing") {
        return StepError::new(
            ErrorClass::Denied,
            format!("`{label}` asks for a password, and none was given"),
        )
        .hint("give it with `password`");
    }
    match socket.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => {
            made(ErrorClass::Unreachable, format!("`{label}` refused the connection: nothing listens there"))
        }
        Some(io::ErrorKind::NotFound) => made(
            ErrorClass::Unreachable,
            format!("`{label}`: expected the socket of a server, found no such file"),
        ),
        Some(io::ErrorKind::PermissionDenied) if what.contains("connecting") => {
            made(ErrorClass::Denied, format!("cannot connect to `{label}`: {cause}"))
        }
        _ if what.contains("connecting") => {
            made(ErrorClass::Unreachable, format!("cannot connect to `{label}`: {cause}"))
        }
        Some(_) => made(ErrorClass::Unreachable, format!("the connection to `{label}` broke: {cause}")),
        None if error.is_closed() => {
            made(ErrorClass::Unreachable, format!("the connection to `{label}` broke"))
        }
        None if what.contains("authentication") => {
            made(ErrorClass::Denied, format!("`{label}`: {what}: {cause}"))
        }
        None if what.contains("deserializing") => StepError::new(
            ErrorClass::Unsupported,
            format!("`{label}` gave a value that cannot be shown: {what}: {cause}"),
        )
        .hint("read it as text or in parts, as by `COLUMN::text`"),
        None if what.contains("parsing") => made(
            ErrorClass::Corrupt,
            format!("`{label}` does not answer as a PostgreSQL server does: {what}"),
        ),
        None => StepError::internal(format!("the PostgreSQL library failed on `{label}`: {what}")),
    }
}

fn look_at_certificate(place: &Place) -> String {
    format!("openssl s_client -starttls postgres -connect {} -showcerts </dev/null", shell_peer(place))
}

/// Whether the database itself does not exist, and with it nothing that was in it.
pub(super) fn is_gone(error: &StepError) -> bool {
    // A file or a secret that is not found is of the same class.
    error.class == ErrorClass::NotFound && error.message.ends_with("(3D000)")
}

/// No answer within a limit.
pub(super) fn silent(place: &Place, limit: Millis) -> StepError {
    StepError::new(ErrorClass::Unreachable, format!("`{}` did not answer within {limit}", place.label))
        .hint(place.type_in("SELECT 1"))
}

/// The run stops.
pub(super) fn stopped(place: &Place) -> StepError {
    StepError::new(ErrorClass::Cancelled, format!("the run stopped before `{}` answered", place.label))
}

/// Of the server's text only what comes before the first quotation.
fn told(text: &str) -> &str {
    text.split(['\'', '"', '`', ':']).next().unwrap_or_default().trim_end()
}
