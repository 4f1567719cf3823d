//! The connection: one for each request, straight to the server, never through a proxy that the environment names.

use super::{address::Address, errors};
use engine::{StepError, quantity::Millis};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use x509_cert::der::Decode;

/// A stream to the server, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How long the certificate of the server still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Until when it is valid, RFC 3339 UTC.
    pub expires_at: String,
    /// How many whole days are left.
    pub days_left: i64,
}

/// Connects within the limit: name, port and TLS.
///
/// # Errors
/// Nothing answers there, or it is not trusted.
pub(super) async fn open(
    to: &Address,
    ca: Option<&str>,
    limit: Millis,
) -> Result<(Box<dyn Stream>, Option<Certificate>), StepError> {
    let deadline = Instant::now() + limit.duration();
    let late = |_| errors::no_connection(to, limit);
    let stream = connect(to, limit, deadline).await?;
    if !to.is_tls() {
        return Ok((Box::new(stream), None));
    }
    let mut config = crate::tls::client(ca)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(to.host())
        .map_err(|error| errors::tls(to, &io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream =
        timeout_at(deadline, connecting).await.map_err(late)?.map_err(|error| errors::tls(to, &error))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| certificate(chain.first()?));
    Ok((Box::new(stream), certificate))
}

/// A name may have several addresses: each has its share of the time that is left.
async fn connect(to: &Address, limit: Millis, deadline: Instant) -> Result<TcpStream, StepError> {
    let (host, port) = (to.host(), to.port());
    let addresses: Vec<_> = match timeout_at(deadline, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(errors::unresolved(to, &error.to_string())),
        Err(_) => return Err(errors::unresolved(to, &format!("no answer within {limit}"))),
    };
    let mut last = errors::unresolved(to, "it has no address");
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // The last piece of a request is not to wait for another.
                let _only_slower = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = errors::refused(to, *address, &error),
            Err(_) => last = errors::no_connection(to, limit),
        }
    }
    Err(last)
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    let read = x509_cert::Certificate::from_der(der).ok()?;
    let until = read.tbs_certificate.validity.not_after.to_unix_duration();
    let until = Timestamp::from_second(i64::try_from(until.as_secs()).ok()?).ok()?;
    let left: SignedDuration = until.duration_since(Timestamp::now());
    Some(Certificate { expires_at: until.to_string(), days_left: left.as_hours().div_euclid(24) })
}
