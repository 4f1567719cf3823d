//! Whether what was started is up. systemd calls a job done that found a condition unmet, and a simple service started
//! before its program has run: neither is a start.

use super::{
    facts::Facts,
    manager::Manager,
    unit::{Unit, arg},
};
use engine::{ErrorClass, StepError, host::Exec};
use std::time::{Duration, Instant};

/// How long a service is looked at whose program says nothing of being ready.
const FIRST_MOMENTS: Duration = Duration::from_millis(300);
/// For how long at most a program is given time to get going, on a machine that is busy.
const AT_MOST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(25);
/// How much a program that never waits must have worked to count as going, in clock ticks.
const WORKED: u64 = 10;

/// Waits until a unit that was started is up for sure, and gives its state.
///
/// A service of the type `simple`, `exec` or `idle` is up once it has stayed so for 300 ms, its main process has become
/// the program, and that waits for something or has used 100 ms of a processor: so a busy machine does not pass one that
/// had no time to fail. Others say themselves when they are ready; a `oneshot` may have ended.
///
/// # Errors
/// It was not started, or ended at once.
pub(super) async fn started(manager: &Manager<'_>, before: &Facts) -> Result<Unit, StepError> {
    let began = Instant::now();
    loop {
        let now = manager.one(before.id()).await?;
        if before.is_up() && now.text("InvocationID") == before.text("InvocationID") {
            return Ok(now.unit());
        }
        if let Some(unit) = verdict(manager, before, &now).await?
            && (!is_silent(&now) || is_going(manager, &now, began.elapsed()).await)
        {
            return Ok(unit);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = manager.cx.cancel.cancelled() => {
                let message = format!("the look at `{}` was stopped", before.id());
                return Err(StepError::new(ErrorClass::Cancelled, message));
            }
        }
    }
}

/// Whether the service does not say itself that it is ready. One whose main process has just ended is up for a moment more.
fn is_silent(now: &Facts) -> bool {
    matches!(now.text("Type"), "simple" | "exec" | "idle") && now.is_up()
}

/// Its state, if it is up or has done its work; nothing while it is on its way down.
async fn verdict(manager: &Manager<'_>, before: &Facts, now: &Facts) -> Result<Option<Unit>, StepError> {
    let (name, scope) = (now.id(), manager.scope);
    let mut unit = now.unit();
    let state = unit.in_words();
    let newer = |key: &str| now.number(key) > before.number(key);
    let ran = newer("ExecMainStartTimestampMonotonic");
    if unit.is_crash_looping() || (ran && unit.n_restarts > 0) {
        let message = format!("unit `{name}` ended at once and is restarted over and over: it is {state}");
        return Err(StepError::expectation(message).hint(scope.journal(name)));
    }
    if now.text("ActiveState") == "deactivating" {
        return Ok(None);
    }
    if unit.is_up() {
        return Ok(Some(unit));
    }
    if now.has_failed() {
        let message = format!("unit `{name}` is {state}, expected active");
        return Err(StepError::expectation(message).hint(scope.journal(name)));
    }
    if !ran && now.text("ConditionResult") == "no" {
        let mut which = manager.unmet(now).await.join("`, `");
        if which.is_empty() {
            which = "Condition…=".into();
        }
        let message = format!("unit `{name}` was not started: `{which}` is not met; it is {state}");
        return Err(StepError::expectation(message).hint(scope.typed(&format!("status {}", arg(name)))));
    }
    if ran && now.text("Type") == "oneshot" && now.text("Result") == "success" {
        unit.note = Some("did its work and ended".into());
        return Ok(Some(unit));
    }
    let message = match ran {
        true => format!(
            "unit `{name}` was started and ended at once, with exit status {}: it is {state}, expected active",
            unit.exit_status
        ),
        false => format!("unit `{name}` was not started: it is {state}, expected active"),
    };
    Err(StepError::expectation(message).hint(scope.journal(name)))
}

/// Whether the program has come through its first moments.
async fn is_going(manager: &Manager<'_>, now: &Facts, since: Duration) -> bool {
    if since < FIRST_MOMENTS {
        return false;
    }
    // One that cannot be looked at counts by the time alone; one that has gone is met by the next look.
    let stat = stat_of(manager, now.number("MainPID")).await;
    since >= AT_MOST || stat.is_none_or(|stat| goes(&stat).unwrap_or(true))
}

async fn stat_of(manager: &Manager<'_>, pid: u64) -> Option<Vec<u8>> {
    let path = format!("/proc/{pid}/stat");
    if manager.cx.host.is_local() {
        return std::fs::read(path).ok();
    }
    let ended = manager.cx.exec(Exec::new(["cat", &path]).repeatable()).await.ok()?;
    ended.success().then_some(ended.stdout)
}

/// Whether a process has become its program, and waits or has worked: the name is in brackets until then.
fn goes(stat: &[u8]) -> Option<bool> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&str> = str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let executed = stat.get(open + 1) != Some(&b'(');
    let waits = matches!(*fields.first()?, "S" | "D" | "I");
    Some(executed && (waits || number(11)? + number(12)? >= WORKED))
}

#[cfg(test)]
mod tests {
    use super::goes;

    #[test]
    fn a_process_goes_once_it_is_its_program_and_waits_or_has_worked() {
        let stat = |name: &str, state: char, ticks: u32| {
            let stat = format!("7 ({name}) {state} 1 7 7 0 -1 0 1 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 25 0\n");
            goes(stat.as_bytes())
        };
        assert_eq!(stat("syncd", 'S', 0), Some(true));
        assert_eq!(stat("syncd", 'R', 0), Some(false));
        assert_eq!(stat("syncd", 'R', 10), Some(true));
        assert_eq!(stat("(syncd)", 'S', 0), Some(false), "still systemd's own");
        assert_eq!(goes(b"7 (x"), None);
    }
}
