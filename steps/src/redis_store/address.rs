//! Where the server is: for the connection with its secrets, for people without.

use super::Params;
use crate::word::shell;
use engine::{ErrorClass, StepError, secret, step::Context};
use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use std::fmt::Write as _;

/// The server as messages name it, and as `redis-cli` is told of it. Made from the parameters as the playbook has them,
/// where secrets are only named; user and password are left out even so.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Such as `redis://127.0.0.1:6379/0`.
    pub(super) label: String,
    /// A command line up to the command, such as `redis-cli -u redis://127.0.0.1:6379/0`.
    cli: String,
    /// Whose certificates, for a hint: `HOST:PORT` of a TLS address.
    pub(super) tls: Option<String>,
}

impl Place {
    pub(super) fn of(params: &Params) -> Self {
        let (scheme, rest) = params.url.split_once("://").unwrap_or(("", &params.url));
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let (path, query) = path.split_once(['?', '#']).unwrap_or((path, ""));
        let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let unix = scheme.ends_with("unix");
        let user = params.user.as_deref().or(match unix {
            true => asked("user"),
            false => login.and_then(|login| login.split(':').next()).filter(|user| !user.is_empty()),
        });
        let password = params.password.is_some()
            || login.is_some_and(|login| login.contains(':'))
            || (unix && asked("pass").is_some());
        let mut cli = "redis-cli".to_owned();
        let mut tls = None;
        let label = if secret::is_marked(host) || secret::is_marked(path) || scheme.is_empty() {
            // The address itself is a secret: who may know it puts it there.
            cli.push_str(" -u \"$REDIS_URL\"");
            format!("{scheme}{}{host}{path}", if scheme.is_empty() { "" } else { "://" })
        } else if unix {
            let _cannot_fail = write!(cli, " -s {}", shell(path));
            if let Some(db) = asked("db") {
                let _cannot_fail = write!(cli, " -n {}", shell(db));
            }
            format!("{scheme}://{path}")
        } else {
            let label = format!("{scheme}://{host}{path}");
            let _cannot_fail = write!(cli, " -u {}", shell(&label));
            if scheme == "rediss" {
                tls = Some(if host.contains(':') { host.to_owned() } else { format!("{host}:6379") });
            }
            label
        };
        if let Some(ca) = &params.ca {
            let _cannot_fail = write!(cli, " --cacert {}", shell(ca));
        }
        if let Some(user) = user.filter(|user| !secret::is_marked(user)) {
            let _cannot_fail = write!(cli, " --user {}", shell(user));
        }
        if password {
            cli.push_str(" --askpass");
        }
        Self { label, cli, tls }
    }

    /// A `redis-cli` line that a person can type; it asks for the password, if there is one.
    pub(super) fn type_in(&self, argv: &[&str]) -> String {
        let words: Vec<String> = argv.iter().map(|word| shell(word)).collect();
        format!("{} {}", self.cli, words.join(" "))
    }

    /// The same for arguments of any bytes: what cannot be typed goes as hex digits into a script.
    pub(super) fn type_bytes(&self, argv: &[&[u8]]) -> String {
        let typed: Option<Vec<&str>> = argv.iter().map(|word| typeable(word)).collect();
        if let Some(words) = typed {
            return self.type_in(&words);
        }
        let hex: Vec<String> = argv.iter().map(|word| crate::hex::hex(word)).collect();
        let mut line = vec!["EVAL", FROM_HEX, "0"];
        line.extend(hex.iter().map(String::as_str));
        self.type_in(&line)
    }
}

/// Runs the command whose words are given as hex digits.
const FROM_HEX: &str = "local a={} for i=1,#ARGV do a[i]=ARGV[i]:gsub(\"..\",function(h) return \
                        string.char(tonumber(h,16)) end) end return redis.call(unpack(a))";

/// Text on one line that is no burden on a terminal.
fn typeable(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok().filter(|text| text.len() <= 1_024 && !text.chars().any(char::is_control))
}

