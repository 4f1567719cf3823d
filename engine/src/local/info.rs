//! What a new run knows of itself.

use crate::step::RunInfo;
use jiff::ZonedDateTime;
use std::path::Path;
use ulid::Ulid;

/// The facts of a run that begins now, in the working directory `dir`.
#[must_use]
pub fn run_info(dir: &Path) -> RunInfo {
    let now = ZonedDateTime::now();
    let ms = u64::try_from(now.timestamp().as_millisecond()).unwrap_or(0);
    let mut random = [0u8; 16];
    if getrandom::fill(&mut random).is_err() {
        // Without a source of randomness the process id and the nanosecond still tell runs apart.
        random[..4].copy_from_slice(&std::process::id().to_le_bytes());
        random[4..8].copy_from_slice(&now.timestamp().subsec_nanosecond().to_le_bytes());
    }
    RunInfo {
        id: Ulid::from_parts(ms, u128::from_le_bytes(random)).to_string(),
        stamp: now.strftime("%Y%m%d_%H%M%S").to_string(),
        started_at: now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        user: user(),
        dir: dir.to_string_lossy().into_owned(),
        exe: std::env::current_exe().map(|exe| exe.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

fn user() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}
