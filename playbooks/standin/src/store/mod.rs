//! What the dock manager, this daemon and the smoke tests share: which files there are, and what became of each.
//!
//! Four stores do the same job; `database.store` of the config chooses one.

mod json;
mod patience;
mod postgres;
mod redis;
pub(crate) mod sqlite;

use crate::config::{DatabaseSettings, Kind};
use crate::stop::Stop;

/// A file that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Media {
    /// The id of its row; 0 in a document, which knows its elements by their paths.
    pub(crate) id: i64,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) sha256: Option<String>,
}

/// The steps of a file's way through the store. Errors are sentences that name the store.
pub(crate) trait Store: std::fmt::Debug + Send {
    /// Takes the oldest file that is downloaded and not yet sent; nobody else gets it. It is at `downloading` then.
    fn take(&mut self) -> Result<Option<Media>, String>;

    fn complete(&mut self, media: &Media) -> Result<(), String>;

    /// One more try went wrong; the file stays taken.
    fn retry(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String>;

    fn fail(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String>;

    /// Nothing more is done about the file: it stays at `downloading`, with no word of why.
    fn leave(&mut self, media: &Media) -> Result<(), String>;

    /// Gives a file back at the end of the daemon. One short try: SIGTERM does not wait for a lock.
    fn give_back(&mut self, media: &Media) -> Result<(), String>;

    /// Files sent at least `minutes` ago, the newest first and no more than a sync can look at.
    fn sent_before(&mut self, minutes: u64) -> Result<Vec<Media>, String>;
}

/// How many files a sync looks at for removal.
const AT_ONCE: u32 = 1000;

/// Makes the store, if it is missing.
pub(crate) fn create(settings: &DatabaseSettings, stop: &Stop) -> Result<(), String> {
    match settings.store {
        // A Redis server makes its lists itself.
        Kind::Sqlite | Kind::RedisSqlite => sqlite::Sqlite::create(settings),
        Kind::Postgres => postgres::Postgres::create(settings, stop.clone()),
        Kind::Json => json::Json::create(settings),
    }
}

/// Opens it, and never makes it: a missing store is a wrong path or an edge box not yet set up. What every sync needs
/// is asked for, so that a foreign one fails now.
pub(crate) fn open(settings: &DatabaseSettings, stop: Stop) -> Result<Box<dyn Store>, String> {
    Ok(match settings.store {
        Kind::Sqlite => Box::new(sqlite::Sqlite::open(settings, stop)?),
        Kind::RedisSqlite => Box::new(redis::Redis::open(settings, stop)?),
        Kind::Postgres => Box::new(postgres::Postgres::open(settings, stop)?),
        Kind::Json => Box::new(json::Json::open(settings, stop)?),
    })
}
