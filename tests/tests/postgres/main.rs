//! The step type `postgres` against a real server: what is read, what is undone, what is left and how it is told.

mod crash;
mod errors;
mod locks;
mod reads;
mod security;
mod truth;
mod undo;

use tests::{
    bare::Bare,
    servers::postgres::{PASSWORD, Postgres, Setup, USER},
};

/// A server with the tables of the tests, and a place for playbooks that know the password.
struct Stage {
    server: Postgres,
    bare: Bare,
}

impl std::ops::Deref for Stage {
    type Target = Bare;

    fn deref(&self) -> &Bare {
        &self.bare
    }
}

/// The table of the system under test, in PostgreSQL.
const FILES: &str = "CREATE TABLE files (id serial PRIMARY KEY, path text NOT NULL UNIQUE, name text NOT NULL, size bigint, \
                     state text DEFAULT 'pending')";

impl Stage {
    fn new() -> Self {
        Self::with(Setup::default())
    }

    fn with(setup: Setup) -> Self {
        let stage = Self { server: Postgres::start(setup), bare: place() };
        stage.make(FILES);
        stage
    }

    /// Makes something that belongs to the user of the tests.
    #[track_caller]
    fn make(&self, sql: &str) {
        self.server.psql(&format!("SET ROLE {USER}; {sql}"));
    }

    #[track_caller]
    fn psql(&self, sql: &str) -> String {
        self.server.psql(sql)
    }

    /// A step with the login of the tests.
    fn step(&self, action: &str) -> String {
        step(&self.server.url(), action)
    }

    /// A playbook of one insert.
    fn insert(&self, into: &str, values: &str) -> String {
        format!(
            "{SECRET}prepare: {{ row: {} }}\n",
            self.step(&format!("insert: {{ into: '{into}', values: {values} }}"))
        )
    }

    /// The sessions of runs that wait for a lock.
    fn waiting(&self) -> String {
        self.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^shakedown' AND wait_event_type = 'Lock'")
    }
}

/// A place whose programs know the password.
fn place() -> Bare {
    Bare::with([("PW", PASSWORD), ("PGPASSWORD", PASSWORD)])
}

fn step(url: &str, action: &str) -> String {
    format!("{{ postgres: {{ url: '{url}', password: '${{{{ secrets.pw }}}}', {action} }} }}")
}

/// Where playbooks have the password from.
const SECRET: &str = "secrets: { pw: { env: PW } }\n";
