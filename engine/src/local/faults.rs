//! Faults on purpose, to prove what survives them. Without the feature `faults`, which no released program has, every
//! question is answered with "no" and costs nothing.

#[cfg(feature = "faults")]
use crate::error::ErrorClass;
use crate::error::StepError;
#[cfg(feature = "faults")]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What is to go wrong in a run. Cheap to clone; the clones count together.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    #[cfg(feature = "faults")]
    list: Arc<Vec<Fault>>,
}

/// One thing that is to go wrong.
#[cfg(feature = "faults")]
#[derive(Debug)]
enum Fault {
    /// The step fails after its effect.
    Fail(String),
    /// The outcome of the step is lost after its effect.
    Lose(String),
    /// The undo of the step fails.
    Undo(String),
    /// The undo of the step is carried out twice.
    Repeat(String),
    /// The task of a step panics at a point.
    Panic(String),
    /// The process is killed when it comes to a point for the n-th time; without a name, to any point.
    Kill { point: Option<String>, at: u64, seen: AtomicU64 },
}

impl Faults {
    /// Nothing goes wrong on purpose.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads faults, parted by commas: `fail:STEP`, `lose:STEP`, `undo:STEP`, `repeat:STEP`, `panic:POINT`, and
    /// `kill:POINT`.
    ///
    /// A run passes the points `append` and `appended` before and after each record of its journal, and
    /// `before:STEP`, `after:STEP`, `before-undo:STEP`, `after-undo:STEP` around each effect. `kill:POINT` kills the
    /// process (SIGKILL) there, `kill:POINT:7` when it comes there for the seventh time, `kill:7` at the seventh point
    /// of any name.
    ///
    /// # Errors
    /// The text that cannot be read.
    #[cfg(feature = "faults")]
    pub fn parse(text: &str) -> Result<Self, String> {
        let list = text.split(',').filter(|one| !one.is_empty()).map(parse_one);
        Ok(Self { list: Arc::new(list.collect::<Result<_, _>>()?) })
    }

    /// The process has come to this point; it may be the last.
    pub(crate) fn point(&self, name: impl FnOnce() -> String) {
        #[cfg(feature = "faults")]
        if self.list.iter().any(|fault| matches!(fault, Fault::Kill { .. } | Fault::Panic(_))) {
            let here = name();
            for fault in self.list.iter() {
                assert!(!matches!(fault, Fault::Panic(point) if *point == here), "made to panic");
                let Fault::Kill { point, at, seen } = fault else { continue };
                if point.as_ref().is_none_or(|point| *point == here)
                    && seen.fetch_add(1, Ordering::SeqCst) + 1 == *at
                {
                    kill_myself();
                }
            }
        }
        #[cfg(not(feature = "faults"))]
        drop(name);
    }

    /// The error with which a step is to fail although its effect has happened.
    pub(crate) fn fails(&self, _step: &str) -> Option<StepError> {
        #[cfg(feature = "faults")]
        for fault in self.list.iter() {
            let error = |message: &str| StepError::new(ErrorClass::Unreachable, message);
            match fault {
                Fault::Fail(step) if step == _step => return Some(error("made to fail")),
                Fault::Lose(step) if step == _step => {
                    return Some(error("made to be lost").unknown_outcome());
                }
                _ => {}
            }
        }
        None
    }

    /// The error with which the undo of a step is to fail.
    pub(crate) fn undo_fails(&self, _step: &str) -> Option<StepError> {
        #[cfg(feature = "faults")]
        if self.list.iter().any(|fault| matches!(fault, Fault::Undo(step) if step == _step)) {
            return Some(StepError::new(ErrorClass::Denied, "the undo was made to fail"));
        }
        None
    }

    /// Whether the undo of a step is to be carried out twice.
    pub(crate) fn repeats(&self, _step: &str) -> bool {
        #[cfg(feature = "faults")]
        return self.list.iter().any(|fault| matches!(fault, Fault::Repeat(step) if step == _step));
        #[cfg(not(feature = "faults"))]
        false
    }
}

#[cfg(feature = "faults")]
fn parse_one(text: &str) -> Result<Fault, String> {
    let (verb, rest) = text.split_once(':').unwrap_or((text, ""));
    if rest.is_empty() {
        return Err(format!("`{text}`: expected `fail:STEP` or the like"));
    }
    let step = rest.to_owned();
    Ok(match verb {
        "fail" => Fault::Fail(step),
        "lose" => Fault::Lose(step),
        "undo" => Fault::Undo(step),
        "repeat" => Fault::Repeat(step),
        "panic" => Fault::Panic(step),
        "kill" => {
            let (point, at) = match (rest.parse(), rest.rsplit_once(':')) {
                (Ok(at), _) => (None, at),
                (Err(_), Some((point, at))) if at.parse::<u64>().is_ok() => {
                    (Some(point.to_owned()), at.parse().unwrap_or(1))
                }
                (Err(_), _) => (Some(step), 1),
            };
            Fault::Kill { point, at, seen: AtomicU64::new(0) }
        }
        _ => {
            return Err(format!(
                "`{text}`: expected fail, lose, undo, repeat, panic or kill before the colon"
            ));
        }
    })
}

#[cfg(feature = "faults")]
fn kill_myself() -> ! {
    let _cannot_fail = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    loop {
        std::thread::park();
    }
}

#[cfg(all(test, feature = "faults"))]
mod tests {
    use super::Faults;

    #[test]
    fn faults_are_read_and_asked_for_by_step() {
        let faults = Faults::parse("fail:media,undo:record[2],repeat:media,lose:up").expect("reads");
        assert!(faults.fails("media").is_some_and(|error| !error.outcome_unknown));
        assert!(faults.fails("up").is_some_and(|error| error.outcome_unknown));
        assert!(faults.fails("record[2]").is_none() && faults.undo_fails("record[2]").is_some());
        assert!(faults.repeats("media") && !faults.repeats("up"));
        for wrong in ["fail", "fail:", "burn:x", "media"] {
            assert!(Faults::parse(wrong).is_err(), "{wrong}");
        }
    }
}
