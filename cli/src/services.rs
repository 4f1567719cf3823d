//! What the steps of a run share.

use crate::{failure::Failure, out::Out};
use engine::{
    Registry, StepError,
    degraded::Degradations,
    expr::Outside,
    host::HostSpec,
    local::LocalOutside,
    local::process::{LocalHost, end_steps},
    local::secrets,
    plan::{Plan, probe_plan},
    report::escape,
    step::Services,
};
use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    ops::Deref,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Barrier, Mutex},
    thread,
    time::Duration,
};
use steps::ssh_host::{SshConnector, end_connections};
use tokio::runtime::Runtime;

/// The working directory.
pub(crate) fn working_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::environment(format!("cannot tell the working directory: {error}")))
}

/// What expressions may read.
pub(crate) fn outside(dir: &Path) -> Arc<dyn Outside> {
    Arc::new(LocalOutside::new(dir))
}

/// The runtime on which steps run. Who drops it waits for a moment only: a thread that looks at a file system which does
/// not answer may come back never, and all that must last is in the journal by then.
pub(crate) struct Workers(Option<Runtime>);

/// How long a thread may take to come back at the end.
const COME_BACK: Duration = Duration::from_millis(500);
/// How many threads are held for work that would hold up others. Where the system refuses more, what there is to do waits
/// for these.
const HELD: usize = 2;
/// How many files the runtime opens, and a few more.
const FILES: usize = 16;

impl Deref for Workers {
    type Target = Runtime;

    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("a runtime")
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(COME_BACK);
        }
    }
}

/// Starts threads.
pub(crate) fn runtime() -> Result<Workers, Failure> {
    let workers = cores();
    require_files().and_then(|()| require_threads(workers + HELD + 1)).map_err(|error| no_threads(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_keep_alive(Duration::from_secs(24 * 60 * 60))
        .enable_all()
        .build()
        .map_err(|error| no_threads(&error))?;
    let all_there = Arc::new(Barrier::new(HELD));
    runtime.block_on(async {
        let held: Vec<_> = (0..HELD)
            .map(|_| {
                let all_there = Arc::clone(&all_there);
                tokio::task::spawn_blocking(move || all_there.wait())
            })
            .collect();
        for one in held {
            let _came = one.await;
        }
    });
    Ok(Workers(Some(runtime)))
}

/// Whether as many files can be opened as the runtime takes for itself: without them it panics.
fn require_files() -> std::io::Result<()> {
    (0..FILES).map(|_| File::open("/dev/null")).collect::<Result<Vec<_>, _>>().map(drop)
}

/// Whether so many threads can be started. The runtime itself panics where they cannot.
fn require_threads(count: usize) -> std::io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let started: std::io::Result<Vec<_>> = (0..count)
        .map(|_| {
            let gate = Arc::clone(&gate);
            thread::Builder::new().spawn(move || drop(gate.lock()))
        })
        .collect();
    drop(closed);
    started?.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

pub(crate) fn no_threads(error: &std::io::Error) -> Failure {
    Failure::environment(format!("cannot start threads: {error}"))
        .hint("see how many there may be, and how many files: ulimit -u; ulimit -n")
}

/// How many local steps may work at once if nobody says so: the number of cores.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// The services of a plan's run, with `scratch` as its private folder, which is made.
pub(crate) fn services(plan: &Plan, registry: &Registry, scratch: &Path) -> Result<Arc<Services>, Failure> {
    make(scratch)?;
    Ok(Arc::new(with_connector(plan, registry, scratch, |connector| connector)))
}

/// Asks the system, read-only, what a plan foresees. Nothing is made or opened for writing, but for one thing: connections
/// to hosts need a folder for their sockets. It is made with the first of them, and gone when this is over.
pub(crate) fn look_ahead(plan: &mut Plan, registry: &Registry, dir: &Path) -> Result<(), Failure> {
    // The id of a run is nothing that others could guess.
    let scratch = std::env::temp_dir().join(format!("shakedown-plan-{}", plan.run.id));
    let services = services_to_look(plan, registry, &scratch);
    runtime()?.block_on(async {
        probe_plan(plan, services.clone(), outside(dir)).await;
        services.close().await;
    });
    let _never_made = std::fs::remove_dir_all(&scratch);
    Ok(())
}

fn services_to_look(plan: &Plan, registry: &Registry, scratch: &Path) -> Arc<Services> {
    let services = with_connector(plan, registry, scratch, SshConnector::without_groups);
    let local = Arc::new(LocalHost::without_groups(&plan.run.id));
    Arc::new(Services { local, looks_only: true, ..services })
}

/// The same for a run whose owner died.
pub(crate) fn services_after_a_death(
    plan: &Plan,
    registry: &Registry,
    scratch: &Path,
) -> Result<Arc<Services>, Failure> {
    make(scratch)?;
    Ok(Arc::new(with_connector(plan, registry, scratch, SshConnector::after_a_death)))
}

fn make(scratch: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(scratch).map_err(|error| {
        Failure::environment(format!("cannot make the folder `{}`: {error}", scratch.display()))
    })
}

fn with_connector(
    plan: &Plan,
    registry: &Registry,
    scratch: &Path,
    set: impl FnOnce(SshConnector) -> SshConnector,
) -> Services {
    let hosts: BTreeMap<String, HostSpec> =
        plan.hosts.iter().map(|host| (host.name.clone(), host.clone())).collect();
    Services {
        registry: registry.clone(),
        local: Arc::new(LocalHost::of_run(&plan.run.id)),
        connector: Arc::new(set(SshConnector::new(scratch.join("ssh")).of_run(&plan.run.id))),
        hosts,
        open: tokio::sync::Mutex::default(),
        run: plan.run.clone(),
        scratch: scratch.to_owned(),
        resident: tokio::sync::Mutex::default(),
        secrets: Arc::new(secrets::find(&plan.secrets)),
        degraded: Degradations::default(),
        looks_only: false,
    }
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

/// Ends what a dead run left running: commands of its steps, and connections to hosts.
pub(crate) fn end_remains(plan: &Plan, scratch: &Path) -> Result<(), Failure> {
    let control = scratch.join("ssh");
    let ended = runtime()?.block_on(async {
        end_connections(&control).await;
        end_steps(&plan.run.id).await.map_err(StepError::from)
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
