//! Where the server is: for the connection with its secrets, for people without.

use super::Params;
use crate::word::shell;
use engine::{ErrorClass, StepError, secret::is_marked, step::Context};
use std::path::Path;
use tokio_postgres::config::{Config, Host, SslMode};

/// Where servers of Debian and Red Hat have their socket.
const SOCKETS: &str = "/var/run/postgresql";
/// What the library does not know by name, and stands for "encrypted, and the certificate is checked" here.
const CHECKED: [&str; 2] = ["verify-full", "verify-ca"];

/// The server as messages name it, and as `psql` is told of it. Made from the parameters as the playbook has them,
/// where secrets are only named; the password is left out even so.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Such as `postgres://127.0.0.1:5432/media`.
    pub(super) label: String,
    /// A command line up to the command, such as `psql -h 127.0.0.1 -p 5432 -U me -d media`.
    psql: String,
    /// `HOST:PORT`, for a look at its certificate.
    pub(super) peer: String,
}

/// The address without what only `verify-full` says, and whether it says how to encrypt.
fn split(url: &str) -> (String, Option<String>) {
    let starts = |at: &usize| url[..*at].ends_with(|c: char| "?& \t\n'".contains(c)) || *at == 0;
    let Some(at) = url.match_indices("sslmode=").map(|(at, _)| at).find(starts) else {
        return (url.to_owned(), None);
    };
    let from = at + "sslmode=".len();
    let end = url[from..].find(|c: char| c == '&' || c.is_whitespace()).map_or(url.len(), |end| from + end);
    let mode = url[from..end].trim_matches('\'').to_owned();
    let known = if CHECKED.contains(&mode.as_str()) { "require" } else { &mode };
    (format!("{}{known}{}", &url[..from], &url[end..]), Some(mode))
}

fn parse(url: &str) -> Option<(Config, Option<String>)> {
    let (url, mode) = split(url);
    let mut config: Config = url.parse().ok()?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host_path(SOCKETS);
    }
    Some((config, mode))
}

