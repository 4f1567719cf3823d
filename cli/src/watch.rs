//! Those who watch a run work on a thread of their own: a slow terminal or a full pipe never holds up a step.

use crate::stream::PATIENCE;
use engine::{
    event::{Progress, Record, Reporter},
    report::Summary,
};
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often what moves on a screen is drawn again.
const TICK: Duration = Duration::from_millis(120);
/// How often it is looked whether all is shown: a moment, for it mostly is.
const LOOK: Duration = Duration::from_millis(2);
/// How much later than a stream the views are given up.
const LATER: Duration = Duration::from_secs(5);
/// Progress beyond this many unread messages is dropped: the next one says more.
const UNREAD: usize = 256;

/// Shows a run, or writes it down. `summary` has already taken the event in.
pub(crate) trait View: Send {
    /// Takes an event.
    fn event(&mut self, summary: &Summary, record: &Record);
    /// Takes progress.
    fn progress(&mut self, _summary: &Summary, _step: &str, _progress: &Progress) {}
    /// Time has passed.
    fn tick(&mut self) {}
    /// Leaves the screen to a question.
    fn pause(&mut self) {}
    /// Takes the screen back.
    fn resume(&mut self) {}
    /// The run is over.
    fn end(&mut self) {}
}

enum Message {
    Event(Box<Record>),
    Progress(String, Progress),
    Pause(SyncSender<()>),
    Resume,
    End,
}

/// The thread of the views.
pub(crate) struct Watch {
    sender: Sender<Message>,
    unread: Arc<AtomicUsize>,
    /// How many messages the views have taken.
    taken: Arc<AtomicUsize>,
    /// What is known of the run, also where the views do not follow.
    known: Arc<Mutex<Summary>>,
    thread: JoinHandle<()>,
}

/// Lets a question have the screen.
#[derive(Clone, Debug)]
pub(crate) struct Screen(Sender<Message>);

struct Messenger {
    sender: Sender<Message>,
    unread: Arc<AtomicUsize>,
    known: Arc<Mutex<Summary>>,
}

impl Watch {
    /// Starts from what is known already: of a new run nothing.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(summary: Summary, views: Vec<Box<dyn View>>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let unread = Arc::new(AtomicUsize::new(0));
        let taken = Arc::new(AtomicUsize::new(0));
        let known = Arc::new(Mutex::new(summary.clone()));
        let (read, seen) = (unread.clone(), taken.clone());
        let work = move || watch(summary, views, &receiver, &read, &seen);
        let thread = thread::Builder::new().name("watch".into()).spawn(work)?;
        Ok(Self { sender, unread, taken, known, thread })
    }

    /// What the executor tells.
    pub(crate) fn reporter(&self) -> Box<dyn Reporter> {
        let (sender, unread, known) = (self.sender.clone(), self.unread.clone(), self.known.clone());
        Box::new(Messenger { sender, unread, known })
    }

    pub(crate) fn screen(&self) -> Screen {
        Screen(self.sender.clone())
    }

    /// Waits until everything is shown and written, as long as that goes on; gives what is known of the run, and whether all of
    /// it was shown.
    pub(crate) fn finish(self) -> (Summary, bool) {
        let _gone = self.sender.send(Message::End);
        let mut last = (self.taken.load(Ordering::Relaxed), Instant::now());
        while !self.thread.is_finished() {
            let taken = self.taken.load(Ordering::Relaxed);
            if taken != last.0 {
                last = (taken, Instant::now());
            }
            // A terminal that is stopped holds the thread for good.
            if last.1.elapsed() > PATIENCE + LATER {
                break;
            }
            thread::sleep(LOOK);
        }
        let shown = self.thread.is_finished() && self.thread.join().is_ok();
        let mut summary = locked(&self.known).clone();
        summary.count();
        (summary, shown)
    }
}

impl Screen {
    /// Waits until everything before is shown and the screen is free.
    pub(crate) fn pause(&self) {
        let (free, is_free) = mpsc::sync_channel(1);
        if self.0.send(Message::Pause(free)).is_ok() {
            let _gone = is_free.recv();
        }
    }

    pub(crate) fn resume(&self) {
        let _gone = self.0.send(Message::Resume);
    }
}

impl Reporter for Messenger {
    fn event(&mut self, record: &Record) {
        locked(&self.known).apply(record);
        let _gone = self.sender.send(Message::Event(Box::new(record.clone())));
    }

    fn progress(&mut self, step: &str, progress: &Progress) {
        if self.unread.fetch_add(1, Ordering::Relaxed) < UNREAD {
            let _gone = self.sender.send(Message::Progress(step.to_owned(), progress.clone()));
        } else {
            self.unread.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn locked(summary: &Mutex<Summary>) -> MutexGuard<'_, Summary> {
    summary.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(
    mut summary: Summary,
    mut views: Vec<Box<dyn View>>,
    receiver: &Receiver<Message>,
    unread: &AtomicUsize,
    taken: &AtomicUsize,
) {
    loop {
        taken.fetch_add(1, Ordering::Relaxed);
        match receiver.recv_timeout(TICK) {
            Ok(Message::Event(record)) => {
                summary.apply(&record);
                views.iter_mut().for_each(|view| view.event(&summary, &record));
            }
            Ok(Message::Progress(step, progress)) => {
                unread.fetch_sub(1, Ordering::Relaxed);
                views.iter_mut().for_each(|view| view.progress(&summary, &step, &progress));
            }
            Ok(Message::Pause(free)) => {
                views.iter_mut().for_each(|view| view.pause());
                let _gone = free.send(());
            }
            Ok(Message::Resume) => views.iter_mut().for_each(|view| view.resume()),
            Err(RecvTimeoutError::Timeout) => views.iter_mut().for_each(|view| view.tick()),
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => {
                views.iter_mut().for_each(|view| view.end());
                return;
            }
        }
    }
}
