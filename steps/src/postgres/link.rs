//! The connection: opened within a limit, given up with the run, its transactions short and tried again where another
//! stood in their way.

use super::{
    Params,
    address::{self, Place},
    errors::{self, Words},
    patience::Patience,
    value,
};
use engine::{ErrorClass, StepError, quantity::Millis, secret::is_marked, step::Context};
use futures_util::TryStreamExt as _;
use serde_json::Value;
use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, Error, NoTls, Row, Statement, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The settings under which a value has one text, whatever those of the database and the user: for one transaction.
pub(super) const EXACT: &str = "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL timezone = 'UTC'; \
    SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; \
    SET LOCAL lc_monetary = 'C'";

/// How long an answer to a change is still waited for when the run stops: a change that is known beats one in doubt.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// How much longer than the server's own limits an answer is waited for.
const SLACK: Duration = Duration::from_secs(5);
/// How long locks of others are waited for, unless the step says otherwise.
const BUSY: Millis = Millis(30_000);
/// How long a statement may work, unless the step says otherwise.
const WORK: Millis = Millis(30_000);

/// Why something did not come about.
pub(super) enum Failure {
    /// The server or the library said so.
    Pg(Error),
    /// Already in words.
    Told(StepError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Pg(error)
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::Told(error)
    }
}

/// A connection of its own for one look or one change, so that nothing else shares its transactions.
pub(super) struct Link<'a> {
    pub(super) cx: &'a Context,
    pub(super) place: Place,
    pub(super) client: Client,
    pub(super) patience: Patience,
    driver: JoinHandle<()>,
    stop: Stop,
    work: Duration,
    /// What of the server's words may be passed on.
    pub(super) words: Words,
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        self.stop.if_asking();
        self.driver.abort();
    }
}

/// Stops a statement on the server: by itself it would go on when nobody waits any more.
struct Stop {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
    asking: AtomicBool,
}

impl Stop {
    async fn now(&self) {
        let Self { token, tls, .. } = self;
        let asked = async {
            match tls {
                Some(tls) => token.cancel_query(tls.clone()).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        // A server that does not hear this notices the end of the connection.
        let _unheard = tokio::time::timeout(LAST_ANSWER, asked).await;
    }

    /// Where the future of a step is dropped, nobody is there to wait.
    fn if_asking(&self) {
        if !self.asking.load(Ordering::Relaxed) {
            return;
        }
        let stop = Self { token: self.token.clone(), tls: self.tls.clone(), asking: AtomicBool::new(false) };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { stop.now().await });
        }
    }
}

/// What a statement came to.
pub(super) struct Change {
    pub(super) rows: Vec<Row>,
    /// How many rows were written.
    pub(super) count: u64,
}

impl<'a> Link<'a> {
    /// `mark` is the name by which the server lists the session.
    ///
    /// # Errors
    /// The server does not answer, or does not let the user in.
    pub(super) async fn open(cx: &'a Context, params: &Params, mark: &str) -> Result<Self, StepError> {
        Self::open_in(cx, params, mark, None).await
    }

