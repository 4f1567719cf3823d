//! What the steps of a run share.

use crate::{failure::Failure, out::Out};
use engine::{
    Registry,
    expr::Outside,
    host::HostSpec,
    local::LocalOutside,
    local::process::{LocalHost, end_steps},
    local::secrets,
    plan::Plan,
    report::escape,
    step::Services,
};
use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use steps::ssh_host::{SshConnector, end_connections};
use tokio::{runtime::Runtime, sync::Mutex};

/// The working directory.
pub(crate) fn working_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::environment(format!("cannot tell the working directory: {error}")))
}

/// What expressions may read.
pub(crate) fn outside(dir: &Path) -> Arc<dyn Outside> {
    Arc::new(LocalOutside::new(dir))
}

/// The runtime on which steps run.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment(format!("cannot start threads: {error}")))
}

/// How many local steps may work at once if nobody says so: the number of cores.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// The services of a plan's run, with `scratch` as its private folder, which is made.
pub(crate) fn services(plan: &Plan, registry: &Registry, scratch: &Path) -> Result<Arc<Services>, Failure> {
    with_connector(plan, registry, scratch, |connector| connector)
}

/// The same for a run whose owner died.
pub(crate) fn services_after_a_death(
    plan: &Plan,
    registry: &Registry,
    scratch: &Path,
) -> Result<Arc<Services>, Failure> {
    with_connector(plan, registry, scratch, SshConnector::after_a_death)
}

fn with_connector(
    plan: &Plan,
    registry: &Registry,
    scratch: &Path,
    set: impl FnOnce(SshConnector) -> SshConnector,
) -> Result<Arc<Services>, Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(scratch).map_err(|error| {
        Failure::environment(format!("cannot make the folder `{}`: {error}", scratch.display()))
    })?;
    let hosts: BTreeMap<String, HostSpec> =
        plan.hosts.iter().map(|host| (host.name.clone(), host.clone())).collect();
    Ok(Arc::new(Services {
        registry: registry.clone(),
        local: Arc::new(LocalHost::of_run(&plan.run.id)),
        connector: Arc::new(set(SshConnector::new(scratch.join("ssh")).of_run(&plan.run.id))),
        hosts,
        open: Mutex::default(),
        run: plan.run.clone(),
        scratch: scratch.to_owned(),
        resident: Mutex::default(),
        secrets: Arc::new(secrets::find(&plan.secrets)),
    }))
}

/// Secrets that are not there stop a run before it begins, all of them named at once.
pub(crate) fn require_secrets(plan: &Plan, out: &Out) -> Result<(), Failure> {
    let missing: Vec<_> = secrets::find(&plan.secrets).missing().map(|(_, error)| error.clone()).collect();
    for error in &missing {
        out.error(&escape(&error.message));
        if let Some(hint) = &error.hint {
            out.hint(&escape(hint));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::told()) }
}

/// Goes where a run was started: its relative paths count from there.
pub(crate) fn enter(plan: &Plan, out: &Out) {
    if let Err(error) = std::env::set_current_dir(&plan.run.dir) {
        let dir = escape(&plan.run.dir).into_owned();
        out.warning(&format!("cannot enter `{dir}`, where the run was started: {error}"));
    }
}

/// Ends what a dead run left running: commands of its steps, and connections to hosts.
pub(crate) fn end_remains(plan: &Plan, scratch: &Path) -> Result<(), Failure> {
    let control = scratch.join("ssh");
    let ended = runtime()?.block_on(async {
        end_connections(&control).await;
        end_steps(&plan.run.id).await
    });
    ended.map_err(|error| {
        let failure = Failure::environment(error.message);
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let _gone = std::fs::remove_dir_all(&control);
    Ok(())
}
