//! Errors of the connection and of the server, by class, with a next step.

use super::address::Place;
use engine::{ErrorClass, StepError, quantity::Millis};
use redis::{ErrorKind, RedisError};
use std::io;

/// Why there is no connection.
pub(super) enum Trouble {
    /// The socket.
    Dial(io::Error),
    /// The encryption.
    Tls(io::Error),
    /// What the server said to the greeting.
    Server(RedisError),
    /// Already in words.
    Told(StepError),
}

impl Trouble {
    pub(super) fn explain(self, place: &Place) -> StepError {
        match self {
            Self::Told(error) => error,
            Self::Server(error) => explain(&error, place),
            Self::Dial(error) => dial(&error, place),
            Self::Tls(error) => tls(&error, place),
        }
    }
}

fn dial(error: &io::Error, place: &Place) -> StepError {
    let label = &place.label;
    let (class, message) = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            (ErrorClass::Unreachable, format!("`{label}` refused the connection: nothing listens there"))
        }
        io::ErrorKind::NotFound => (
            ErrorClass::Unreachable,
            format!("`{label}`: expected the socket of a server, found no such file"),
        ),
        io::ErrorKind::PermissionDenied => {
            (ErrorClass::Denied, format!("`{label}`: this user may not open the socket"))
        }
        _ => (ErrorClass::Unreachable, format!("cannot connect to `{label}`: {error}")),
    };
    StepError::new(class, message).hint(place.type_in(&["ping"]))
}

fn tls(error: &io::Error, place: &Place) -> StepError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let look = look_at_certificate(place);
    if let Some(rustls::Error::InvalidCertificate(why)) = inner {
        let message = format!("the certificate of `{}` is not trusted: {why}", place.label);
        return StepError::new(ErrorClass::Denied, message).hint(format!(
            "name the certificate authority of the server with `ca`; its certificate: {look}"
        ));
    }
    let message = format!("no TLS connection to `{}`: {error}", place.label);
    StepError::new(ErrorClass::Unreachable, message).hint(format!("does it speak TLS? {look}"))
}

fn look_at_certificate(place: &Place) -> String {
    let peer = place.tls.as_deref().unwrap_or("HOST:PORT");
    format!("openssl s_client -connect {} -showcerts </dev/null", crate::word::shell(peer))
}

/// Whether nobody can tell what the server did: the connection broke, or what came over it is no answer.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType)
}

/// Whether the server takes no change, this one or any, and says so before it looks at what is there.
pub(super) fn refuses(error: &RedisError) -> bool {
    ["NOPERM", "OOM", "MISCONF", "READONLY", "NOREPLICAS"].contains(&spoken(error).0.as_str())
}

/// Whether the user may give the command, and not for this key.
pub(super) fn is_for_the_key(error: &RedisError) -> bool {
    let (code, detail) = spoken(error);
    code == "NOPERM" && detail.contains("keys")
}

/// No answer within the limit for the connection.
pub(super) fn silent(place: &Place, limit: Millis) -> StepError {
    let message = format!("`{}` did not answer within {limit}", place.label);
    let hint = match place.tls {
        // A server that expects no TLS waits for the end of what it takes for a command.
        Some(_) => format!("does it speak TLS? {}", look_at_certificate(place)),
        None => place.type_in(&["ping"]),
    };
    StepError::new(ErrorClass::Unreachable, message).hint(hint)
}

