//! The service manager over D-Bus: state in under a millisecond, jobs to their end, changes by signal.

use super::unit::{Scope, Unit};
use engine::{
    ErrorClass, StepError,
    host::{BoxFuture, Cancel},
    step::{Changes, Context},
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use std::{collections::HashMap, path::Path};
use zbus::{
    Connection, DBusError as _, Error, ObjectPath, OwnedObjectPath, OwnedVariant, conn,
    fdo::{PropertiesChangedStream, PropertiesProxy},
    names::InterfaceName,
    proxy,
};

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn subscribe(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

/// The endings of names; a name without one is a service's.
const ENDINGS: [&str; 11] = [
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
];
/// The paths of units; what follows is the name, with all but letters and digits escaped.
const UNITS: &str = "/org/freedesktop/systemd1/unit/";

/// A connection to a service manager.
pub(super) struct Bus {
    connection: Connection,
}

/// Why something was not done.
pub(super) enum Trouble {
    /// The manager said no, or the connection broke.
    Error(StepError),
    /// The job ended otherwise than well: `failed`, `timeout`, `dependency`, `canceled`, `skipped`.
    Job(String),
}

impl Bus {
    /// The manager of this machine or of this user; none where there is no bus, and on other hosts, so that `systemctl` is
    /// asked, whose errors people know.
    pub(super) async fn open(cx: &Context, scope: Scope) -> Option<Self> {
        if !cx.host.is_local() || !Path::new("/run/systemd/system").exists() {
            return None;
        }
        let connection = match scope {
            Scope::System => conn::Builder::system().build().await.ok()?,
            Scope::User => {
                let folder = std::env::var_os("XDG_RUNTIME_DIR")?;
                let socket = Path::new(&folder).join("bus");
                conn::Builder::address(format!("unix:path={}", socket.to_str()?).as_str())
                    .build()
                    .await
                    .ok()?
            }
        };
        Some(Self { connection })
    }

    async fn manager(&self) -> zbus::Result<ManagerProxy<'static>> {
        ManagerProxy::builder(&self.connection).cache_properties(proxy::CacheProperties::No).build().await
    }

    async fn properties(&self, path: ObjectPath<'_>) -> zbus::Result<PropertiesProxy<'static>> {
        PropertiesProxy::builder(&self.connection)
            .destination("org.freedesktop.systemd1")
            .path(path.into_owned())
            .cache_properties(proxy::CacheProperties::No)
            .build()
            .await
    }

    /// The unit's state.
    pub(super) async fn show(&self, name: &str) -> Result<Unit, StepError> {
        self.ask(name).await.map_err(|error| explain(&format!("look at `{name}`"), error))
    }

    async fn ask(&self, name: &str) -> zbus::Result<Unit> {
        let name = full(name);
        // A unit that does not exist is loaded nonetheless, and says so.
        let path = self.manager().await?.load_unit(&name).await?;
        let properties = self.properties(path.as_ref()).await?;
        let unit = properties.get_all(interface("Unit")?).await?;
        // What ran last is known of services only.
        let service = match name.ends_with(".service") {
            true => properties.get_all(interface("Service")?).await?,
            false => HashMap::new(),
        };
        let text = |of: &HashMap<String, OwnedVariant>, key: &str| {
            of.get(key).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default().to_owned()
        };
        let number = |key: &str| service.get(key).and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
        let since = unit.get("StateChangeTimestamp").and_then(|value| u64::try_from(value).ok());
        let since = since.filter(|micros| *micros > 0).and_then(|micros| {
            let seconds = i64::try_from(micros / 1_000_000).ok()?;
            Timestamp::from_second(seconds).ok()
        });
        Ok(Unit {
            unit: text(&unit, "Id"),
            load_state: text(&unit, "LoadState"),
            active_state: text(&unit, "ActiveState"),
            sub_state: text(&unit, "SubState"),
            unit_file_state: text(&unit, "UnitFileState"),
            main_pid: number("MainPID"),
            result: text(&service, "Result"),
            exit_status: service
                .get("ExecMainStatus")
                .and_then(|value| i32::try_from(value).ok())
                .unwrap_or(0),
            n_restarts: number("NRestarts").into(),
            since: since.map(|since| since.to_string()),
        })
    }

    /// Brings the unit there, and waits until the job of that is over.
    pub(super) async fn control(&self, verb: &str, name: &str, cancel: &Cancel) -> Result<(), Trouble> {
        let what = format!("{verb} `{name}`");
        let fail = |error: Error| Trouble::Error(explain(&what, error));
        let name = full(name);
        let manager = self.manager().await.map_err(fail)?;
        // Listened to before the job is made, for it may be over at once.
        let mut removed = manager.receive_job_removed().await.map_err(fail)?;
        manager.subscribe().await.map_err(fail)?;
        let job = match verb {
            "start" => manager.start_unit(&name, "replace").await,
            "stop" => manager.stop_unit(&name, "replace").await,
            "restart" => manager.restart_unit(&name, "replace").await,
            "reload" => manager.reload_unit(&name, "replace").await,
            _ => return manager.reset_failed_unit(&name).await.map_err(fail),
        };
        let job = job.map_err(fail)?;
        loop {
            let signal = tokio::select! {
                signal = removed.next() => signal,
                () = cancel.cancelled() => {
                    let message = format!("{what}: stopped while systemd was at it");
                    return Err(Trouble::Error(StepError::new(ErrorClass::Cancelled, message).unknown_outcome()));
                }
            };
            let Some(signal) = signal else {
                let message = format!("{what}: the connection to the bus broke");
                return Err(Trouble::Error(
                    StepError::new(ErrorClass::Unreachable, message).unknown_outcome(),
                ));
            };
            let ended = signal.args().map_err(fail)?;
            if ended.job().as_str() == job.as_str() {
                return match *ended.result() {
                    "done" => Ok(()),
                    other => Err(Trouble::Job(other.to_owned())),
                };
            }
        }
    }

    /// Word of every change of the unit.
    pub(super) async fn changes(self, name: &str) -> Option<Box<dyn Changes>> {
        self.manager().await.ok()?.subscribe().await.ok()?;
        let path = ObjectPath::try_from(format!("{UNITS}{}", escaped(&full(name)))).ok()?;
        let changes = self.properties(path).await.ok()?.receive_properties_changed().await.ok()?;
        Some(Box::new(Signals { changes, _bus: self }))
    }
}

struct Signals {
    changes: PropertiesChangedStream,
    /// The subscription lasts as long as the connection.
    _bus: Bus,
}

impl Changes for Signals {
    fn next(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.changes.next().await.is_none() {
                // The bus is gone: from now on only the time between two looks counts.
                std::future::pending::<()>().await;
            }
        })
    }
}

