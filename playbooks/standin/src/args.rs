//! The arguments, parsed by hand: seven flags do not earn a dependency in a program that must start fast.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: media-sync-daemon --config FILE [options]

  --config FILE      the daemon's settings (unified_config.json)
  --once             one sync, then end
  --interval MS      milliseconds between syncs; default: sync_settings.interval_minutes
  --init-db          first make the database and the media folder, if missing
  --ready-file FILE  write the process id there once the daemon serves; gone again at its end
  --local-only       copy to base_path on this machine instead of over ssh
  --faults FILE      misbehave as this JSON file says; read again before each sync

example: media-sync-daemon --config unified_config.json --init-db --local-only --interval 500";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) config: PathBuf,
    pub(crate) once: bool,
    pub(crate) interval: Option<Duration>,
    pub(crate) init_db: bool,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) local_only: bool,
    pub(crate) faults: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Run(Args),
    Help,
}

impl Args {
    pub(crate) fn parse(mut given: impl Iterator<Item = OsString>) -> Result<Parsed, String> {
        let mut args = Args::default();
        let mut config = None;
        while let Some(flag) = given.next() {
            let flag = flag.to_string_lossy().into_owned();
            let mut value = || given.next().ok_or_else(|| format!("`{flag}` needs a value"));
            match flag.as_str() {
                "--config" => config = Some(PathBuf::from(value()?)),
                "--once" => args.once = true,
                "--interval" => args.interval = Some(milliseconds(&value()?)?),
                "--init-db" => args.init_db = true,
                "--ready-file" => args.ready_file = Some(value()?.into()),
                "--local-only" => args.local_only = true,
                "--faults" => args.faults = Some(value()?.into()),
                "--help" | "-h" => return Ok(Parsed::Help),
                _ => return Err(format!("unknown argument `{flag}`")),
            }
        }
        args.config = config.ok_or("`--config FILE` is missing")?;
        Ok(Parsed::Run(args))
    }
}

fn milliseconds(value: &OsString) -> Result<Duration, String> {
    let text = value.to_string_lossy();
    match text.parse::<u64>() {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("`--interval` takes milliseconds above 0, not `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, Parsed};
    use std::time::Duration;

    fn parse(line: &str) -> Result<Parsed, String> {
        Args::parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn all_flags_are_read() {
        let line =
            "--config c.json --once --interval 300 --init-db --ready-file r --local-only --faults f.json";
        let expected = Args {
            config: "c.json".into(),
            once: true,
            interval: Some(Duration::from_millis(300)),
            init_db: true,
            ready_file: Some("r".into()),
            local_only: true,
            faults: Some("f.json".into()),
        };
        assert_eq!(parse(line), Ok(Parsed::Run(expected)));
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert_eq!(parse("--once"), Err("`--config FILE` is missing".into()));
        assert_eq!(parse("--config"), Err("`--config` needs a value".into()));
        assert_eq!(parse("--confg x"), Err("unknown argument `--confg`".into()));
        assert!(parse("--config c --interval 0").is_err());
        assert!(parse("--config c --interval 5s").is_err());
    }
}
