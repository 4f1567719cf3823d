//! The history, a line a run.

use super::{
    Store, chain, guard,
    lock::{Owner, is_owned, look},
    place::Place,
    to_u64,
};
use crate::{
    event::{EVENT_VERSION, Record, RunEvent, Verdict},
    journal::JournalError,
    plan::Plan,
};
use rusqlite::{OptionalExtension, Row, params};
use std::{collections::BTreeSet, fs};

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The run's id.
    pub id: String,
    /// The playbook's name.
    pub playbook: String,
    /// The plan's hash.
    pub plan_hash: String,
    /// When it began, in milliseconds since 1970 UTC.
    pub started_ms: u64,
    /// When it ended; missing if it runs or died.
    pub finished_ms: Option<u64>,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// How many things it left, or nobody could tell of.
    pub left: u64,
    /// Whether a living process owns it.
    pub alive: bool,
    /// The process that owns it, or did last.
    pub pid: u32,
    /// Whether the machine has been started anew since the owner began.
    pub rebooted: bool,
    /// Why it does not belong here; missing if it does.
    pub elsewhere: Option<&'static str>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// A living process owns it.
    Running,
    /// Its owner died before the run was over.
    Died,
    /// It ended, and left something or could not tell.
    Left,
    /// It ended, and nothing is left.
    Over,
}

impl RunRow {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> RunState {
        match (self.alive, self.finished_ms, self.verdict) {
            (true, ..) => RunState::Running,
            (false, Some(_), Some(_)) if self.left > 0 => RunState::Left,
            (false, Some(_), Some(_)) => RunState::Over,
            (false, ..) => RunState::Died,
        }
    }

    /// Whether its owner died before the run was over.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state() == RunState::Died
    }

    /// Whether a recovery has something to do.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state(), RunState::Died | RunState::Left)
    }
}

/// A run of which only its lock tells: the journal has no word of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRun {
    /// The run's id.
    pub id: String,
    /// How many records its journal had.
    pub records: u64,
    /// The living process that owns it, if one does; 0 if it cannot be seen from here.
    pub owner: Option<u32>,
}

/// A run as the journal has it.
pub(super) struct Stored {
    pub(super) plan: Plan,
    /// Its records, up to the first that was damaged.
    pub(super) records: Vec<Record>,
    /// The checksum of the last of these.
    pub(super) sum: String,
    /// How many records are damaged.
    pub(super) damaged: u64,
}

const COLUMNS: &str =
    "id, playbook, plan_hash, started_ms, finished_ms, verdict, pid, boot_id, coalesce(remains, 0), place";
const OPEN: &str = "finished_ms IS NULL OR verdict IS NULL OR remains > 0";

fn unreadable(error: impl std::fmt::Display) -> JournalError {
    JournalError::new(format!("cannot read the journal: {error}"))
}