/// What the server or the library said. Text of the server is passed on only where it cannot quote an argument.
pub(super) fn explain(error: &RedisError, place: &Place) -> StepError {
    let label = &place.label;
    let (code, detail) = spoken(error);
    let ping = || place.type_in(&["ping"]);
    let make = |class, message: String| StepError::new(class, message);
    match code.as_str() {
        "NOAUTH" => make(ErrorClass::Denied, format!("`{label}` asks for a password, and none was given"))
            .hint("give it with `password`"),
        "WRONGPASS" => {
            make(ErrorClass::Denied, format!("`{label}` does not accept this user and password")).hint(ping())
        }
        "NOPERM" => {
            make(ErrorClass::Denied, format!("`{label}` refuses this user permission: {}", told(&detail)))
                .hint(place.type_in(&["ACL", "WHOAMI"]))
        }
        "DENIED" => {
            make(ErrorClass::Denied, format!("`{label}` runs in protected mode and lets no other host in"))
                .hint("set `requirepass` and `bind` on the server")
        }
        "OOM" => make(ErrorClass::NoSpace, format!("`{label}` has used up its `maxmemory`"))
            .hint(place.type_in(&["INFO", "memory"])),
        "MISCONF" => make(
            ErrorClass::NoSpace,
            format!("`{label}` takes no writes because it cannot save its data to disk"),
        )
        .hint(format!("df -h on its host; {}", place.type_in(&["INFO", "persistence"]))),
        "READONLY" => {
            make(ErrorClass::Busy, format!("`{label}` is a read-only replica")).hint(place.type_in(&["ROLE"]))
        }
        "LOADING" => make(ErrorClass::Busy, format!("`{label}` still loads its data from disk"))
            .hint(place.type_in(&["INFO", "persistence"])),
        "BUSY" => make(ErrorClass::Busy, format!("`{label}` is busy with a script"))
            .hint(place.type_in(&["SCRIPT", "KILL"])),
        "NOREPLICAS" => {
            make(ErrorClass::Busy, format!("`{label}` has fewer replicas than it needs to take writes"))
                .hint(place.type_in(&["INFO", "replication"]))
        }
        "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" => {
            make(ErrorClass::Busy, format!("`{label}` cannot answer for now: {code}"))
                .hint(place.type_in(&["INFO", "replication"]))
        }
        "MOVED" | "ASK" => make(
            ErrorClass::Unsupported,
            format!("`{label}` is a node of a cluster, and another node holds this key"),
        )
        .hint(format!("put the address of that node into `url`; {}", place.type_in(&["CLUSTER", "NODES"]))),
        "WRONGTYPE" => make(ErrorClass::Invalid, format!("`{label}`: the key holds a value of another type"))
            .hint(place.type_in(&["TYPE", "KEY"])),
        "ERR" if detail.starts_with("unknown command") || detail.starts_with("unknown subcommand") => make(
            ErrorClass::Unsupported,
            format!("`{label}` does not know this command: expected one that its version has"),
        )
        .hint(place.type_in(&["INFO", "server"])),
        "ERR" | "EXECABORT" | "NOSCRIPT" | "NOGROUP" | "BUSYGROUP" | "BUSYKEY" | "CROSSSLOT" | "NOTBUSY" => {
            make(ErrorClass::Invalid, format!("`{label}` says {code}: {}", told(&detail)))
        }
        _ => other(error, &code, &detail, place),
    }
}

fn other(error: &RedisError, code: &str, detail: &str, place: &Place) -> StepError {
    let label = &place.label;
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            StepError::new(ErrorClass::Denied, format!("`{label}` does not accept this user and password"))
                .hint(place.type_in(&["ping"]))
        }
        ErrorKind::Io => {
            StepError::new(ErrorClass::Unreachable, format!("the connection to `{label}` broke: {error}"))
                .hint(place.type_in(&["ping"]))
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            StepError::new(ErrorClass::Corrupt, format!("`{label}` does not answer as a Redis server does"))
                .hint("does another program listen on this port? ss -ltnp")
        }
        _ if !code.is_empty() => {
            StepError::new(ErrorClass::Invalid, format!("`{label}` says {code}: {}", told(detail)))
        }
        kind => StepError::internal(format!("the Redis library failed on `{label}`: {kind:?}")),
    }
}

/// The code and the text of what the server said; of several errors the first that says why.
fn spoken(error: &RedisError) -> (String, String) {
    let one = |code: &str, detail: Option<&str>| (code.to_owned(), detail.unwrap_or_default().to_owned());
    match error.clone().into_server_errors() {
        Some(errors) => errors
            .iter()
            .map(|(_, error)| error)
            .find(|error| error.code() != "EXECABORT")
            .or_else(|| errors.first().map(|(_, error)| error))
            .map_or_else(Default::default, |error| one(error.code(), error.details())),
        None if error.is_io_error() => Default::default(),
        None => one(error.code().unwrap_or_default(), error.detail()),
    }
}

/// Of the server's text only what comes before the first quotation: what it quotes may be a value with a secret.
fn told(detail: &str) -> &str {
    detail.split(['\'', '"', '`', ':']).next().unwrap_or_default().trim_end_matches([' ', ','])
}

pub(super) fn wrong_type(place: &Place, key: &str, found: &str, wanted: &str) -> StepError {
    let message = format!("`{key}` of `{}` is a {found}, expected a {wanted} or no key", place.label);
    StepError::new(ErrorClass::Invalid, message).hint(place.type_in(&["TYPE", key]))
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_the_server_quotes_is_not_passed_on() {
        assert_eq!(told("unknown command 'FOO', with args beginning with: 'canary'"), "unknown command");
        assert_eq!(
            told("value is not an integer or out of range"),
            "value is not an integer or out of range"
        );
    }
}
