//! A row's whole life: inserted, settled after a crash, taken back, looked for.

use super::{
    Intent, Output, Params, Sqlite,
    connection::{Access, Task, explain},
    fate::Search,
    file::{Content, DatabaseFile, Standing},
    insert::Insert,
    key,
    made::{self, Made},
    reserve,
    undo::Undo,
};
use crate::store::Fate;
use engine::{
    StepError,
    error::ErrorClass,
    host::shell_word,
    step::{Context, Leftover, Presence, Settled, Undone},
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Why nothing can be said of a row whose key is not known.
const OLDER: &str = "the run was begun by an older version, which did not write down which row it inserted";

impl Intent {
    fn undo<'a>(
        &'a self,
        insert: &'a Insert,
        made: &'a Made,
        database: &'a str,
        confirmed: bool,
        thorough: bool,
    ) -> Undo<'a> {
        let content = self.content.map(|content| (database, content));
        let search = Search { insert, made, removing: self.removing, confirmed, content, thorough };
        Undo { search, database, file: self.file.as_ref() }
    }
}

/// What was inserted, if anything was.
fn known(cx: &Context, params: &Params, intent: &Intent) -> Result<Option<(Insert, Made)>, StepError> {
    let (Some(insert), Some(made)) = (&params.insert, &intent.made) else { return Ok(None) };
    Ok(Some((insert.clone(), made.revealed(&cx.services.secrets)?)))
}

/// Whether the space for the undo is still taken.
fn reserved(intent: &Intent) -> Presence {
    match intent.reserve.as_ref().filter(|path| std::path::Path::new(path).exists()) {
        None => Presence::Gone,
        Some(path) => Presence::Present(Leftover {
            what: format!("file `{path}`"),
            why: "the space that was put by for the undo is still taken".into(),
            remove_with: format!("rm -- {}", shell_word(path)),
        }),
    }
}

/// Who is killed in a transaction leaves SQLite's own journal beside the database. What cannot be rolled back is told.
async fn roll_back(cx: &Context, params: &Params, intent: &Intent) -> Result<Option<Leftover>, StepError> {
    let same = |file: &&DatabaseFile| matches!(file.standing(&params.database), Standing::Same);
    let Some(file) = intent.file.clone().filter(|file| same(&file)) else { return Ok(None) };
    let Some(journal) = file.own_journal().filter(|journal| journal.exists()) else { return Ok(None) };
    let task = Task::new(cx, &params.database, params.busy_timeout, Access::Write);
    let rolled = task.run(move |connection| {
        let connection: &Connection = connection;
        let begun = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
        let _transaction = begun.map_err(|error| explain(connection, &error))?;
        file.discard_journal()
    });
    match rolled.await {
        Ok(_) => Ok(None),
        Err(error) if matches!(error.class, ErrorClass::Busy | ErrorClass::Cancelled) => Err(error),
        Err(error) => Ok(Some(Leftover {
            what: format!("file `{}`", journal.display()),
            why: format!("SQLite keeps it for a transaction that did not end: {}", error.message),
            remove_with: made::typed(&params.database, "BEGIN IMMEDIATE; ROLLBACK"),
        })),
    }
}

fn output(made: &Made) -> Output {
    let rowid = made.row.as_ref().and_then(|stored| stored.at.rowid);
    let row = made.row.as_ref().map_or_else(String::new, |stored| format!("row {}", stored.at.key.shown()));
    Output { rowid, changes: 1, inserted: Some(row), triggered: made.besides(), ..Output::default() }
}

