//! Word of changes of files, by inotify.

use engine::{
    degraded::Degraded,
    host::BoxFuture,
    step::{Changes, Context},
};
use inotify::{EventMask, Inotify, WatchMask};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::io::unix::AsyncFd;

/// How often the files themselves are asked: the net below inotify, which knows nothing of what another machine
/// changes on a network file system.
const NET: Duration = Duration::from_millis(250);

/// What it means where no word of changes comes.
pub(crate) const AT_THE_NEXT_LOOK: &str = "a wait notices a change when it looks the next time, not at once";

/// Which names in a folder matter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Some(BTreeSet<OsString>),
}

/// Gives word when one of some files is made, changed, moved or removed.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    /// Whole folders, whatever is in them.
    folders: bool,
    /// The kinds of changes that are worth a word.
    kinds: WatchMask,
    inotify: AsyncFd<Inotify>,
    /// What is watched now: folders, each with the names that matter.
    watched: Vec<(PathBuf, Names)>,
    watches: Vec<inotify::WatchDescriptor>,
    seen: Vec<Trace>,
}

/// Whether files are watched.
#[derive(PartialEq, Eq)]
enum Armed {
    /// As they were before.
    Already,
    /// In other places than before.
    Anew,
    /// Nothing can be watched.
    No,
}

/// What a look from outside tells of a file: size, change time and number.
type Trace = Option<(u64, Option<SystemTime>, u64)>;

impl Files {
    /// Watches files, which need not exist; none if the machine has no more watches to give.
    pub(crate) fn watch(cx: &Context, paths: impl IntoIterator<Item = PathBuf>) -> Option<Box<dyn Changes>> {
        Self::noted(cx, paths.into_iter().collect(), false, WatchMask::ATTRIB)
    }

    /// The same, but without word of owners, modes and times: SQLite, as root, sets the owner of the log of each database
    /// that it opens, and whoever looks at one would be woken by that look.
    pub(crate) fn watch_contents(
        cx: &Context,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Option<Box<dyn Changes>> {
        Self::noted(cx, paths.into_iter().collect(), false, WatchMask::empty())
    }

    /// Watches all that is directly in some folders.
    pub(crate) fn watch_folders(
        cx: &Context,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Option<Box<dyn Changes>> {
        Self::noted(cx, paths.into_iter().collect(), true, WatchMask::ATTRIB)
    }

    fn noted(cx: &Context, paths: Vec<PathBuf>, folders: bool, more: WatchMask) -> Option<Box<dyn Changes>> {
        match Self::start(paths, folders, more) {
            Ok(files) => Some(Box::new(files)),
            Err(error) => {
                cx.services.degraded.note(Degraded {
                    what: format!("no word of changes of files (inotify): {error}"),
                    means: AT_THE_NEXT_LOOK.into(),
                });
                None
            }
        }
    }

    fn start(paths: Vec<PathBuf>, folders: bool, more: WatchMask) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; Inotify keeps its descriptor open and to itself"
        )]
        let inotify = AsyncFd::new(inotify)?;
        let kinds = more
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MODIFY
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut files = Self {
            paths,
            folders,
            kinds,
            inotify,
            watched: Vec::new(),
            watches: Vec::new(),
            seen: Vec::new(),
        };
        if files.arm() == Armed::No {
            return Err(io::Error::other("nothing can be watched"));
        }
        files.seen = files.traces();
        Ok(files)
    }

    /// What has to be watched as things are now: a file by its folder, one without a folder by the nearest folder above
    /// it, and one behind a link also where it is.
    fn wanted(&self) -> Vec<(PathBuf, Names)> {
        let mut wanted: Vec<(PathBuf, Names)> = Vec::new();
        let mut add = |folder: PathBuf, name: Option<OsString>| {
            let at = wanted.iter().position(|(known, _)| *known == folder);
            let at = at.unwrap_or_else(|| {
                wanted.push((folder, Names::Some(BTreeSet::new())));
                wanted.len() - 1
            });
            match (&mut wanted[at].1, name) {
                (names, None) => *names = Names::All,
                (Names::Some(names), Some(name)) => {
                    names.insert(name);
                }
                (Names::All, Some(_)) => {}
            }
        };
        for path in &self.paths {
            let real = path.canonicalize().ok().filter(|real| real != path);
            for path in [Some(path.clone()), real].into_iter().flatten() {
                if self.folders && path.is_dir() {
                    add(path, None);
                    continue;
                }
                let mut below = path.as_path();
                while let (Some(folder), Some(name)) = (below.parent(), below.file_name()) {
                    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                    if folder.is_dir() {
                        add(folder.to_path_buf(), Some(name.to_owned()));
                        break;
                    }
                    below = folder;
                }
            }
        }
        wanted
    }

    /// Watches what has to be watched.
    fn arm(&mut self) -> Armed {
        let wanted = self.wanted();
        if wanted == self.watched && !self.watches.is_empty() {
            return Armed::Already;
        }
        let mut watches = self.inotify.get_ref().watches();
        for watch in self.watches.drain(..) {
            // One whose folder is gone has ended by itself.
            let _gone = watches.remove(watch);
        }
        self.watches = wanted.iter().filter_map(|(folder, _)| watches.add(folder, self.kinds).ok()).collect();
        let all = self.watches.len() == wanted.len();
        // A folder that cannot be watched is tried again the next time.
        self.watched = if all { wanted } else { Vec::new() };
        if self.watches.is_empty() { Armed::No } else { Armed::Anew }
    }

    fn traces(&self) -> Vec<Trace> {
        use std::os::unix::fs::MetadataExt;
        let trace = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok(), metadata.ino()))
        };
        self.paths.iter().map(trace).collect()
    }

    /// Ends once inotify tells of a name that matters.
    async fn told(&mut self) {
        let mut buffer = [0u8; 8192];
        loop {
            let Ok(mut ready) = self.inotify.readable_mut().await else {
                return std::future::pending().await;
            };
            let mut matters = false;
            let read = ready.try_io(|inotify| {
                for event in inotify.get_mut().read_events(&mut buffer)? {
                    let whole = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::Q_OVERFLOW;
                    matters |= event.mask.intersects(whole)
                        || event
                            .name
                            .is_some_and(|name| self.watched.is_empty() || matches(&self.watched, name));
                }
                Ok(())
            });
            if read.is_ok() && matters {
                return;
            }
        }
    }

    async fn changed(&mut self) {
        loop {
            let armed = self.arm();
            if armed == Armed::No {
                tokio::time::sleep(NET).await;
            }
            // Since the last word, nobody may have watched where the files are now.
            if armed != Armed::Already && self.moved() {
                return;
            }
            tokio::select! {
                () = self.told() => {}
                () = tokio::time::sleep(NET) => {
                    if !self.moved() {
                        continue;
                    }
                    return;
                }
            }
            self.seen = self.traces();
            return;
        }
    }

    /// Whether the files are no longer as they were at the last word.
    fn moved(&mut self) -> bool {
        let now = self.traces();
        let moved = now != self.seen;
        self.seen = now;
        moved
    }
}

