//! `media_status.json`: a document `{"media": [...]}` that all who work on it replace whole, in turn by an flock.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Map, Value, json};

use super::patience::{Patience, Refused};
use super::{AT_ONCE, Media, Store};
use crate::config::DatabaseSettings;
use crate::stop::Stop;

/// How times are written, in UTC: as SQLite does.
const TIME: &str = "%Y-%m-%d %H:%M:%S";

/// An element of the document.
type Entry = Map<String, Value>;

#[derive(Debug)]
pub(super) struct Json {
    document: PathBuf,
    lock: PathBuf,
    patience: Patience,
}

impl Json {
    /// Makes the document with its folder, and the file that is locked, if missing.
    pub(super) fn create(settings: &DatabaseSettings) -> Result<(), String> {
        let (document, lock) = (&settings.document, settings.document_lock());
        let make = || -> std::io::Result<()> {
            for folder in [document.parent(), lock.parent()].into_iter().flatten() {
                fs::create_dir_all(folder)?;
            }
            // The lock first: whoever finds the document locks it.
            if lock != *document {
                OpenOptions::new().create(true).append(true).open(&lock)?;
            }
            match OpenOptions::new().write(true).create_new(true).open(document) {
                Ok(mut file) => file.write_all(text(&json!({ "media": [] })).as_bytes()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            }
        };
        make().map_err(|error| format!("cannot make the document `{}`: {error}", document.display()))
    }

    pub(super) fn open(settings: &DatabaseSettings, stop: Stop) -> Result<Self, String> {
        let document = settings.document.clone();
        let name = format!("the document `{}`", document.display());
        let store =
            Self { lock: settings.document_lock(), document, patience: Patience::new(name, settings, stop) };
        store.entries(|_| ())?;
        Ok(store)
    }

    /// Looks at the elements.
    fn entries<T>(&self, look: impl Fn(&[Value]) -> T) -> Result<T, String> {
        self.patience.retried("read", || {
            let _turn = self.turn(FlockArg::LockSharedNonblock)?;
            let mut whole = self.read()?;
            Ok(look(elements(&mut whole)?))
        })
    }

    /// Changes the first element for which `wanted` holds, and says which file it is.
    fn change(
        &self,
        wanted: impl Fn(&Entry) -> bool,
        change: impl Fn(&mut Entry),
    ) -> Result<Option<Media>, String> {
        self.patience.retried("write", || self.changed(&wanted, &change))
    }

    fn changed(
        &self,
        wanted: impl Fn(&Entry) -> bool,
        change: impl Fn(&mut Entry),
    ) -> Result<Option<Media>, Refused> {
        let _turn = self.turn(FlockArg::LockExclusiveNonblock)?;
        let mut whole = self.read()?;
        let entries = elements(&mut whole)?.iter_mut().filter_map(Value::as_object_mut);
        let found = entries.filter(|entry| wanted(entry)).find_map(|entry| Some((media(entry)?, entry)));
        let Some((media, entry)) = found else { return Ok(None) };
        change(entry);
        entry.insert("updated_at".into(), now().into());
        replace(&self.document, &text(&whole)).map_err(|error| Refused::ForGood(error.to_string()))?;
        Ok(Some(media))
    }

    /// The lock. Whoever locks a file that may be replaced looks whether its name still leads to it: the lock of a file
    /// without a name keeps nobody out.
    fn turn(&self, how: FlockArg) -> Result<Flock<File>, Refused> {
        let broken = |error: std::io::Error| {
            Refused::ForGood(format!("cannot lock `{}`: {error}", self.lock.display()))
        };
        let file = File::open(&self.lock).map_err(broken)?;
        let opened = file.metadata().map_err(broken)?;
        match Flock::lock(file, how) {
            Ok(held) => match fs::metadata(&self.lock) {
                Ok(named) if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) => Ok(held),
                _ => Err(Refused::ForNow("its lock was replaced".into())),
            },
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Err(Refused::ForNow("locked".into())),
            Err((_, errno)) => Err(broken(errno.into())),
        }
    }

    fn read(&self) -> Result<Value, Refused> {
        let text = fs::read(&self.document).map_err(|error| Refused::ForGood(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| Refused::ForGood(format!("no JSON: {error}")))
    }

    fn set(&self, media: &Media, members: &Value) -> Result<(), String> {
        let same = |entry: &Entry| entry.get("file_path").and_then(Value::as_str) == Some(&media.path);
        self.change(same, |entry| put(entry, members)).map(drop)
    }
}

impl Store for Json {
    fn take(&mut self) -> Result<Option<Media>, String> {
        self.change(is_ready, |entry| {
            let started = json!({
                "transfer_status": "downloading",
                "transfer_start_time": now(),
                "transfer_end_time": null,
                "last_error_message": null,
            });
            put(entry, &started);
        })
    }

