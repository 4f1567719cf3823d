//! What can go wrong between a request and its answer, by class, with a next step.

use super::address::Address;
use engine::{ErrorClass, StepError, quantity::Millis};
use std::{error::Error, io, net::SocketAddr};

/// How long a head may be, in bytes.
pub(super) const HEAD: usize = 64 * 1024;

pub(super) fn unresolved(to: &Address, why: &str) -> StepError {
    let message = format!("`{}`: the name `{}` cannot be resolved: {why}", to.label, to.host());
    StepError::new(ErrorClass::Unreachable, message).hint(format!("getent hosts {}", to.host()))
}

pub(super) fn refused(to: &Address, at: SocketAddr, error: &io::Error) -> StepError {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        let message = format!("`{}`: {at} refused the connection: nothing listens there", to.label);
        return StepError::new(ErrorClass::Unreachable, message)
            .hint(format!("on the host: ss -ltnp | grep :{}", at.port()));
    }
    StepError::new(ErrorClass::Unreachable, format!("cannot connect to `{}` at {at}: {error}", to.label))
        .hint(format!("ip route get {}; ping -c 3 {}", at.ip(), to.host()))
}

/// No connection within the limit.
pub(super) fn no_connection(to: &Address, limit: Millis) -> StepError {
    let message = format!("no connection to `{}` within {limit}", to.label);
    let hint = match to.is_tls() {
        true => format!("does it speak TLS? {}", look_at_certificate(to)),
        false => format!("the host is down or a firewall drops packets: ping -c 3 {}", to.host()),
    };
    StepError::new(ErrorClass::Unreachable, message).hint(hint)
}

/// Connected, and then no answer within the limit. `answered` is the status, if so much has come.
pub(super) fn no_answer(to: &str, limit: Millis, answered: Option<u16>, received: u64) -> StepError {
    let message = match answered {
        None => format!("`{to}` did not answer within {limit}"),
        Some(status) => {
            format!(
                "`{to}` answered {status}, but its body did not end within {limit}: {received} bytes had come"
            )
        }
    };
    StepError::new(ErrorClass::Timeout, message)
        .hint("give it longer with `timeout`, or look what the service does: journalctl -u UNIT")
}

pub(super) fn stopped() -> StepError {
    StepError::new(ErrorClass::Cancelled, "the request was given up with the run")
}

pub(super) fn tls(to: &Address, error: &io::Error) -> StepError {
    use rustls::CertificateError as C;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let look = look_at_certificate(to);
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        let message = format!("no TLS connection to `{}`: {error}", to.label);
        return StepError::new(ErrorClass::Unreachable, message).hint(format!("does it speak TLS? {look}"));
    };
    let message = format!("the certificate of `{}` is not trusted: {why}", to.label);
    let hint = match why {
        C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
            format!("renew it, or check the clock with `date -u`; its certificate: {look}")
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            format!("use a name that it holds; its certificate: {look}")
        }
        _ => format!("name the certificate authority of the server with `ca`; its certificate: {look}"),
    };
    StepError::new(ErrorClass::Denied, message).hint(hint)
}

fn look_at_certificate(to: &Address) -> String {
    let (host, port) = (to.host(), to.port());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    format!("openssl s_client -connect {host}:{port} -showcerts </dev/null")
}

/// What the library says of a connection that stands.
pub(super) fn broken(to: &Address, error: &hyper::Error) -> StepError {
    let label = &to.label;
    let make = |class, message: String| StepError::new(class, message).hint(to.by_curl());
    // For clients the library has no other way to tell this one.
    if error.is_parse() && error.to_string().contains("too large") {
        let message = format!(
            "the head of the answer of `{label}` has no end: expected at most {} KiB and 100 headers",
            HEAD / 1024
        );
        return make(ErrorClass::Corrupt, message);
    }
    if error.is_parse() || error.is_parse_status() {
        let message = format!("`{label}` does not answer as an HTTP/1.1 server does: {error}");
        let hint = match to.is_tls() {
            true => "does another program listen on this port? ss -ltnp",
            false => "does it expect https, or does another program listen on this port? ss -ltnp",
        };
        return StepError::new(ErrorClass::Corrupt, message).hint(hint);
    }
    let cut = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let cut = cut.is_some_and(|source| source.kind() == io::ErrorKind::UnexpectedEof);
    if cut || error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        let message = format!("`{label}` closed the connection before its answer was whole");
        return make(ErrorClass::Unreachable, message);
    }
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    make(ErrorClass::Unreachable, format!("the connection to `{label}` broke: {why}"))
}
