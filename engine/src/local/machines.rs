//! Which machines an effect concerns. A host is a name, and what it leads to can change between an effect and its undo:
//! an undo acts only on the machine on which the effect was.

use crate::{
    error::StepError,
    event::{Intent, UndoMethod},
    host::Cancel,
    step::{ParamsView, Services},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The hosts on which a step of this type acts, this machine left out.
fn hosts(services: &Services, kind: &str, params: &Value, on: Option<&str>) -> BTreeSet<String> {
    let known = BTreeSet::new();
    let param =
        services.registry.get(kind).and_then(|kind| kind.host_param(&ParamsView::new(params, &known)));
    let other = param.and_then(|param| params.get(param)?.as_str().map(str::to_owned));
    on.map(str::to_owned).into_iter().chain(other).filter(|name| name != "local").collect()
}

/// The machines that an attempt and its undo concern, by the names of their hosts, as they are now.
///
/// # Errors
/// The host of the step itself does not tell. One that only a written undo needs is not asked for in vain: it may be
/// there when it is needed.
pub(super) async fn of(
    services: &Services,
    kind: &str,
    params: &Value,
    on: Option<&str>,
    undo: &UndoMethod,
    cancel: &Cancel,
) -> Result<BTreeMap<String, String>, StepError> {
    let mut machines = BTreeMap::new();
    let own = hosts(services, kind, params, on);
    for name in &own {
        machines.extend(identity(services, name, cancel).await?.map(|machine| (name.clone(), machine)));
    }
    if let UndoMethod::Written(written) = undo {
        for name in hosts(services, &written.kind, &written.params, written.on.as_deref()) {
            if !own.contains(&name)
                && let Ok(Some(machine)) = identity(services, &name, cancel).await
            {
                machines.insert(name, machine);
            }
        }
    }
    Ok(machines)
}

/// What is to be done about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The step itself looks.
    Look,
    /// It is taken back, perhaps by another step.
    Undo,
}

/// Why the effect of an intent is out of reach: a host that this needs leads to another machine now.
///
/// # Errors
/// A host does not answer.
pub(super) async fn changed(
    services: &Services,
    kind: &str,
    intent: &Intent,
    act: Act,
    cancel: &Cancel,
) -> Result<Option<String>, StepError> {
    let names = match &intent.undo {
        UndoMethod::Written(undo) if act == Act::Undo => {
            hosts(services, &undo.kind, &undo.params, undo.on.as_deref())
        }
        _ => hosts(services, kind, &intent.params, intent.on.as_deref()),
    };
    for name in names {
        // A run of an older version has none.
        let Some(before) = intent.machines.get(&name) else { continue };
        let now = identity(services, &name, cancel).await?;
        if now.as_ref() != Some(before) {
            let now = now.as_deref().unwrap_or("one without an identity");
            return Ok(Some(format!(
                "host `{name}` leads to another machine now, `{now}`, where nothing was done; it was `{before}`"
            )));
        }
    }
    Ok(None)
}

async fn identity(services: &Services, name: &str, cancel: &Cancel) -> Result<Option<String>, StepError> {
    services.host(Some(name)).await?.identity(cancel).await
}