    fn complete(&mut self, media: &Media) -> Result<(), String> {
        let ended = json!({
            "transfer_status": "completed", "transfer_end_time": now(), "last_error_message": null,
        });
        self.set(media, &ended)
    }

    fn retry(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String> {
        self.set(media, &json!({ "transfer_retry_count": tries, "last_error_message": message }))
    }

    fn fail(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String> {
        let ended = json!({
            "transfer_status": "failed", "transfer_end_time": now(),
            "transfer_retry_count": tries, "last_error_message": message,
        });
        self.set(media, &ended)
    }

    fn leave(&mut self, _: &Media) -> Result<(), String> {
        Ok(())
    }

    fn give_back(&mut self, media: &Media) -> Result<(), String> {
        let ours = |entry: &Entry| {
            entry.get("file_path").and_then(Value::as_str) == Some(&media.path)
                && entry.get("transfer_status").is_some_and(|status| status == "downloading")
        };
        let back = |entry: &mut Entry| {
            put(entry, &json!({ "transfer_status": "pending", "transfer_start_time": null }));
        };
        self.patience.once("write", || self.changed(ours, back)).map(drop)
    }

    fn sent_before(&mut self, minutes: u64) -> Result<Vec<Media>, String> {
        let seconds = i64::try_from(minutes.saturating_mul(60)).unwrap_or(i64::MAX);
        let ago = jiff::SignedDuration::from_secs(seconds);
        let latest = jiff::Timestamp::now().checked_sub(ago).unwrap_or(jiff::Timestamp::MIN);
        let latest = latest.strftime(TIME).to_string();
        let sent = |entry: &Entry| {
            entry.get("transfer_status").is_some_and(|status| status == "completed")
                && entry.get("transfer_end_time").and_then(Value::as_str).is_some_and(|end| end <= &*latest)
        };
        self.entries(|all| {
            let sent = all.iter().rev().filter_map(Value::as_object).filter(|entry| sent(entry));
            sent.filter_map(media).take(AT_ONCE as usize).collect()
        })
    }
}

/// The elements of the document.
fn elements(whole: &mut Value) -> Result<&mut Vec<Value>, Refused> {
    let media = whole.get_mut("media").and_then(Value::as_array_mut);
    media.ok_or_else(|| Refused::ForGood("it has no list `media`".into()))
}

/// Downloaded and not yet sent. Whoever adds an element says nothing of its transfer.
fn is_ready(entry: &Entry) -> bool {
    let downloaded = entry.get("download_status").is_some_and(|status| status == "completed");
    let pending = entry.get("transfer_status").is_none_or(|status| status.is_null() || status == "pending");
    downloaded && pending
}

fn media(entry: &Entry) -> Option<Media> {
    let member = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    let path = member("file_path")?;
    let last = || Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned());
    let name = member("file_name").or_else(last)?;
    Some(Media { id: 0, path, name, sha256: member("file_hash") })
}

fn put(entry: &mut Entry, members: &Value) {
    let members = members.as_object().into_iter().flatten();
    entry.extend(members.map(|(name, value)| (name.clone(), value.clone())));
}

fn now() -> String {
    jiff::Timestamp::now().strftime(TIME).to_string()
}

fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

/// The new document beside the old one, durable, with its owner and mode; then it takes its place.
fn replace(document: &Path, text: &str) -> std::io::Result<()> {
    let old = fs::metadata(document)?;
    let name = document.file_name().unwrap_or_default().to_string_lossy();
    let beside = document.with_file_name(format!(".{name}.new"));
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.set_permissions(old.permissions())?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            chown(&beside, Some(old.uid()), Some(old.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, document)
    })();
    if written.is_err() {
        // The cause of the failure counts, not this removal's.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use nix::fcntl::{Flock, FlockArg};
    use serde_json::{Value, json};

    use super::{Json, Store, is_ready};
    use crate::config::{DatabaseSettings, Kind};
    use crate::stop::Stop;

    fn fresh() -> (tempfile::TempDir, DatabaseSettings) {
        let dir = tempfile::tempdir().expect("temp dir");
        let settings = DatabaseSettings {
            store: Kind::Json,
            document: dir.path().join("new/状态.json"),
            busy_timeout_ms: 30,
            max_retries: 1,
            retry_delay_ms: 1,
            ..Default::default()
        };
        Json::create(&settings).expect("create");
        Json::create(&settings).expect("twice changes nothing");
        (dir, settings)
    }

    fn document(settings: &DatabaseSettings) -> Value {
        serde_json::from_slice(&fs::read(&settings.document).expect("reads")).expect("JSON")
    }

    #[test]
    fn an_element_is_taken_once_and_what_others_wrote_stays() {
        let (_dir, settings) = fresh();
        let before = json!({ "版本": 3, "media": [
            { "id": "甲", "file_path": "/a", "download_status": "downloading" },
            "no element",
            { "id": "乙", "file_path": "/媒体/b", "file_name": "b", "download_status": "completed", "其他": [1.5] },
        ] });
        fs::write(&settings.document, before.to_string()).expect("writes");
        let mut store = Json::open(&settings, Stop::default()).expect("opens");
        let media = store.take().expect("reads").expect("an element");
        assert_eq!((media.path.as_str(), media.name.as_str(), media.sha256.clone()), ("/媒体/b", "b", None));
        assert_eq!(store.take(), Ok(None), "taken already");
        store.fail(&media, 2, "断开").expect("writes");
        let now = document(&settings);
        let ours = &now["media"][2];
        assert_eq!(
            (&ours["transfer_status"], &ours["last_error_message"]),
            (&json!("failed"), &json!("断开"))
        );
        assert_eq!((&now["版本"], &ours["其他"]), (&json!(3), &json!([1.5])));
        assert_eq!(now["media"][0], before["media"][0]);
        let names = fs::read_dir(settings.document.parent().expect("a folder")).expect("lists").count();
        assert_eq!(names, 2, "the document and its lock");
    }

    #[test]
    fn what_is_given_back_is_taken_again() {
        let (_dir, settings) = fresh();
        let one = json!({ "media": [{ "file_path": "/a", "download_status": "completed" }] });
        fs::write(&settings.document, one.to_string()).expect("writes");
        let mut store = Json::open(&settings, Stop::default()).expect("opens");
        let media = store.take().expect("reads").expect("an element");
        store.give_back(&media).expect("writes");
        assert_eq!(store.take().expect("reads"), Some(media.clone()));
        store.complete(&media).expect("writes");
        store.give_back(&media).expect("nothing to give back");
        assert_eq!(store.sent_before(0), Ok(vec![media]));
        assert_eq!(store.sent_before(1), Ok(vec![]));
    }

    #[test]
    fn a_lock_is_waited_for_within_the_limits_and_named() {
        let (_dir, settings) = fresh();
        let mut store = Json::open(&settings, Stop::default()).expect("opens");
        let file = File::open(settings.document_lock()).expect("opens");
        let held = Flock::lock(file, FlockArg::LockExclusive).expect("locks");
        let error = store.take().expect_err("locked");
        assert!(error.contains("after 2 tries") && error.contains("locked"), "{error}");
        drop(held);
        assert_eq!(store.take(), Ok(None));
    }

    #[test]
    fn a_document_that_is_none_is_named_and_left() {
        let (_dir, settings) = fresh();
        for (text, why) in [("{", "no JSON"), ("[]", "no list `media`"), ("", "no JSON")] {
            fs::write(&settings.document, text).expect("writes");
            let error = Json::open(&settings, Stop::default()).expect_err(text);
            assert!(error.contains(why) && error.contains("状态.json"), "{error}");
            assert_eq!(fs::read_to_string(&settings.document).expect("reads"), text);
        }
        fs::remove_file(&settings.document).expect("removes");
        assert!(Json::open(&settings, Stop::default()).is_err());
        assert!(!settings.document.exists());
    }

    #[test]
    fn an_element_is_ready_when_it_is_downloaded_and_nobody_has_begun() {
        let ready = |value: Value| is_ready(value.as_object().expect("an object"));
        assert!(ready(json!({ "download_status": "completed" })));
        assert!(ready(json!({ "download_status": "completed", "transfer_status": null })));
        assert!(ready(json!({ "download_status": "completed", "transfer_status": "pending" })));
        assert!(!ready(json!({ "download_status": "completed", "transfer_status": "failed" })));
        assert!(!ready(json!({ "download_status": "pending" })));
        assert!(!ready(json!({})));
    }
}
