//! The daemon's loop: find files that are ready, send each, tell the store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::Args;
use crate::config::Config;
use crate::destination::{Destination, Shipment, TransferError, hex};
use crate::faults::FaultsFile;
use crate::log::Log;
use crate::paths::remote_path;
use crate::stop::Stop;
use crate::store::{self, Media, Store};

/// The pause before the second try of a transfer; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Daemon {
    config: Config,
    store: Box<dyn Store>,
    destination: Destination,
    faults: FaultsFile,
    interval: Duration,
    once: bool,
    ready_file: Option<PathBuf>,
    log: Log,
    stop: Stop,
}

/// What became of one file.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    Failed(String),
    /// The row stays at `downloading`, with no word in it.
    Stuck,
    /// The daemon ends; the row is for the next start.
    GivenBack,
}

impl Daemon {
    pub(crate) fn start(args: Args, log: Log, stop: Stop) -> Result<Self, String> {
        let mut faults = FaultsFile::new(args.faults);
        if faults.refresh()?.crash_at_start {
            return Err("unhandled exception at start: cannot import name 'SyncManager'".into());
        }
        let config = Config::read(&args.config)?;
        if args.init_db {
            let media = &config.local_settings.media_path;
            std::fs::create_dir_all(media)
                .map_err(|error| format!("cannot make `{}`: {error}", media.display()))?;
            // Last: whoever waits for the daemon takes the store for the sign that all is there.
            store::create(&config.database, &stop)?;
        }
        let daemon = Self {
            store: store::open(&config.database, stop.clone())?,
            destination: Destination::of(&config, args.local_only),
            interval: args.interval.unwrap_or_else(|| config.sync_settings.interval()),
            once: args.once,
            ready_file: args.ready_file,
            faults,
            config,
            log,
            stop,
        };
        if let Some(path) = &daemon.ready_file {
            std::fs::write(path, std::process::id().to_string())
                .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        }
        let every = daemon.interval.as_millis();
        daemon.log.info(&format!("media sync daemon started, a sync every {every} ms"));
        Ok(daemon)
    }

    /// Until asked to end. Only `--once` makes a failed sync an error: a daemon goes on and tries again.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        loop {
            let synced = self.sync();
            if self.once {
                return synced;
            }
            if let Err(problem) = synced {
                self.log.error(&problem);
            }
            if !self.stop.wait(self.interval) {
                self.log.info("media sync daemon stopped");
                return Ok(());
            }
        }
    }

    fn sync(&mut self) -> Result<(), String> {
        if let Err(problem) = self.faults.refresh() {
            self.log.warning(&problem);
        }
        self.stop.ignore(self.faults.current().ignore_sigterm);
        if self.faults.current().hang {
            return Ok(());
        }
        while !self.stop.asked() {
            match self.store.take()? {
                Some(media) => self.send(&media)?,
                None => return self.delete_sent(),
            }
        }
        Ok(())
    }

    /// One file, from `downloading` to its end.
    fn send(&mut self, media: &Media) -> Result<(), String> {
        self.log.info(&format!("sending {}", media.name));
        let tries = self.config.sync_settings.max_retry_attempts.max(1);
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=tries {
            match self.attempt(media) {
                Outcome::Sent => {
                    self.log.info(&format!("sent {}", media.name));
                    return self.store.complete(media);
                }
                Outcome::Stuck => return self.store.leave(media),
                Outcome::GivenBack => break,
                Outcome::Failed(message) if attempt == tries => {
                    self.log.error(&format!("transfer of {} failed: {message}", media.name));
                    return self.store.fail(media, attempt, &message);
                }
                Outcome::Failed(message) => {
                    self.log.warning(&format!("try {attempt} of {tries} of {}: {message}", media.name));
                    self.store.retry(media, attempt, &message)?;
                    if !self.stop.wait(pause) {
                        break;
                    }
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
        self.log.info(&format!("gave back {}", media.name));
        self.store.give_back(media).map_err(|error| format!("cannot give back {}: {error}", media.name))
    }

    fn attempt(&self, media: &Media) -> Outcome {
        let faults = self.faults.current();
        if !self.stop.wait(Duration::from_millis(faults.slow_ms)) {
            return Outcome::GivenBack;
        }
        if let Some(message) = &faults.fail_transfer {
            return Outcome::Failed(message.clone());
        }
        let target = match remote_path(&media.name) {
            Ok(target) => target,
            Err(problem) => return Outcome::Failed(problem),
        };
        let shipment = Shipment {
            source: Path::new(&media.path),
            target: &target,
            sha256: media.sha256.as_deref().filter(|sum| !sum.trim().is_empty()),
            timeout: Duration::from_secs(self.config.sync_settings.sync_timeout_seconds.max(1)),
        };
        match self.destination.put(&shipment, &self.stop) {
            Ok(sum) if faults.checksum_mismatch => {
                let expected = media.sha256.as_deref().unwrap_or(&sum);
                let other = damaged(&sum);
                self.log.error(&format!(
                    "文件校验和不匹配 (checksum mismatch): {}: expected {expected}, got {other}",
                    media.name
                ));
                Outcome::Stuck
            }
            Ok(_) => Outcome::Sent,
            Err(TransferError::Stopped) => Outcome::GivenBack,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Removes local files that were sent long enough ago.
    fn delete_sent(&mut self) -> Result<(), String> {
        let settings = self.config.sync_settings.clone();
        if !settings.delete_after_sync {
            return Ok(());
        }
        for media in self.store.sent_before(settings.safe_delete_delay_minutes)? {
            let path = Path::new(&media.path);
            if self.stop.asked() || !path.is_file() {
                continue;
            }
            if settings.verify_remote_before_delete && !self.is_intact_on_target(&media) {
                self.log.warning(&format!("kept {}: the copy is not intact", media.path));
                continue;
            }
            match std::fs::remove_file(path) {
                Ok(()) => self.log.info(&format!("deleted {}", media.path)),
                Err(error) => self.log.error(&format!("cannot delete {}: {error}", media.path)),
            }
        }
        Ok(())
    }

    fn is_intact_on_target(&self, media: &Media) -> bool {
        let local = crate::destination::sha256_of(Path::new(&media.path)).ok();
        let remote =
            remote_path(&media.name).ok().and_then(|target| self.destination.sha256(&target, &self.stop));
        local.is_some() && local == remote
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(path) = &self.ready_file {
            // It tells that the daemon serves; nobody is left to tell that this failed.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A sum of the right form that is certainly another.
fn damaged(sum: &str) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(sum.as_bytes()))
}

#[cfg(test)]
mod tests;