    /// The same in another database of that server.
    ///
    /// # Errors
    /// As those of [`Link::open`].
    pub(super) async fn open_in(
        cx: &'a Context,
        params: &Params,
        mark: &str,
        database: Option<&str>,
    ) -> Result<Self, StepError> {
        let place = Place::of(params);
        let mut config = address::config(cx, params, &place)?;
        if let Some(database) = database {
            config.dbname(database);
        }
        config.application_name(mark);
        let encrypts = config.get_ssl_mode() != SslMode::Disable;
        let tls = match encrypts {
            true => {
                let mut client = crate::tls::client(params.ca.as_deref())?;
                client.alpn_protocols = vec![b"postgresql".to_vec()];
                Some(MakeRustlsConnect::new(client))
            }
            false => None,
        };
        let opening = async {
            Ok::<_, Error>(match &tls {
                Some(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    (client, tokio::spawn(async move { drop(connection.await) }))
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    (client, tokio::spawn(async move { drop(connection.await) }))
                }
            })
        };
        let opened = tokio::select! {
            opened = tokio::time::timeout(params.connect_timeout.duration(), opening) => opened,
            () = cx.cancel.cancelled() => return Err(errors::stopped(&place)),
        };
        match opened {
            Ok(Ok((client, driver))) => {
                let stop = Stop { token: client.cancel_token(), tls, asking: AtomicBool::new(false) };
                let patience = Patience::new(params.busy_timeout.unwrap_or(BUSY));
                let work = params.statement_timeout.unwrap_or(WORK).duration();
                Ok(Self { cx, place, client, patience, driver, stop, work, words: Words::All })
            }
            // A secret could be the database's name.
            Ok(Err(error)) if is_marked(&params.url) => Err(errors::explain(&error, &place, Words::Unquoted)),
            Ok(Err(error)) => Err(errors::explain(&error, &place, Words::All)),
            Err(_) => Err(errors::silent(&place, params.connect_timeout)),
        }
    }