/// What a connection is made of; holds secrets.
pub(super) struct Address {
    pub(super) to: ConnectionAddr,
    pub(super) login: RedisConnectionInfo,
    /// The URL says which protocol to speak, so no other is tried.
    pub(super) fixed_protocol: bool,
}

impl Address {
    /// # Errors
    /// The URL is none of a Redis server, or a secret was not found.
    pub(super) fn of(cx: &Context, params: &Params, place: &Place) -> Result<Self, StepError> {
        let url = cx.reveal(&params.url)?;
        let fixed_protocol = url.expose().contains("protocol=");
        // The library's own words could quote the URL, and with it a secret.
        let info = url.expose().into_connection_info().map_err(|_| {
            StepError::new(
                ErrorClass::Invalid,
                format!("`url` `{}` is no address of a Redis server", place.label),
            )
            .hint(
                "expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH; put a password with special \
                 characters into `password`",
            )
        })?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(StepError::new(
                ErrorClass::Invalid,
                format!("`url` `{}`: TLS without a check of the certificate is not supported", place.label),
            )
            .hint("name the server's certificate authority with `ca`"));
        }
        if params.ca.is_some() && !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(StepError::new(
                ErrorClass::Invalid,
                format!("`ca` goes with a `rediss://` address, found `{}`", place.label),
            ));
        }
        let mut login = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(user) = &params.user {
            login = login.set_username(cx.reveal(user)?.expose());
        }
        if let Some(password) = &params.password {
            login = login.set_password(cx.reveal(password)?.expose());
        }
        if !fixed_protocol {
            login = login.set_protocol(ProtocolVersion::RESP3);
        }
        Ok(Self { to: info.addr().clone(), login, fixed_protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::{redis_store::Params, word::shell};
    use engine::secret::mark;
    use serde_json::json;

    fn place(params: serde_json::Value) -> Place {
        let params: Params = serde_json::from_value(params).expect("parameters");
        Place::of(&params)
    }

    #[test]
    fn a_command_for_people_holds_the_address_and_no_secret() {
        for (params, line) in [
            (json!({ "url": "redis://h:6379/2" }), "redis-cli -u redis://h:6379/2 DEL 'a b'"),
            (
                json!({ "url": "redis://bob:pw@h/0" }),
                "redis-cli -u redis://h/0 --user bob --askpass DEL 'a b'",
            ),
            (json!({ "url": "redis://:p%40w@h" }), "redis-cli -u redis://h --askpass DEL 'a b'"),
            (
                json!({ "url": "unix:///run/r.sock?db=3&pass=x" }),
                "redis-cli -s /run/r.sock -n 3 --askpass DEL 'a b'",
            ),
            (
                json!({ "url": "rediss://h:1", "ca": "/etc/我的 ca.pem", "password": mark("pw"), "user": "u" }),
                "redis-cli -u rediss://h:1 --cacert '/etc/我的 ca.pem' --user u --askpass DEL 'a b'",
            ),
            (
                json!({ "url": format!("redis://:{}@h:7/1", mark("pw")) }),
                "redis-cli -u redis://h:7/1 --askpass DEL 'a b'",
            ),
            (json!({ "url": mark("url") }), "redis-cli -u \"$REDIS_URL\" DEL 'a b'"),
        ] {
            assert_eq!(place(params.clone()).type_in(&["DEL", "a b"]), line, "{params}");
        }
        assert_eq!(place(json!({ "url": "rediss://h/0" })).tls.as_deref(), Some("h:6379"));
    }

    #[test]
    fn bytes_that_cannot_be_typed_go_as_hex() {
        let place = place(json!({ "url": "redis://h" }));
        assert_eq!(place.type_bytes(&[b"SET", "键".as_bytes(), b"v"]), "redis-cli -u redis://h SET '键' v");
        let line = place.type_bytes(&[b"SET", b"k", b"\xff\n"]);
        assert!(
            line.starts_with("redis-cli -u redis://h EVAL ") && line.ends_with(" 0 534554 6b ff0a"),
            "{line}"
        );
        assert_eq!(shell("it's"), "'it'\\''s'");
    }
}
