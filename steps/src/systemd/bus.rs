//! The service manager over D-Bus: state in under a millisecond, jobs to their end, changes by signal.

use super::{
    facts::{Facts, OF_SERVICES, OF_UNITS},
    unit::Scope,
};
use crate::watch::AT_THE_NEXT_LOOK;
use engine::{
    ErrorClass, StepError,
    degraded::Degraded,
    host::{BoxFuture, Cancel},
    step::{Changes, Context},
};
use futures_util::StreamExt as _;
use std::{collections::HashMap, path::Path};
use zbus::{
    Connection, DBusError as _, Error, ObjectPath, OwnedObjectPath, Variant, conn,
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
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    fn subscribe(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

/// What systemd says to who asks a second time to be told.
const ALREADY: &str = "org.freedesktop.systemd1.AlreadySubscribed";
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
        match Self::connect(scope).await {
            Ok(connection) => Some(Self { connection }),
            Err(error) => {
                cx.services.degraded.note(Degraded {
                    what: format!("no bus of the service manager: {error}"),
                    means: format!("`systemctl` is asked instead; {AT_THE_NEXT_LOOK}"),
                });
                None
            }
        }
    }

    async fn connect(scope: Scope) -> zbus::Result<Connection> {
        let builder = match scope {
            Scope::System => conn::Builder::system(),
            Scope::User => {
                let folder = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
                let socket = Path::new(&folder).join("bus");
                conn::Builder::address(format!("unix:path={}", socket.display()).as_str())
            }
        };
        builder.build().await
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

    /// The units' properties, in the order of the names.
    pub(super) async fn facts(&self, names: &[String]) -> Result<Vec<Facts>, StepError> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let facts = self.ask(name).await;
            found.push(facts.map_err(|error| explain(&format!("look at `{name}`"), error))?);
        }
        Ok(found)
    }

    async fn ask(&self, name: &str) -> zbus::Result<Facts> {
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
        let wanted = unit.into_iter().filter(|(key, _)| OF_UNITS.contains(&key.as_str()));
        let wanted = wanted.chain(service.into_iter().filter(|(key, _)| OF_SERVICES.contains(&key.as_str())));
        Ok(wanted
            .map(|(key, value)| {
                let text = as_shown(&key, &Variant::from(value));
                (key, text)
            })
            .collect())
    }

    /// Brings the unit there, and waits until the job of that is over.
    pub(super) async fn control(&self, verb: &str, name: &str, cancel: &Cancel) -> Result<(), Trouble> {
        let what = format!("{verb} `{name}`");
        let fail = |error: Error| Trouble::Error(explain(&what, error));
        let name = full(name);
        let manager = self.manager().await.map_err(fail)?;
        // Listened to before the job is made, for it may be over at once.
        let mut removed = manager.receive_job_removed().await.map_err(fail)?;
        subscribed(&manager).await.map_err(fail)?;
        // A unit at rest may be forgotten at once, and with it which condition was not met: held as long as this connection.
        let _refused = manager.ref_unit(&name).await;
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
        let manager = self.manager().await.ok()?;
        subscribed(&manager).await.ok()?;
        // By any of its names: word comes from the one that is its own.
        let path = manager.load_unit(&full(name)).await.ok()?;
        let changes = self.properties(path.as_ref()).await.ok()?.receive_properties_changed().await.ok()?;
        Some(Box::new(Signals { changes, _bus: self }))
    }
}

/// Asks systemd to tell of what happens. It refuses a second time on one connection: then it tells already.
async fn subscribed(manager: &ManagerProxy<'_>) -> zbus::Result<()> {
    match manager.subscribe().await {
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == ALREADY => Ok(()),
        other => other,
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

/// A property as `systemctl show` writes it. Conditions are those that did not hold, a line each, as a unit file has them.
fn as_shown(key: &str, value: &Variant<'_>) -> String {
    match value {
        Variant::Str(text) => text.as_str().to_owned(),
        Variant::ObjectPath(path) => path.as_str().to_owned(),
        Variant::Bool(truth) => (if *truth { "yes" } else { "no" }).to_owned(),
        Variant::U64(0) if key.ends_with("Timestamp") => String::new(),
        Variant::U64(micros) if key.ends_with("Timestamp") => format!("@{}", micros / 1_000_000),
        Variant::U64(number) => number.to_string(),
        Variant::I64(number) => number.to_string(),
        Variant::U32(number) => number.to_string(),
        Variant::I32(number) => number.to_string(),
        Variant::Array(items) => {
            let items = items.inner();
            if items.iter().all(|item| matches!(item, Variant::U8(_))) {
                return items.iter().map(|item| as_shown(key, item)).collect();
            }
            let texts = items.iter().map(|item| as_shown(key, item)).filter(|text| !text.is_empty());
            let parted_by = if matches!(items.first(), Some(Variant::Structure(_))) { "\n" } else { " " };
            texts.collect::<Vec<_>>().join(parted_by)
        }
        Variant::U8(byte) => format!("{byte:02x}"),
        Variant::Structure(fields) => match fields.fields() {
            // The type, whether it is one of several, whether it is turned round, what it is about, and how it went.
            [
                Variant::Str(kind),
                Variant::Bool(any),
                Variant::Bool(not),
                Variant::Str(of),
                Variant::I32(went),
            ] => {
                let (any, not) = (if *any { "|" } else { "" }, if *not { "!" } else { "" });
                if *went < 0 { format!("{kind}={any}{not}{of}") } else { String::new() }
            }
            // A job, with its number and path; a pair of words.
            fields => fields.first().map(|first| as_shown(key, first)).unwrap_or_default(),
        },
        _ => String::new(),
    }
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
    use super::{as_shown, full};
    use zbus::{ObjectPath, Variant};

    #[test]
    fn a_name_without_an_ending_is_a_service() {
        assert_eq!(full("ssh"), "ssh.service");
        assert_eq!(full("a.b"), "a.b.service");
        assert_eq!(full("-.mount"), "-.mount");
    }

    #[test]
    fn properties_are_written_as_systemctl_does() {
        let shown = |key: &str, value: Variant<'_>| as_shown(key, &value);
        assert_eq!(shown("Transient", Variant::from(true)), "yes");
        assert_eq!(shown("StateChangeTimestamp", Variant::from(1_737_627_300_000_001_u64)), "@1737627300");
        assert_eq!(shown("ActiveEnterTimestampMonotonic", Variant::from(7_u64)), "7");
        assert_eq!(shown("Wants", Variant::from(vec!["a.service", "b.socket"])), "a.service b.socket");
        assert_eq!(shown("InvocationID", Variant::from(vec![0x0a_u8, 0xff])), "0aff");
        let job = (12_u32, ObjectPath::try_from("/org/freedesktop/systemd1/job/12").expect("a path"));
        assert_eq!(shown("Job", Variant::from(job)), "12");
        let conditions = vec![
            ("ConditionPathExists", false, true, "/x", -1_i32),
            ("ConditionUser", false, false, "root", 1),
        ];
        assert_eq!(shown("Conditions", Variant::from(conditions)), "ConditionPathExists=!/x");
    }
}
