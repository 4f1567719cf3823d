//! A copy over the system's `ssh`, with the user's ssh_config, keys and known hosts.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Shipment, TransferError, part_of};
use crate::stop::Stop;

/// Exit code of the remote script for a copy that is damaged; no code of sh's, ssh's or cat's.
const MISMATCH: i32 = 65;

/// A look at one file of the NAS takes no longer.
const LOOK: Duration = Duration::from_secs(30);

pub(super) fn put(
    host: &str,
    base: &Path,
    shipment: &Shipment<'_>,
    stop: &Stop,
) -> Result<String, TransferError> {
    let source = File::open(shipment.source).map_err(|error| {
        TransferError::Failed(format!("cannot read `{}`: {error}", shipment.source.display()))
    })?;
    let script = upload_script(&base.join(shipment.target), shipment.sha256);
    let ended = run(host, &script, Stdio::from(source), shipment.timeout, stop)?;
    let actual = ended.stdout.trim().to_owned();
    match (ended.code, shipment.sha256) {
        (Some(0), _) => Ok(actual),
        (Some(MISMATCH), Some(expected)) => {
            Err(TransferError::Checksum { expected: expected.to_owned(), actual })
        }
        _ => Err(ended.failure()),
    }
}

pub(super) fn sha256(host: &str, path: &Path, stop: &Stop) -> Result<String, TransferError> {
    let script = format!("sha256sum < {} | cut -d' ' -f1", quoted(path));
    let ended = run(host, &script, Stdio::null(), LOOK, stop)?;
    match ended.stdout.trim() {
        // Of an empty pipe: `sha256sum` did not run, and `cut` alone decides on the exit code.
        "" => Err(ended.failure()),
        sum => Ok(sum.to_owned()),
    }
}

/// One command does it all, for every session costs a key exchange.
fn upload_script(target: &Path, expected: Option<&str>) -> String {
    let folder = target.parent().unwrap_or(target);
    let check = expected.map_or(String::new(), |expected| {
        // Lower case: file_hash may come from a program that writes hex in capitals.
        let expected = expected.trim().to_lowercase();
        format!(
            "[ \"$sum\" = {} ] || {{ rm -f \"$part\"; exit {MISMATCH}; }}; ",
            quoted(Path::new(&expected))
        )
    });
    format!(
        "part={part}; mkdir -p {folder} && cat > \"$part\" && sum=$(sha256sum < \"$part\") \
         || {{ code=$?; rm -f \"$part\"; exit $code; }}; sum=${{sum%% *}}; echo \"$sum\"; {check}mv -f \"$part\" {target}",
        part = quoted(&part_of(target)),
        folder = quoted(folder),
        target = quoted(target),
    )
}

/// As one word of sh.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn failure(&self) -> TransferError {
        let code = self.code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
        let said = self.stderr.trim();
        let said = if said.is_empty() { "it said nothing" } else { said };
        TransferError::Failed(format!("ssh ended with {code}: {said}"))
    }
}

fn run(
    host: &str,
    script: &str,
    input: Stdio,
    timeout: Duration,
    stop: &Stop,
) -> Result<Ended, TransferError> {
    let began = Instant::now();
    let mut child = Command::new("ssh")
        .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"])
        .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"])
        .args(["--", host, script])
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| TransferError::Failed(format!("cannot start `ssh`: {error}")))?;
    let mut late = false;
    let mut broken = None;
    let done = stop.poll(|| {
        late = began.elapsed() > timeout;
        match child.try_wait() {
            Ok(status) => late || status.is_some(),
            Err(error) => {
                broken = Some(error);
                true
            }
        }
    });
    if !done || late || broken.is_some() {
        // Both may fail only because it has ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    match broken {
        _ if !done => Err(TransferError::Stopped),
        Some(error) => Err(TransferError::Failed(format!("cannot wait for `ssh`: {error}"))),
        None if late => Err(TransferError::Failed(format!("timed out after {} s", timeout.as_secs()))),
        None => Ok(collect(&mut child)),
    }
}

/// After its end: what these commands say fits into a pipe, so nothing could block before.
fn collect(child: &mut Child) -> Ended {
    let mut ended = Ended {
        code: child.wait().ok().and_then(|status| status.code()),
        stdout: String::new(),
        stderr: String::new(),
    };
    if let Some(mut pipe) = child.stdout.take() {
        let _ = pipe.read_to_string(&mut ended.stdout);
    }
    if let Some(mut pipe) = child.stderr.take() {
        let _ = pipe.read_to_string(&mut ended.stderr);
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::{MISMATCH, quoted, upload_script};
    use crate::destination::same_sum;
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    /// The remote end's part, run here: ssh hands the script to the user's shell just so.
    fn remote(script: &str, input: &str) -> Output {
        let mut sh = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh");
        // A script that fails early does not read it.
        let _ = sh.stdin.take().expect("piped").write_all(input.as_bytes());
        sh.wait_with_output().expect("sh")
    }

    const SUM: &str = "2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824";

    #[test]
    fn the_remote_script_stores_checks_and_names_the_sum() {
        let dir = tempfile::tempdir().expect("temp dir");
        let target = dir.path().join("2025/it's $(touch x)/a b.txt");
        let output = remote(&upload_script(&target, Some(SUM)), "hello");
        assert!(output.status.success(), "{output:?}");
        assert!(same_sum(SUM, String::from_utf8_lossy(&output.stdout).trim()));
        assert_eq!(std::fs::read_to_string(&target).expect("target"), "hello");
    }

    #[test]
    fn a_damaged_copy_has_its_own_exit_code_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let output = remote(&upload_script(&dir.path().join("d/a.txt"), Some(SUM)), "hullo");
        assert_eq!(output.status.code(), Some(MISMATCH), "{output:?}");
        assert_eq!(std::fs::read_dir(dir.path().join("d")).expect("folder").count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_made_fails() {
        let output = remote(&upload_script(Path::new("/proc/none/a.txt"), None), "hello");
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("/proc/none"), "{output:?}");
    }

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted(Path::new("/a b'c")), r"'/a b'\''c'");
    }
}