impl Store {
    /// All runs, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        self.seen(self.rows("1", [])?)
    }

    /// The runs that live, died or left something, newest first. What it takes does not grow with the history.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open_runs(&self) -> Result<Vec<RunRow>, JournalError> {
        self.seen(self.rows(OPEN, [])?)
    }

    /// The run with this id, which may be cut to any beginning or end of one run's id.
    ///
    /// # Errors
    /// There is no such run, several, or the journal cannot be read.
    pub fn find(&self, id: &str) -> Result<RunRow, JournalError> {
        let row = self.pick(id)?;
        Ok(self.seen(vec![row])?.remove(0))
    }

    /// Looks which of them live. One whose lock is free is read again: it may have ended between the two looks.
    fn seen(&self, mut rows: Vec<RunRow>) -> Result<Vec<RunRow>, JournalError> {
        for row in &mut rows {
            if row.state() == RunState::Over {
                continue;
            }
            row.alive = is_owned(&self.lock_path(&row.id))?;
            if !row.alive
                && let Some(again) = self.rows("id = ?1", [&row.id])?.pop()
            {
                *row = again;
            }
        }
        Ok(rows)
    }

    /// The lines that a condition holds for, newest first, without a look whether they live.
    fn rows<const N: usize>(
        &self,
        condition: &str,
        values: [&String; N],
    ) -> Result<Vec<RunRow>, JournalError> {
        let connection = guard(&self.connection);
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE {condition} ORDER BY started_ms DESC, id DESC");
        let mut statement = connection.prepare(&sql).map_err(unreadable)?;
        let found = statement.query_map(rusqlite::params_from_iter(values), |row| line(row, &self.here));
        found.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unreadable)
    }

    /// The line of the run that an id means; see [`Store::find`].
    pub(super) fn pick(&self, id: &str) -> Result<RunRow, JournalError> {
        let id = id.to_owned();
        if let Some(exact) = self.rows("id = ?1", [&id])?.pop() {
            return Ok(exact);
        }
        let wanted = id.to_uppercase();
        let mut runs = match wanted.is_empty() {
            true => Vec::new(),
            false => {
                self.rows("substr(id, 1, length(?1)) = ?1 OR substr(id, -length(?1)) = ?1", [&wanted])?
            }
        };
        match runs.len() {
            0 => Err(JournalError::new(format!("there is no run `{id}`")).hint("list them: shakedown runs")),
            1 => Ok(runs.remove(0)),
            _ => {
                let names = runs.iter().map(|row| row.id.as_str()).collect::<Vec<_>>().join(", ");
                Err(JournalError::new(format!("`{id}` is the id of several runs")).hint(names))
            }
        }
    }

    /// Runs that began, and of which the journal has no word: it was damaged, or another has taken its place.
    ///
    /// # Errors
    /// The journal or a lock cannot be read.
    pub fn lost_runs(&self) -> Result<Vec<LostRun>, JournalError> {
        let mut lost = Vec::new();
        for id in self.locked()? {
            // The lock first: a run that ends takes its away after its end is written down.
            let Some((owner, records @ 1..)) = look(&self.lock_path(&id))? else { continue };
            if self.rows("id = ?1", [&id])?.is_empty() {
                let owner = match owner {
                    Owner::None => None,
                    Owner::Process(pid) => Some(pid),
                };
                lost.push(LostRun { id, records, owner });
            }
        }
        Ok(lost)
    }

    /// The runs that have a lock file.
    pub(super) fn locked(&self) -> Result<BTreeSet<String>, JournalError> {
        let folder = self.dir.join("locks");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(|error| super::cannot("look into", &folder, error))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names
            .filter_map(|name| name.strip_suffix(".lock").map(str::to_owned))
            .filter(|id| !id.starts_with("named-"))
            .collect())
    }

    /// The plan and the history of a run. `id` as in [`Store::find`].
    ///
    /// # Errors
    /// There is no such run, several, or the journal cannot be read. Of a history that was damaged, what comes before that is
    /// given.
    pub fn load(&self, id: &str) -> Result<(Plan, Vec<Record>), JournalError> {
        let stored = self.read(&self.pick(id)?.id)?;
        Ok((stored.plan, stored.records))
    }

    /// A run by its whole id.
    pub(super) fn read(&self, run: &str) -> Result<Stored, JournalError> {
        let newer = |what: String| {
            JournalError::new(format!("the journal of `{run}`: {what}"))
                .hint("use the version of shakedown that wrote it")
        };
        let connection = guard(&self.connection);
        let found: Option<(String, Option<String>)> = connection
            .query_row("SELECT plan, plan_sum FROM runs WHERE id = ?1", [run], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(unreadable)?;
        let (text, sum) = found.unwrap_or_default();
        if sum.is_some_and(|sum| sum != chain::sum(&[&text])) {
            return Err(JournalError::new(format!("the plan of `{run}` was damaged: its checksum does not fit"))
                .hint("what the run left is not known; look for it by hand, then forget the run: shakedown runs forget RUN"));
        }
        let plan = serde_json::from_str(&text)
            .map_err(|error| newer(format!("its plan cannot be read: {error}")))?;
        let mut statement = connection
            .prepare("SELECT seq, at_ms, event, sum FROM events WHERE run = ?1 ORDER BY seq")
            .map_err(unreadable)?;
        let mut rows = statement.query(params![run]).map_err(unreadable)?;
        let (mut records, mut last, mut damaged) = (Vec::new(), String::new(), 0);
        while let Some(row) = rows.next().map_err(unreadable)? {
            let whole = || -> rusqlite::Result<(u64, u64, String, Option<String>)> {
                Ok((to_u64(row.get(0)?), to_u64(row.get(1)?), row.get(2)?, row.get(3)?))
            };
            let read = whole().ok().filter(|_| damaged == 0);
            let expected = u64::try_from(records.len()).unwrap_or(u64::MAX);
            let Some((seq, at_ms, event, sum)) = read.filter(|(seq, at_ms, event, sum)| {
                let fits = sum.as_ref().is_none_or(|sum| *sum == chain::next(&last, *seq, *at_ms, event));
                *seq == expected && fits
            }) else {
                damaged += 1;
                continue;
            };
            let event: RunEvent = serde_json::from_str(&event)
                .map_err(|error| newer(format!("record {seq} cannot be read by this version: {error}")))?;
            if let RunEvent::RunStarted { version, .. } = &event
                && *version > EVENT_VERSION
            {
                return Err(newer(format!(
                    "its records are of version {version}, this one knows {EVENT_VERSION}"
                )));
            }
            records.push(Record { seq, at_ms, event });
            last = sum.unwrap_or_default();
        }
        Ok(Stored { plan, records, sum: last, damaged })
    }
}

fn line(row: &Row<'_>, here: &Place) -> rusqlite::Result<RunRow> {
    let boot: String = row.get(7)?;
    let place: Option<String> = row.get(9)?;
    let place: Option<Place> = place.and_then(|text| serde_json::from_str(&text).ok());
    Ok(RunRow {
        id: row.get(0)?,
        playbook: row.get(1)?,
        plan_hash: row.get(2)?,
        started_ms: to_u64(row.get(3)?),
        finished_ms: row.get::<_, Option<i64>>(4)?.map(to_u64),
        verdict: row.get::<_, Option<String>>(5)?.and_then(|text| serde_json::from_str(&text).ok()),
        left: to_u64(row.get(8)?),
        alive: false,
        pid: row.get(6)?,
        rebooted: here.is_of_another_boot(&boot),
        elsewhere: place.and_then(|place| place.elsewhere(here)),
    })
}