fn matches(watched: &[(PathBuf, Names)], name: &std::ffi::OsStr) -> bool {
    watched.iter().any(|(_, names)| match names {
        Names::All => true,
        Names::Some(names) => names.contains(name),
    })
}

impl Changes for Files {
    fn next(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed())
    }
}

#[cfg(test)]
mod tests {
    use super::Files;
    use crate::{sqlite::Sqlite, testing::Bench};
    use engine::Step as _;
    use serde_json::json;
    use std::time::Duration;

    /// Long enough for any machine; only a test that fails waits for it.
    const LONG: Duration = Duration::from_secs(30);

    async fn told(changes: &mut Box<dyn engine::step::Changes>, what: &str) {
        tokio::time::timeout(LONG, changes.next()).await.unwrap_or_else(|_| panic!("no word of {what}"));
    }

    #[tokio::test]
    async fn a_file_and_folders_that_are_yet_to_come_are_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a/b/文件");
        let mut changes = Files::watch(&Bench::new().cx, [path.clone()]).expect("watches");
        std::fs::create_dir(dir.path().join("a")).expect("made");
        // Whether a folder on the way is worth a word is open; from now on the new one is watched.
        let _word = futures_first(&mut changes).await;
        // Made before anybody can watch the new folders.
        std::fs::create_dir(dir.path().join("a/b")).expect("made");
        std::fs::write(&path, "x").expect("written");
        told(&mut changes, "the file").await;
        std::fs::remove_file(&path).expect("removed");
        told(&mut changes, "its end").await;
    }

    #[tokio::test]
    async fn what_happens_beside_it_is_no_word() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("mine");
        let mut changes = Files::watch(&Bench::new().cx, [path.clone()]).expect("watches");
        std::fs::write(dir.path().join("another"), "x").expect("written");
        let early = futures_first(&mut changes).await;
        assert!(!early, "word of another file");
        std::fs::write(&path, "x").expect("written");
        told(&mut changes, "the file").await;
    }

    /// Whether there is word before all that is pending has had its turn.
    async fn futures_first(changes: &mut Box<dyn engine::step::Changes>) -> bool {
        tokio::select! {
            biased;
            () = changes.next() => true,
            () = async { for _ in 0..100 { tokio::task::yield_now().await } } => false,
        }
    }

    #[tokio::test]
    async fn a_look_at_a_database_is_no_word_of_it_and_a_commit_is() {
        for (mode, stays) in [("wal", true), ("wal", false), ("delete", true), ("delete", false)] {
            let bench = Bench::new();
            let path = bench.path("q.db");
            let owner = rusqlite::Connection::open(&path).expect("opens");
            owner
                .execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE q (n)"))
                .expect("is made");
            let owner = stays.then_some(owner);
            let query = json!({ "database": bench.at("q.db"), "query": "SELECT count(*) AS n FROM q" });
            // A log that the first look makes is worth a word.
            bench.run("sqlite", query.clone()).await.expect("a look");
            let params = serde_json::from_value(query.clone()).expect("params");
            let mut changes = Sqlite.changes(&bench.cx, &params).await.expect("watches");
            for _ in 0..3 {
                bench.run("sqlite", query.clone()).await.expect("a look");
                assert!(!futures_first(&mut changes).await, "{mode}, stays: {stays}: a look woke itself");
            }
            let owner = owner.unwrap_or_else(|| rusqlite::Connection::open(&path).expect("opens"));
            owner.execute("INSERT INTO q VALUES (1)", []).expect("commits");
            told(&mut changes, "a commit").await;
        }
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_noticed_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("real")).expect("made");
        let real = dir.path().join("real/file");
        std::fs::write(&real, "1").expect("written");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let mut changes = Files::watch(&Bench::new().cx, [link]).expect("watches");
        std::fs::write(&real, "22").expect("written");
        told(&mut changes, "the file behind the link").await;
    }
}