fn hosts(config: &Config) -> Vec<String> {
    if config.get_hosts().is_empty() {
        return config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let name = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    config.get_hosts().iter().map(name).collect()
}

fn is_socket(host: &str) -> bool {
    Path::new(host).is_absolute()
}

/// How the connection is encrypted. Whatever is encrypted is checked against the certificates that are trusted.
fn encryption(config: &Config, mode: Option<&str>, ca: bool) -> SslMode {
    let hosts = hosts(config);
    let here = |host: &String| {
        is_socket(host)
            || host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    match mode {
        // Sockets know no encryption.
        _ if hosts.iter().all(|host| is_socket(host)) => SslMode::Disable,
        Some(_) => config.get_ssl_mode(),
        None if ca => SslMode::Require,
        None if hosts.iter().all(here) => SslMode::Disable,
        None => SslMode::Prefer,
    }
}

impl Place {
    pub(super) fn of(params: &Params) -> Self {
        let parsed = parse(&params.url).filter(|(config, _)| {
            let told = [hosts(config).join(","), config.get_dbname().unwrap_or_default().to_owned()];
            !told.iter().any(|text| is_marked(text))
        });
        let Some((config, mode)) = parsed else {
            // The address itself is a secret, or none: who may know it puts it there.
            let label = if is_marked(&params.url) { "the server of `url`" } else { "the `url`" };
            return Self {
                label: label.to_owned(),
                psql: "psql \"$DATABASE_URL\"".into(),
                peer: "HOST:PORT".into(),
            };
        };
        let hosts = hosts(&config);
        let port = config.get_ports().first().copied().unwrap_or(5_432);
        let database = config.get_dbname();
        let label = match is_socket(&hosts[0]) {
            true => format!("postgres:{}/.s.PGSQL.{port}", hosts[0]),
            false => format!("postgres://{}:{port}", hosts.join(",")),
        };
        let label = database.map_or(label.clone(), |database| format!("{label}/{database}"));
        let mut psql = String::new();
        match encryption(&config, mode.as_deref(), params.ca.is_some()) {
            SslMode::Disable if !is_socket(&hosts[0]) && mode.is_some() => {
                psql.push_str("PGSSLMODE=disable ")
            }
            SslMode::Require => psql.push_str("PGSSLMODE=verify-full "),
            _ => {}
        }
        if let Some(ca) = &params.ca {
            psql.push_str(&format!("PGSSLROOTCERT={} ", shell(ca)));
        }
        let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
        let ports = if ports.is_empty() { "5432".to_owned() } else { ports.join(",") };
        psql.push_str(&format!("psql -h {} -p {ports}", shell(&hosts.join(","))));
        if let Some(user) = params.user.as_deref().or(config.get_user()).filter(|user| !is_marked(user)) {
            psql.push_str(&format!(" -U {}", shell(user)));
        }
        if let Some(database) = database {
            psql.push_str(&format!(" -d {}", shell(database)));
        }
        Self { label, psql, peer: format!("{}:{port}", hosts[0]) }
    }

    /// A `psql` line that a person can type; it asks for the password, if the server wants one.
    pub(super) fn type_in(&self, sql: &str) -> String {
        format!("{} -c {}", self.psql, shell(sql))
    }

    /// The same to the database that every server has.
    pub(super) fn type_in_other(&self, sql: &str) -> String {
        let psql = self.psql.split(" -d ").next().unwrap_or(&self.psql);
        format!("{psql} -d postgres -c {}", shell(sql))
    }
}

/// Whose certificate is looked at, as a word for the shell.
pub(super) fn shell_peer(place: &Place) -> String {
    shell(&place.peer)
}

/// What a connection is made of; holds secrets.
///
/// # Errors
/// The address is none of a PostgreSQL server, or a secret was not found.
pub(super) fn config(cx: &Context, params: &Params, place: &Place) -> Result<Config, StepError> {
    let invalid = |message: String| StepError::new(ErrorClass::Invalid, message);
    let url = cx.reveal(&params.url)?;
    if let (_, Some(mode)) = split(&params.url)
        && mode == "allow"
    {
        return Err(invalid("`sslmode=allow` is not supported".into())
            .hint("expected `disable`, `prefer`, `require` or `verify-full`"));
    }
    // The library's own words could quote the address, and with it a secret.
    let (mut config, mode) = parse(url.expose()).ok_or_else(|| {
        invalid(format!("`url`: {} is no address of a PostgreSQL server", place.label)).hint(
            "expected postgres://USER@HOST:PORT/DATABASE, postgres:///DATABASE?host=/SOCKET/FOLDER or \
             'host=HOST dbname=DATABASE user=USER'; put a password with special characters into `password`, and \
             `sslrootcert` into `ca`",
        )
    })?;
    let encryption = encryption(&config, mode.as_deref(), params.ca.is_some());
    if params.ca.is_some() && encryption == SslMode::Disable {
        return Err(invalid(format!(
            "`ca` goes with an encrypted connection, and `{}` has none",
            place.label
        )));
    }
    config.ssl_mode(encryption);
    if let Some(user) = &params.user {
        config.user(cx.reveal(user)?.expose());
    }
    if let Some(password) = &params.password {
        config.password(cx.reveal(password)?.expose());
    }
    // For each address; all of them together have the limit of the connection.
    config.connect_timeout(params.connect_timeout.duration());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::{Place, encryption, parse};
    use crate::postgres::Params;
    use engine::secret::mark;
    use serde_json::json;
    use tokio_postgres::config::SslMode;

    fn place(params: serde_json::Value) -> Place {
        let params: Params = serde_json::from_value(params).expect("parameters");
        Place::of(&params)
    }

    #[test]
    fn a_command_for_people_holds_the_address_and_no_secret() {
        for (params, line) in [
            (json!({ "url": "postgres://bob:pw@h:7/媒体" }), "psql -h h -p 7 -U bob -d '媒体' -c 'SELECT 1'"),
            (
                json!({ "url": format!("postgresql://bob:{}@h/d", mark("pw")) }),
                "psql -h h -p 5432 -U bob -d d -c 'SELECT 1'",
            ),
            (
                json!({ "url": "postgres:///d?host=/run/pg", "user": "u" }),
                "psql -h /run/pg -p 5432 -U u -d d -c 'SELECT 1'",
            ),
            (json!({ "url": "postgres:///d" }), "psql -h /var/run/postgresql -p 5432 -d d -c 'SELECT 1'"),
            (
                json!({ "url": "host=h port=1 dbname=d password='a b' sslmode=verify-full", "ca": "/etc/我的 ca.pem" }),
                "PGSSLMODE=verify-full PGSSLROOTCERT='/etc/我的 ca.pem' psql -h h -p 1 -d d -c 'SELECT 1'",
            ),
            (json!({ "url": mark("url") }), "psql \"$DATABASE_URL\" -c 'SELECT 1'"),
            (json!({ "url": format!("postgres://{}/d", mark("h")) }), "psql \"$DATABASE_URL\" -c 'SELECT 1'"),
        ] {
            assert_eq!(place(params.clone()).type_in("SELECT 1"), line, "{params}");
        }
        assert_eq!(place(json!({ "url": "postgres://u:p@h:1/d" })).label, "postgres://h:1/d");
        assert_eq!(
            place(json!({ "url": "postgres:///d" })).label,
            "postgres:/var/run/postgresql/.s.PGSQL.5432/d"
        );
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_where_the_server_can() {
        for (url, ca, wanted) in [
            ("postgres://127.0.0.1/d", false, SslMode::Disable),
            ("postgres://localhost/d", true, SslMode::Require),
            ("postgres://127.0.0.1/d?sslmode=require", false, SslMode::Require),
            ("postgres://127.0.0.1/d?sslmode=verify-ca&keepalives=1", false, SslMode::Require),
            ("postgres://h/d", false, SslMode::Prefer),
            ("postgres://h/d?sslmode=disable", false, SslMode::Disable),
            ("postgres:///d?sslmode=require", false, SslMode::Disable),
            ("host=h sslmode='verify-full' dbname=d", false, SslMode::Require),
        ] {
            let (config, mode) = parse(url).expect(url);
            assert_eq!(encryption(&config, mode.as_deref(), ca), wanted, "{url}");
        }
        assert!(parse("http://h/").is_none() && parse("postgres://h/d?sslmode=no").is_none());
    }
}
