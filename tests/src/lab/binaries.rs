//! The programs under test, built once for each test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `shakedown`, built from this workspace. Set `SHAKEDOWN_BIN` to test another.
#[must_use]
pub fn shakedown() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("SHAKEDOWN_BIN", "cli", "shakedown"))
}

/// `shakedown` with faults on purpose. Set `SHAKEDOWN_FAULTS_BIN` to test another.
#[must_use]
pub fn shakedown_with_faults() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("SHAKEDOWN_FAULTS_BIN", "cli", "shakedown-faults"))
}

/// `media-sync-daemon`, the stand-in. Set `SHAKEDOWN_DAEMON_BIN` to use another.
#[must_use]
pub fn daemon() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("SHAKEDOWN_DAEMON_BIN", "standin", "media-sync-daemon"))
}

/// Cargo does not build the programs of other packages for a test. So this asks it to, each time: it alone
/// knows whether they are up to date, and a test of a stale program proves nothing.
fn find(variable: &str, package: &str, program: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    // <target>/<profile>/deps/<test>
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("a test is in deps/ of its profile");
    let target = profile.parent().expect("a profile is in the target folder");
    let profile_name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", program, "--profile", profile_name])
        .args(if program.ends_with("-faults") { &["--features", "faults"][..] } else { &[] })
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .output()
        .expect("cargo starts");
    assert!(built.status.success(), "cannot build `{program}`:\n{}", String::from_utf8_lossy(&built.stderr));
    profile.join(program)
}
