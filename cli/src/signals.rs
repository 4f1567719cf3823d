//! INT, TERM and HUP. Those that come while a run is under way are for the run; after it, and if the run does not heed the third,
//! they end the program, whatever its other threads wait for.

use crate::failure::Failure;
use engine::local::Signals;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    iterator,
};
use std::{
    process,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

/// How long a run may take to give up once it is told to.
const GIVE_UP: Duration = Duration::from_secs(3);
/// How long what is to be said at the end may take once nobody wants to wait for it.
const HURRY: Duration = Duration::from_secs(1);

/// The run that is under way, and how many signals it has had.
static UNDER_WAY: Mutex<Option<(UnboundedSender<i32>, u32)>> = Mutex::new(None);
static LISTENS: Mutex<bool> = Mutex::new(false);

/// The signals of a run, from now until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(());

impl Drop for UnderWay {
    fn drop(&mut self) {
        *locked(&UNDER_WAY) = None;
    }
}

/// Listens for a run that is about to begin.
pub(crate) fn of_a_run() -> Result<(Signals, UnderWay), Failure> {
    let (sender, signals) = Signals::handed_over();
    *locked(&UNDER_WAY) = Some((sender, 0));
    let under_way = UnderWay(());
    let mut listens = locked(&LISTENS);
    if !*listens {
        let cannot = |error| Failure::environment(format!("cannot listen to signals: {error}"));
        let arriving = iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(cannot)?;
        thread::Builder::new().name("signals".into()).spawn(move || listen(arriving)).map_err(cannot)?;
        *listens = true;
    }
    Ok((signals, under_way))
}

/// Where a file may not become so large, writing fails, and does not end the program before it has undone anything. It is
/// handled rather than ignored, so that commands do not inherit it.
pub(crate) fn survive_large_files() {
    let _as_before = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

fn listen(mut arriving: iterator::Signals) {
    for signal in arriving.forever() {
        match hand_over(signal) {
            Some(..3) => {}
            Some(_) => {
                thread::sleep(GIVE_UP);
                end(signal);
            }
            None => {
                thread::sleep(HURRY);
                // The next run may have begun: it is for that one.
                if hand_over(signal).is_none() {
                    end(signal);
                }
            }
        }
    }
}

/// Hands it to the run that is under way, if one is, and counts.
fn hand_over(signal: i32) -> Option<u32> {
    let mut under_way = locked(&UNDER_WAY);
    let (run, count) = under_way.as_mut()?;
    *count += 1;
    let _over = run.send(signal);
    Some(*count)
}

#[expect(clippy::exit, reason = "no other thread may be able to")]
fn end(signal: i32) -> ! {
    process::exit(128 + signal)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
