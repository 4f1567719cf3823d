//! The process that holds one lab together (`tests/lab/keeper.sh`): its start, its end, and what a dead owner left.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{LIMIT, LabError, proc, stage, wait};

const SCRIPT: &str = include_str!("../../lab/keeper.sh");
const PREPARE: &str = include_str!("../../lab/prepare");
/// Each lab's folder and control group: this, the owner's process id and start time, and a count.
const PREFIX: &str = "shakedown-lab-";

#[derive(Debug)]
pub(crate) struct Keeper {
    name: String,
    folder: PathBuf,
    /// `unshare`, whose only child is the keeper. Its stdin is the lease.
    child: Child,
    pid: u32,
    stopped: bool,
}

impl Keeper {
    pub(crate) fn start() -> Result<Self, LabError> {
        let root = cached_root().map_err(LabError::Unavailable)?;
        sweep_dead();
        let name = next_name();
        let folder = std::env::temp_dir().join(&name);
        let made = fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| error.to_string());
        let child = made.and_then(|()| stage::make(&folder)).and_then(|()| spawn(&root, &folder, &name));
        let child = match child {
            Ok(child) => child,
            Err(problem) => {
                sweep(&name);
                return Err(LabError::Broken(problem));
            }
        };
        let mut keeper = Self { name, folder, pid: 0, child, stopped: false };
        let id = keeper.child.id();
        let found = wait::holds(LIMIT, || match proc::children(id).first() {
            Some(&pid) => {
                keeper.pid = pid;
                true
            }
            None => proc::is_dead(id),
        });
        if found && keeper.pid != 0 {
            return Ok(keeper);
        }
        let log = keeper.log();
        Err(LabError::Unavailable(format!("cannot make namespaces here: {}", log.trim())))
    }

    /// The id of the keeper itself.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The name of the lab's control group.
    pub(crate) fn group(&self) -> &str {
        &self.name
    }

    /// Process 1 of a box, once it is systemd; `not` is that of its life before.
    pub(crate) fn leader(&self, node: &str, not: Option<u32>) -> Result<u32, String> {
        let machine = format!("--machine={node}");
        let mut leader = None;
        wait::holds(LIMIT, || {
            let loops = proc::children(self.pid).into_iter();
            leader = loops
                .flat_map(proc::children)
                .filter(|&pid| proc::arguments(pid).contains(&machine))
                .flat_map(proc::children)
                // Before it becomes systemd it is nspawn itself, still on its way into the namespaces.
                .find(|&pid| proc::name(pid) == "systemd" && Some(pid) != not);
            leader.is_some() || proc::is_dead(self.pid)
        });
        leader.ok_or_else(|| format!("`{node}` did not boot"))
    }

    /// What the keeper and the boxes' consoles said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The router between the boxes forwards, or drops in silence.
    pub(crate) fn forward(&self, on: bool) {
        // The file is that of the network namespace of who opens it.
        let script = format!("echo {} >/proc/sys/net/ipv4/ip_forward", u8::from(on));
        let net = format!("--net=/proc/{}/ns/net", self.pid);
        let done = Command::new("nsenter").args([&net, "--", "/bin/sh", "-c", &script]).status();
        assert!(done.is_ok_and(|status| status.success()), "cannot switch the lab's link");
    }

    /// Ends the lab and removes what is left of it on this machine; a second call does nothing.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        // The lease: the keeper reads the end of its stdin, and with it the kernel ends all it started.
        drop(self.child.stdin.take());
        let ended =
            wait::holds(Duration::from_secs(20), || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)));
        if !ended {
            // With --kill-child its end is the keeper's.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        sweep(&self.name);
        if self.folder.exists() {
            return Err(format!("`{}` is left", self.folder.display()));
        }
        if ended { Ok(()) } else { Err("the keeper had to be killed".to_owned()) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // A drop during a panic must not panic; the next lab sweeps what this one could not.
        let _ = self.stop();
    }
}

fn spawn(root: &Path, folder: &Path, name: &str) -> Result<Child, String> {
    let log = File::create(folder.join("log")).map_err(|error| format!("lab log: {error}"))?;
    let log2 = log.try_clone().map_err(|error| format!("lab log: {error}"))?;
    Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .args(["/bin/sh", "-c", SCRIPT, "keeper"])
        .args([root.as_os_str(), folder.as_os_str(), OsStr::new(name)])
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(log2)
        .spawn()
        .map_err(|error| format!("cannot start `unshare`: {error}"))
}

/// The root that `tests/lab/prepare`, as it is now, has made on this machine.
fn cached_root() -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    for tool in ["systemd-nspawn", "nsenter", "unshare", "ip", "ssh-keygen"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join(tool).exists()) {
            return Err(format!("`{tool}` is missing; run tests/lab/prepare"));
        }
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.ok_or("this machine is no Debian or Ubuntu")?.trim_matches('"');
    let stamp: String = Sha256::digest(PREPARE).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let cache = std::env::var_os("SHAKEDOWN_LAB_CACHE").unwrap_or("/var/cache/shakedown-lab".into());
    let root = Path::new(&cache).join(format!("root-{codename}-{stamp}"));
    if root.is_dir() { Ok(root) } else { Err(format!("no `{}`; run tests/lab/prepare", root.display())) }
}

fn next_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let owner = std::process::id();
    let started = proc::started(owner).unwrap_or_default();
    format!("{PREFIX}{owner}-{started}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the owner in this name is gone. A name of another form is nobody's lab.
fn is_of_the_dead(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(owner)), Some(Ok(started)), Some(Ok(_)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    u32::try_from(owner).is_ok_and(|owner| proc::started(owner) != Some(started))
}

/// The processes of a dead owner's lab are gone with its lease; what stays is a folder and a control group.
fn sweep_dead() {
    let folders = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| is_of_the_dead(name)) {
        sweep(&name);
    }
}

/// Removes a lab's control groups, then its folder, which is the record that they may be there. The hierarchy is
/// mounted for that command alone, for not every machine shows it, nor at the same place.
fn sweep(name: &str) {
    const GROUPS: &str = r#"
        mount -t cgroup2 cgroup2 /mnt || exit 1
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            [ -e "/mnt/$1" ] || exit 0
            find "/mnt/$1" -depth -type d -exec rmdir {} + 2>/dev/null && exit 0
            sleep 0.1
        done
        exit 1"#;
    let argv = ["--mount", "--", "/bin/sh", "-c", GROUPS, "sweep", name];
    let swept = Command::new("unshare").args(argv).stderr(Stdio::null()).status();
    if swept.is_ok_and(|status| status.success()) {
        let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::{is_of_the_dead, next_name};

    #[test]
    fn only_labs_of_dead_owners_are_swept() {
        assert!(!is_of_the_dead(&next_name()), "mine");
        assert!(is_of_the_dead("shakedown-lab-1-1-0"), "a process 1 that started later");
        for foreign in
            ["shakedown-lab-", "shakedown-lab-1-1", "shakedown-lab-1-1-0-0", "shakedown-lab-x-1-0", "x"]
        {
            assert!(!is_of_the_dead(foreign), "{foreign}");
        }
    }
}
