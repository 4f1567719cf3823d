//! What went wrong with a connection, told from what ssh wrote.

use engine::{ErrorClass, StepError, host::HostSpec};

/// Why a connection was not made; `log` is what ssh wrote.
pub(super) fn connect_error(spec: &HostSpec, log: &str) -> StepError {
    let (host, to) = (&spec.name, &spec.ssh);
    let known_hosts = spec.known_hosts.as_deref().unwrap_or("~/.ssh/known_hosts");
    let has = |text: &str| log.contains(text);
    let make = |class, message: String, hint: String| StepError::new(class, message).hint(hint);
    let on_the_way = on_the_way(log);
    let who = if on_the_way {
        format!("a jump host on the way to host `{host}` (`{to}`)")
    } else {
        format!("host `{host}` (`{to}`)")
    };
    let at = if on_the_way { "JUMP_HOST" } else { host_part(to) };
    let error = if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        make(
            ErrorClass::Denied,
            format!("{who} shows another host key than `{known_hosts}` holds"),
            format!("if it was set up anew: ssh-keygen -f {known_hosts} -R {at}"),
        )
    } else if has("Host key verification failed") || has("host key is known for") {
        let named = between(log, "host key is known for ", " and you").unwrap_or(at);
        make(
            ErrorClass::Denied,
            format!("the host key of {who} is not in `{known_hosts}`"),
            format!("{} >> {known_hosts}, then compare: ssh-keygen -lf {known_hosts}", keyscan(named)),
        )
    } else if has("UNPROTECTED PRIVATE KEY FILE") || has("bad permissions") {
        let key = spec.identity.as_deref().unwrap_or("~/.ssh/id_ed25519");
        make(
            ErrorClass::Denied,
            format!("the private key for `{host}` may be read by others, so ssh does not use it"),
            format!("chmod 600 {key}"),
        )
    } else if let Some(ways) =
        between(log, "Permission denied (", ")").filter(|ways| !ways.contains("publickey"))
    {
        make(
            ErrorClass::Denied,
            format!("{who} lets nobody in without a question ({ways}), and a run never asks"),
            "let it accept keys: PubkeyAuthentication yes in its sshd_config".into(),
        )
    } else if has("Permission denied") || has("Too many authentication failures") {
        make(
            ErrorClass::Denied,
            format!("{who} refused the login"),
            format!(
                "ssh -v {to} true; install your key with: ssh-copy-id {to}; hand one with a passphrase to an agent: ssh-add"
            ),
        )
    } else if has("Could not resolve hostname") {
        make(
            ErrorClass::Unreachable,
            format!("the name of {who} cannot be resolved"),
            format!("getent hosts {at}; ssh -G {to} | grep -i ^hostname"),
        )
    } else if has("Connection refused") {
        make(
            ErrorClass::Unreachable,
            format!("{who} refused the connection: no ssh server listens there"),
            format!("on the host: systemctl status ssh; from here: ssh -v {to} true"),
        )
    } else if has("timed out") || has("No route to host") || has("Network is unreachable") {
        make(
            ErrorClass::Unreachable,
            format!("{who} does not answer"),
            format!("ping -c 3 {at}; ssh -v {to} true"),
        )
    } else if has("Bad configuration option")
        || has("Can't open user config file")
        || has("bad configuration")
    {
        make(
            ErrorClass::Invalid,
            format!("the ssh configuration for `{host}` cannot be used"),
            format!("ssh -G {to}"),
        )
    } else {
        make(
            ErrorClass::Unreachable,
            format!("cannot connect to host `{host}` (`{to}`)"),
            format!("ssh -v {to} true"),
        )
    };
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].iter().fold(error, |error, line| error.detail(*line))
}

/// Whether a jump host, or another program that makes the connection, is to blame: so ssh says of an end that it does not see
/// the address of.
pub(super) fn on_the_way(log: &str) -> bool {
    log.contains("UNKNOWN port 65535")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// The command that asks a host for its keys, by the name under which `known_hosts` has it.
fn keyscan(named: &str) -> String {
    match named.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((host, port)) => format!("ssh-keyscan -p {port} {host}"),
        None => format!("ssh-keyscan {named}"),
    }
}

/// The connection broke while a command may have run.
pub(super) fn lost(spec: &HostSpec, program: &str, why: &str) -> StepError {
    StepError::new(
        ErrorClass::Unreachable,
        format!("the connection to host `{}` broke while `{program}` ran", spec.name),
    )
    .hint(format!("ssh -v {} true", spec.ssh))
    .detail(why)
    .unknown_outcome()
}

/// The host part of an ssh destination.
pub(super) fn host_part(destination: &str) -> &str {
    let rest = destination.strip_prefix("ssh://").unwrap_or(destination);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if !destination.starts_with("ssh://") {
        return rest;
    }
    if let Some((host, _)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    rest.rsplit_once(':').map_or(rest, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::{connect_error, host_part};
    use engine::{ErrorClass, host::HostSpec};

    #[test]
    fn each_failure_of_ssh_has_its_own_class_and_hint() {
        let spec = HostSpec {
            name: "nas".into(),
            ssh: "ssh://media@10.0.0.2:2222".into(),
            known_hosts: None,
            config: None,
            identity: None,
            vars: serde_json::Map::new(),
        };
        let cases = [
            (
                "ssh: connect to host 10.0.0.2 port 2222: Connection refused",
                ErrorClass::Unreachable,
                "listens",
            ),
            (
                "ssh: connect to host 10.0.0.2 port 2222: Connection timed out",
                ErrorClass::Unreachable,
                "answer",
            ),
            ("ssh: connect to host 10.0.0.2 port 2222: No route to host", ErrorClass::Unreachable, "answer"),
            (
                "ssh: Could not resolve hostname nas: Name or service not known",
                ErrorClass::Unreachable,
                "resolved",
            ),
            (
                "No ED25519 host key is known for 10.0.0.2 and you have requested strict checking.\r\nHost key verification failed.",
                ErrorClass::Denied,
                "host key",
            ),
            ("media@10.0.0.2: Permission denied (publickey,password).", ErrorClass::Denied, "login"),
            ("Connection closed by 10.0.0.2 port 2222", ErrorClass::Unreachable, "cannot connect"),
        ];
        for (log, class, word) in cases {
            let error = connect_error(&spec, log);
            assert_eq!(error.class, class, "{log}");
            assert!(error.message.contains(word) && error.hint.is_some(), "{error:?}");
        }
    }

    #[test]
    fn the_host_is_found_in_every_kind_of_destination() {
        for (destination, host) in [
            ("nas", "nas"),
            ("me@nas", "nas"),
            ("ssh://nas", "nas"),
            ("ssh://me@nas:22", "nas"),
            ("ssh://me@[fe80::1]:22", "fe80::1"),
        ] {
            assert_eq!(host_part(destination), host, "{destination}");
        }
    }
}
