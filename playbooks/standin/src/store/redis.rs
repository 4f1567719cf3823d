//! A list of a Redis server says what is ready; the states stay in SQLite.
//!
//! An id goes from the list `queue` to the list `queue:processing` in one step, and leaves that when its file is done
//! with: so a daemon that died has left behind there what it had in hand. One daemon serves a queue.

use std::time::Duration;

use redis::{Client, Connection, FromRedisValue, RedisError};

use super::patience::{Patience, Refused};
use super::sqlite::Sqlite;
use super::{Media, Store};
use crate::config::DatabaseSettings;
use crate::stop::Stop;

/// How long the server may take for a connection or an answer, so that SIGTERM waits no longer.
const ANSWER: Duration = Duration::from_secs(2);

pub(super) struct Redis {
    states: Sqlite,
    client: Client,
    /// None after an error: what it would answer next is unknown.
    connection: Option<Connection>,
    queue: String,
    processing: String,
    patience: Patience,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("states", &self.states)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Redis {
    pub(super) fn open(settings: &DatabaseSettings, stop: Stop) -> Result<Self, String> {
        let states = Sqlite::open(settings, stop.clone())?;
        let client = Client::open(settings.redis_url.as_str())
            .map_err(|error| format!("cannot use the `redis_url` of the config: {error}"))?;
        // Not the whole address, for it may hold a password.
        let name = format!("the queue `{}` at {}", settings.queue, client.get_connection_info().addr());
        let mut store = Self {
            states,
            client,
            connection: None,
            processing: format!("{}:processing", settings.queue),
            queue: settings.queue.clone(),
            patience: Patience::new(name, settings, stop),
        };
        store.take_up()?;
        Ok(store)
    }

    /// What a daemon before this one had in hand comes first, and what was on its way to us as a connection broke.
    /// Only with nothing in hand.
    fn take_up(&mut self) -> Result<(), String> {
        let processing = self.processing.clone();
        let left: Vec<String> = self.retried("read", redis::cmd("LRANGE").arg(processing).arg(0).arg(-1))?;
        for element in left.into_iter().rev() {
            if let Ok(id) = element.parse() {
                self.states.give_back_row(id)?;
            }
            self.put_back(&element)?;
        }
        Ok(())
    }

    /// Out of what is in hand to the left of the queue.
    fn put_back(&mut self, element: &str) -> Result<(), String> {
        let mut both = redis::pipe();
        both.atomic();
        both.cmd("LREM").arg(&self.processing).arg(1).arg(element).ignore();
        both.cmd("LPUSH").arg(&self.queue).arg(element).ignore();
        self.once("write", |open| both.exec(open))
    }

    fn done(&mut self, element: &str) -> Result<(), String> {
        let (processing, mut command) = (self.processing.clone(), redis::cmd("LREM"));
        self.retried::<i64>("write", command.arg(processing).arg(1).arg(element)).map(drop)
    }

    fn retried<T: FromRedisValue>(&mut self, what: &str, command: &redis::Cmd) -> Result<T, String> {
        let Self { patience, client, connection, .. } = self;
        patience.retried(what, || asked(client, connection, |open| command.query(open)))
    }

    fn once<T>(
        &mut self,
        what: &str,
        ask: impl FnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, String> {
        let Self { patience, client, connection, .. } = self;
        patience.once(what, || asked(client, connection, ask))
    }
}

/// Asks over the connection, or over a new one.
fn asked<T>(
    client: &Client,
    connection: &mut Option<Connection>,
    ask: impl FnOnce(&mut Connection) -> Result<T, RedisError>,
) -> Result<T, Refused> {
    let connect = || {
        let new = client.get_connection_with_timeout(ANSWER)?;
        new.set_read_timeout(Some(ANSWER))?;
        new.set_write_timeout(Some(ANSWER))?;
        Ok(new)
    };
    let mut open = connection.take().map_or_else(connect, Ok).map_err(refused)?;
    let answer = ask(&mut open).map_err(refused)?;
    *connection = Some(open);
    Ok(answer)
}

impl Store for Redis {
    fn take(&mut self) -> Result<Option<Media>, String> {
        loop {
            if self.connection.is_none() {
                self.take_up()?;
            }
            let mut pop = redis::cmd("LMOVE");
            pop.arg(&self.queue).arg(&self.processing).arg("LEFT").arg("RIGHT");
            // Only once: an element may have moved although the answer is lost.
            let Some(element) = self.once::<Option<String>>("read", |open| pop.query(open))? else {
                return Ok(None);
            };
            let Ok(id) = element.parse() else {
                self.done(&element)?;
                return Err(format!(
                    "took `{element}` out of the queue `{}`: expected the id of a row",
                    self.queue
                ));
            };
            match self.states.take_row(id) {
                Ok(Some(media)) => return Ok(Some(media)),
                // Its row is gone, or not ready: nobody has to do anything about it.
                Ok(None) => self.done(&element)?,
                Err(problem) => {
                    // At the latest the next start finds it. The problem with the row is the one to tell.
                    let _ = self.put_back(&element);
                    return Err(problem);
                }
            }
        }
    }

    fn complete(&mut self, media: &Media) -> Result<(), String> {
        self.states.complete(media)?;
        self.done(&media.id.to_string())
    }

    fn retry(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String> {
        self.states.retry(media, tries, message)
    }

    fn fail(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String> {
        self.states.fail(media, tries, message)?;
        self.done(&media.id.to_string())
    }

    fn leave(&mut self, media: &Media) -> Result<(), String> {
        self.states.leave(media)?;
        self.done(&media.id.to_string())
    }

    fn give_back(&mut self, media: &Media) -> Result<(), String> {
        self.states.give_back(media)?;
        self.put_back(&media.id.to_string())
    }

    fn sent_before(&mut self, minutes: u64) -> Result<Vec<Media>, String> {
        self.states.sent_before(minutes)
    }
}

fn refused(error: RedisError) -> Refused {
    let away = error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal();
    match away || error.is_timeout() {
        true => Refused::ForNow(error.to_string()),
        false => Refused::ForGood(error.to_string()),
    }
}