impl Sqlite {
    /// Inserts the row.
    pub(super) async fn insert(
        &self,
        cx: &Context,
        params: &Params,
        insert: &Insert,
        intent: &Intent,
    ) -> Result<Output, StepError> {
        let file = match &intent.file {
            Some(file) => file.clone(),
            None => DatabaseFile::at(&params.database)?,
        };
        if let Some(path) = &intent.reserve {
            reserve::make(path, intent.reserve_bytes)?;
        }
        let amend = {
            let (cx, intent, runtime) = (cx.clone(), intent.clone(), tokio::runtime::Handle::current());
            move |made: &Made, content: Option<Content>| {
                let better = Intent { made: Some(made.clone()), content, ..intent.clone() };
                runtime.block_on(cx.amend(&better))
            }
        };
        let (cancel, noted) = (cx.cancel.clone(), amend.clone());
        let is_final = cx.is_final();
        let (insert, database) = (insert.clone(), params.database.clone());
        let task = Task::new(cx, &params.database, params.busy_timeout, Access::Write);
        let publish = move |made: &Made| {
            amend(made, None)?;
            match cancel.is_cancelled() {
                true => Err(StepError::new(ErrorClass::Cancelled, "stopped before the commit")),
                false => Ok(()),
            }
        };
        let ran = task.run(move |connection| match insert.run(connection, &database, &file, &publish) {
            Ok(made) => {
                // Without it the undo knows less, and all that it has to.
                let _known = Content::of(&database).map(|content| noted(&made, Some(content)));
                Ok(output(&made))
            }
            // Done again after a kill it ends as if done once.
            Err(error) if is_final && error.class == ErrorClass::Exists => {
                match insert.is_there(connection)? {
                    Some(at) => Ok(Output {
                        rowid: at.rowid,
                        inserted: Some(format!("row {} was there", at.key.shown())),
                        ..Output::default()
                    }),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        });
        match ran.await {
            Ok((output, db)) => Ok(Output { db, ..output }),
            Err(error) => {
                let certain = error.no_effect;
                // No undo will come to give the space back.
                let given_back =
                    || intent.reserve.as_deref().is_none_or(|path| reserve::release(path).is_ok());
                Err(if certain && !given_back() { StepError { no_effect: false, ..error } } else { error })
            }
        }
    }

    /// Whether the row was inserted by an attempt whose outcome is unknown.
    pub(super) async fn settle_insert(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let Some((insert, made)) = known(cx, params, intent)? else {
            roll_back(cx, params, intent).await?;
            return Ok(match intent.above {
                Some(_) => Settled::Unclear(OLDER.into()),
                None => Settled::NotHappened,
            });
        };
        let (database, intent) = (params.database.clone(), intent.clone());
        let task = Task::new(cx, &params.database, params.busy_timeout, Access::Read);
        let looked = task.run(move |connection| {
            let undo = intent.undo(&insert, &made, &database, false, false);
            if let Some(left) = undo.replaced(connection)? {
                return Ok(Settled::Unclear(left.why));
            }
            // Of a view's rows the first stands for all.
            let fate = match (&made.row, made.others.first()) {
                (Some(stored), _) => undo.search.own(connection, stored)?.fate,
                (None, Some(stored)) => undo.search.other(connection, stored)?.fate,
                (None, None) => Fate::Unseen("the insert left no row of its own".into()),
            };
            Ok(match fate {
                Fate::AsStored => Settled::Happened(output(&made)),
                Fate::Gone => Settled::NotHappened,
                Fate::Changed(why) | Fate::Unseen(why) => Settled::Unclear(why),
            })
        });
        let (settled, db) = looked.await?;
        Ok(match settled {
            Settled::Happened(output) => Settled::Happened(Output { db, ..output }),
            other => other,
        })
    }

    /// Deletes the row with all that came of it, or says why not.
    pub(super) async fn undo_insert(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        // On a full disk this is the space that the delete takes.
        if let Some(path) = &intent.reserve {
            reserve::release(path)?;
        }
        let Some((insert, made)) = known(cx, params, intent)? else {
            if let Some(left) = roll_back(cx, params, intent).await? {
                return Ok(Undone::Left(left));
            }
            return Ok(match (&params.insert, intent.above) {
                (Some(insert), Some(_)) => Undone::CannotTell(Leftover {
                    what: format!("a row of `{}` in `{}`", insert.into, params.database),
                    why: OLDER.into(),
                    remove_with: made::typed(
                        &params.database,
                        &format!("SELECT rowid, * FROM {}", key::quoted(&insert.into)),
                    ),
                }),
                _ => Undone::NothingToDo,
            });
        };
        let confirmed = output.is_some();
        let noted = {
            let (cx, intent, runtime) = (cx.clone(), intent.clone(), tokio::runtime::Handle::current());
            move |made: Made| {
                let marked = Intent { made: Some(made), removing: true, ..intent.clone() };
                // A journal that takes no more is no reason to leave the row.
                let _best_effort = runtime.block_on(cx.amend(&marked));
            }
        };
        let of = |access| {
            let (insert, made, database, intent, noted) =
                (insert.clone(), made.clone(), params.database.clone(), intent.clone(), noted.clone());
            (
                Task::new(cx, &params.database, params.busy_timeout, access),
                move |connection: &mut Connection, writes: bool| {
                    let undo = intent.undo(&insert, &made, &database, confirmed, true);
                    match writes {
                        true => undo.run(connection, &noted),
                        false => undo.dry(connection),
                    }
                },
            )
        };
        let undo = intent.undo(&insert, &made, &params.database, confirmed, true);
        if let Some(left) = undo.elsewhere() {
            return Ok(Undone::CannotTell(left));
        }
        let (task, work) = of(Access::Write);
        let error = match task.run(move |connection| work(connection, true)).await {
            Ok((undone, _)) => return Ok(undone),
            // It is tried again.
            Err(error) if matches!(error.class, ErrorClass::Busy | ErrorClass::Cancelled) => {
                return Err(error);
            }
            Err(error) => error,
        };
        // What cannot be written can perhaps be read.
        let (task, work) = of(Access::Read);
        Ok(match task.run(move |connection| work(connection, false)).await {
            Ok((Undone::Left(left), _)) => {
                Undone::Left(Leftover { why: format!("{}: {}", left.why, error.message), ..left })
            }
            Ok((undone, _)) => undone,
            Err(_) => undo.unseen(&error),
        })
    }

    /// Whether anything of it is there.
    pub(super) async fn presence_insert(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let Some((insert, made)) = known(cx, params, intent)? else { return Ok(reserved(intent)) };
        let confirmed = output.is_some();
        let undo = intent.undo(&insert, &made, &params.database, confirmed, false);
        if let Some(left) = undo.elsewhere() {
            return Ok(Presence::Unknown(left.why));
        }
        let (database, owned) = (params.database.clone(), (insert.clone(), made.clone(), intent.clone()));
        let task = Task::new(cx, &params.database, params.busy_timeout, Access::Read);
        let looked = task.run(move |connection| {
            let (insert, made, intent) = &owned;
            intent.undo(insert, made, &database, confirmed, false).presence(connection)
        });
        Ok(match looked.await {
            Ok((Presence::Gone, _)) => reserved(intent),
            Ok((presence, _)) => presence,
            Err(error) => Presence::Unknown(error.message),
        })
    }
}