fn interface(kind: &str) -> zbus::Result<InterfaceName<'static>> {
    InterfaceName::try_from(format!("org.freedesktop.systemd1.{kind}"))
}

fn full(name: &str) -> String {
    match ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        true => name.to_owned(),
        false => format!("{name}.service"),
    }
}

/// As systemd writes a name into a path: `_` and two hex digits for all but letters and digits, and for a digit at the
/// start.
fn escaped(name: &str) -> String {
    let one = |(at, byte): (usize, u8)| match byte {
        b'0'..=b'9' if at > 0 => char::from(byte).to_string(),
        b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    };
    name.bytes().enumerate().map(one).collect()
}

fn explain(what: &str, error: Error) -> StepError {
    let (name, words) = match &error {
        Error::MethodError(name, message, _) => {
            (name.as_str().to_owned(), message.clone().unwrap_or_default())
        }
        Error::FDO(error) => {
            (error.name().as_str().to_owned(), error.description().unwrap_or_default().to_owned())
        }
        _ => (String::new(), error.to_string()),
    };
    if name.is_empty() {
        return StepError::new(ErrorClass::Unreachable, format!("cannot {what}: {words}"))
            .hint("systemctl status dbus");
    }
    let class = match name.as_str() {
        "org.freedesktop.DBus.Error.AccessDenied"
        | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => ErrorClass::Denied,
        "org.freedesktop.systemd1.NoSuchUnit" => ErrorClass::NotFound,
        "org.freedesktop.DBus.Error.NoReply" | "org.freedesktop.DBus.Error.Timeout" => {
            ErrorClass::Unreachable
        }
        _ => ErrorClass::Exit,
    };
    let error = StepError::new(class, format!("cannot {what}: {}", words.trim_end_matches('.')));
    match class {
        ErrorClass::Denied => error.hint("run as root, or allow it by polkit"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{escaped, full};

    #[test]
    fn names_become_paths_as_systemd_makes_them() {
        assert_eq!(escaped(&full("media-sync-daemon")), "media_2dsync_2ddaemon_2eservice");
        assert_eq!(escaped("getty@tty1.service"), "getty_40tty1_2eservice");
        assert_eq!(escaped("9.mount"), "_39_2emount");
        assert_eq!(full("a.b"), "a.b.service");
    }
}