    /// Waits for an answer, within the server's limits and as long as the run goes on.
    pub(super) async fn ask<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let limit = self.patience.limit() + self.work + SLACK;
        self.stop.asking.store(true, Ordering::Relaxed);
        let answer = tokio::select! {
            answer = tokio::time::timeout(limit, answer) => answer,
            () = self.cx.cancel.cancelled() => {
                self.stop.now().await;
                self.stop.asking.store(false, Ordering::Relaxed);
                return Err(errors::stopped(&self.place).into());
            }
        };
        match answer {
            Ok(answer) => {
                self.stop.asking.store(false, Ordering::Relaxed);
                Ok(answer?)
            }
            Err(_) => Err(errors::silent(&self.place, Millis::from(limit)).into()),
        }
    }

    /// The failure in words that hold no secret.
    pub(super) fn explain(&self, failure: Failure) -> StepError {
        match failure {
            Failure::Told(error) => error,
            Failure::Pg(error) => errors::explain(&error, &self.place, self.words),
        }
    }

    /// Begins a transaction with the limits of this moment.
    pub(super) async fn begin(&self, mode: &str) -> Result<(), Failure> {
        // The server takes no more than 24 days.
        let most = u64::from(i32::MAX.unsigned_abs());
        let locks = Millis::from(self.patience.next_limit()).0.clamp(1, most);
        let all = locks.saturating_add(Millis::from(self.work).0).min(most);
        let sql =
            format!("BEGIN {mode}; SET LOCAL lock_timeout = {locks}; SET LOCAL statement_timeout = {all}");
        self.ask(self.client.batch_execute(&sql)).await
    }

    /// Sets something for the rest of the transaction, or carries out what is a fixed text otherwise.
    pub(super) async fn set(&self, sql: &str) -> Result<(), Failure> {
        self.ask(self.client.batch_execute(sql)).await
    }

    /// Carries out one statement of ours that changes something, inside of a transaction.
    pub(super) async fn write(&self, sql: &str, values: &[Value]) -> Result<Change, Failure> {
        let statement = self.ask(self.client.prepare(sql)).await?;
        self.carry_out(&statement, values, 2).await
    }

    /// Ends a transaction without effect.
    pub(super) async fn roll_back(&self) -> Result<(), Failure> {
        self.ask(self.client.batch_execute("ROLLBACK")).await
    }

    /// After a failure: whether another try makes sense. It waits before that.
    pub(super) async fn again(&mut self, failure: Failure) -> Result<(), StepError> {
        let error = match failure {
            Failure::Pg(error) if errors::passes(errors::code(&error)) => error,
            other => return Err(self.explain(other)),
        };
        // A broken connection fails again below, and says more.
        let _broken = self.roll_back().await;
        let pause = self.patience.another_try(errors::code(&error) == "55P03");
        let Some(pause) = pause else {
            let mut told = errors::explain(&error, &self.place, self.words);
            told.message = format!(
                "`{}`: others were in the way for {}: {}",
                self.place.label,
                Millis::from(self.patience.limit()),
                told.message
            );
            return Err(told);
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cx.cancel.cancelled() => Err(errors::stopped(&self.place)),
        }
    }

    /// Rows of a look of our own, inside of a transaction.
    pub(super) async fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        let statement = self.ask(self.client.prepare(sql)).await?;
        Ok(self.carry_out(&statement, values, usize::MAX).await?.rows)
    }

    /// Carries out one statement in a transaction of its own, again where others stood in its way.
    ///
    /// # Errors
    /// It is not carried out; or, with an unknown outcome, nobody says whether it is.
    pub(super) async fn change(&mut self, sql: &str, values: &[Value]) -> Result<Change, Failure> {
        loop {
            match self.try_change(sql, values).await {
                Ok(change) => {
                    self.patience.done();
                    return Ok(change);
                }
                Err(Failure::Pg(error)) if !errors::passes(errors::code(&error)) => {
                    return Err(Failure::Pg(error));
                }
                Err(failure) => self.again(failure).await?,
            }
        }
    }

    async fn try_change(&self, sql: &str, values: &[Value]) -> Result<Change, Failure> {
        self.begin("").await?;
        let statement = self.ask(self.client.prepare(sql)).await?;
        // A change may return as many rows as the table has; nobody asks for more than the first.
        let change = self.carry_out(&statement, values, 1).await?;
        self.commit().await?;
        Ok(change)
    }

    async fn carry_out(
        &self,
        statement: &Statement,
        values: &[Value],
        kept: usize,
    ) -> Result<Change, Failure> {
        let values = value::bind_all(self.cx, values, statement)?;
        let carried_out = async {
            let stream = self.client.query_raw(statement, values.iter()).await?;
            tokio::pin!(stream);
            let mut rows = Vec::new();
            while let Some(row) = stream.try_next().await? {
                if rows.len() < kept {
                    rows.push(row);
                }
            }
            Ok(Change { rows, count: stream.rows_affected().unwrap_or(0) })
        };
        self.ask(carried_out).await
    }

    /// From here on the outcome is the server's alone to tell.
    pub(super) async fn commit(&self) -> Result<(), Failure> {
        if self.cx.cancel.is_cancelled() {
            return Err(errors::stopped(&self.place).into());
        }
        let limit = self.work + SLACK;
        let answer = self.client.batch_execute("COMMIT");
        tokio::pin!(answer);
        let said = tokio::select! {
            said = tokio::time::timeout(limit, &mut answer) => said,
            () = self.cx.cancel.cancelled() => tokio::time::timeout(LAST_ANSWER, &mut answer).await,
        };
        match said {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if errors::is_lost(&error) => {
                Err(errors::explain(&error, &self.place, self.words).unknown_outcome().into())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(errors::silent(&self.place, Millis::from(limit)).unknown_outcome().into()),
        }
    }

    /// Ends sessions of this mark that an attempt left behind, so that nothing of them can come about any more.
    ///
    /// # Errors
    /// One does not end.
    pub(super) async fn end_others(&self, mark: &str) -> Result<(), StepError> {
        let began = Instant::now();
        let ask = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = $1::text AND pid <> pg_backend_pid() AND usename = current_user";
        loop {
            let asked = self.rows(ask, &[Value::from(mark)]).await;
            if asked.map_err(|failure| self.explain(failure))?.is_empty() {
                return Ok(());
            }
            if began.elapsed() > SLACK {
                let message = format!(
                    "the session `{mark}` of an earlier attempt on `{}` does not end",
                    self.place.label
                );
                return Err(StepError::new(ErrorClass::Busy, message).hint(
                    self.place.type_in(&format!(
                        "SELECT * FROM pg_stat_activity WHERE application_name = '{mark}'"
                    )),
                ));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
