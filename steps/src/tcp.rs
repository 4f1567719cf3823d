//! `tcp`: whether a port answers.

use engine::{
    ErrorClass, Step, StepError,
    quantity::Millis,
    step::{Context, Description, Docs, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{io, net::SocketAddr, time::Instant};
use tokio::net::{TcpStream, lookup_host};

/// The step type `tcp`.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

/// What stands below `tcp`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A name or an address.
    host: String,
    /// The port, from 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    port: u16,
    /// How long the name and each address may take; `3s` if not given.
    #[serde(default = "three_seconds")]
    timeout: Millis,
}

fn three_seconds() -> Millis {
    Millis(3_000)
}

/// What `out` shows.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The address that answered, such as `10.0.0.2:22`.
    pub address: String,
    /// How long the connection took, in milliseconds.
    pub took_ms: u64,
}

impl Step for Tcp {
    const KIND: &'static str = "tcp";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "whether a port answers",
            details: "Opens a TCP connection from this machine and closes it again; nothing is sent. If a name has \
                      several addresses, each is tried until one answers.",
            example: "nas_port:\n  tcp: { host: 10.0.0.2, port: 22 }\n",
            errors: &[
                ("unreachable", "refused: nothing listens there: `ss -ltn` on the host"),
                ("unreachable", "timed out: host down, or a firewall drops packets: `ping -c 3 HOST`"),
                ("unreachable", "the name cannot be resolved: `getent hosts NAME`"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        Description::reads(format!("connect to {} port {}", view.show("host"), view.show("port")))
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        if params.port == 0 {
            return Err(StepError::new(ErrorClass::Invalid, "port `0`: expected a port from 1 to 65535"));
        }
        tokio::select! {
            () = cx.cancel.cancelled() => {
                Err(StepError::new(ErrorClass::Cancelled, "the connection was given up with the run"))
            }
            result = connect(params) => result,
        }
    }

    fn summary(&self, output: &Output) -> String {
        format!("{} in {}", output.address, Millis(output.took_ms))
    }
}

async fn connect(params: &Params) -> Result<Output, StepError> {
    let addresses = resolve(params).await?;
    let mut last = None;
    for address in addresses {
        let began = Instant::now();
        match tokio::time::timeout(params.timeout.duration(), TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                let took_ms = Millis::from(began.elapsed()).0;
                return Ok(Output { address: address.to_string(), took_ms });
            }
            Ok(Err(error)) => last = Some(refusal(params, address, &error)),
            Err(_) => {
                let message = format!("{} did not answer within {}", named(params, address), params.timeout);
                last = Some(StepError::new(ErrorClass::Unreachable, message).hint(format!(
                    "the host is down or a firewall drops packets: ping -c 3 {}",
                    params.host
                )));
            }
        }
    }
    Err(last.unwrap_or_else(|| unresolved(params, "it has no address")))
}

async fn resolve(params: &Params) -> Result<Vec<SocketAddr>, StepError> {
    let lookup = lookup_host((params.host.as_str(), params.port));
    match tokio::time::timeout(params.timeout.duration(), lookup).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(unresolved(params, &error.to_string())),
        Err(_) => Err(unresolved(params, &format!("no answer within {}", params.timeout))),
    }
}

fn unresolved(params: &Params, why: &str) -> StepError {
    StepError::new(ErrorClass::Unreachable, format!("the name `{}` cannot be resolved: {why}", params.host))
        .hint(format!("getent hosts {}", params.host))
}

/// The host as the playbook names it, with the address if that is another text.
fn named(params: &Params, address: SocketAddr) -> String {
    if address.ip().to_string() == params.host {
        format!("`{}` port {}", params.host, params.port)
    } else {
        format!("`{}` ({}) port {}", params.host, address.ip(), params.port)
    }
}

fn refusal(params: &Params, address: SocketAddr, error: &io::Error) -> StepError {
    let at = named(params, address);
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return StepError::new(
            ErrorClass::Unreachable,
            format!("{at} refused the connection: nothing listens there"),
        )
        .hint(format!("on the host: ss -ltnp | grep :{}", params.port));
    }
    StepError::new(ErrorClass::Unreachable, format!("cannot connect to {at}: {error}")).hint(format!(
        "ip route get {}; ping -c 3 {}",
        address.ip(),
        params.host
    ))
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use engine::ErrorClass;
    use serde_json::json;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_port_that_listens_answers_and_a_closed_one_refuses() {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let params = json!({ "host": "localhost", "port": port });
        let out = bench.run("tcp", params.clone()).await.expect("answers");
        assert_eq!(out["address"], format!("127.0.0.1:{port}"));
        drop(listener);
        let error = bench.run("tcp", params).await.expect_err("closed");
        assert_eq!(error.class, ErrorClass::Unreachable);
        assert!(error.message.contains("refused"), "{}", error.message);
    }

    #[tokio::test]
    async fn a_full_backlog_times_out() {
        let bench = Bench::new();
        // With a backlog of 0 Linux queues one connection and then answers no more.
        let socket = tokio::net::TcpSocket::new_v4().expect("made");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let listener = socket.listen(0).expect("listens");
        let address = listener.local_addr().expect("bound");
        let _queued = tokio::net::TcpStream::connect(address).await.expect("queued");
        let params = json!({ "host": "127.0.0.1", "port": address.port(), "timeout": "100ms" });
        let error = bench.run("tcp", params).await.expect_err("times out");
        assert!(error.message.contains("did not answer within 100 ms"), "{}", error.message);
    }

    #[tokio::test]
    async fn an_unknown_name_is_told_as_such() {
        let params = json!({ "host": "no-such-host.invalid", "port": 22 });
        let error = Bench::new().run("tcp", params).await.expect_err("unknown");
        assert!(error.message.contains("cannot be resolved"), "{}", error.message);
    }
}
