//! What a table is: its columns, and how a row of it is found again.

use super::{
    connection::explain,
    key::{At, Exact, Key, quoted},
};
use engine::StepError;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params_from_iter};

/// The names of the rowid. A column of that name hides it.
pub(super) const ROWIDS: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// What kind of table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    View,
    /// Its rows are kept by a module; others' triggers and ours cannot watch them.
    Virtual,
    /// It belongs to a virtual table.
    Shadow,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Those that `SELECT *` shows, generated ones too.
    pub(super) columns: Vec<String>,
    /// The columns of its primary key, in order.
    primary: Vec<String>,
    /// By which name the rowid can be asked for.
    pub(super) rowid: Option<&'static str>,
    /// Its first page: it keeps it through a rename, but not through a vacuum.
    pub(super) root: i64,
}

impl Table {
    /// The table or view of that name, if there is one.
    pub(super) fn load(connection: &Connection, name: &str) -> Result<Option<Self>, StepError> {
        Self::read_schema(connection, name).map_err(|error| explain(connection, &error))
    }

    fn read_schema(connection: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let listed = connection
            .query_row(
                "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?1)",
                [name],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?)),
            )
            .optional()?;
        let Some((name, kind, without_rowid)) = listed else { return Ok(None) };
        let kind = match kind.as_str() {
            "view" => Kind::View,
            "virtual" => Kind::Virtual,
            "shadow" => Kind::Shadow,
            _ => Kind::Table,
        };
        let root = connection
            .query_row("SELECT rootpage FROM main.sqlite_schema WHERE name = ?1", [&name], |row| row.get(0))
            .optional()?
            .flatten()
            .unwrap_or(0);
        let mut columns = Vec::new();
        let mut primary = Vec::new();
        let mut statement =
            connection.prepare("SELECT name, pk FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1")?;
        let mut rows = statement.query([&name])?;
        while let Some(row) = rows.next()? {
            let (column, place): (String, i64) = (row.get(0)?, row.get(1)?);
            if place > 0 {
                primary.push((place, column.clone()));
            }
            columns.push(column);
        }
        primary.sort();
        let hidden = |rowid: &&str| columns.iter().any(|column| column.eq_ignore_ascii_case(rowid));
        let rowid = match without_rowid || kind == Kind::View {
            true => None,
            false => ROWIDS.into_iter().find(|rowid| !hidden(rowid)),
        };
        let primary = primary.into_iter().map(|(_, column)| column).collect();
        Ok(Some(Self { name, kind, columns, primary, rowid, root }))
    }

    /// What its rows are kept in the order of, as it stands in a statement; nothing if that cannot be asked for.
    pub(super) fn order(&self) -> Vec<String> {
        match self.rowid {
            Some(rowid) => vec![rowid.to_owned()],
            None => self.primary.iter().map(|column| quoted(column)).collect(),
        }
    }

    /// What is asked for to know a row whole; `of` is `new.` or `old.` within a trigger.
    pub(super) fn wanted(&self, of: &str) -> String {
        let rowid = self.rowid.map(|rowid| format!("{of}{rowid}"));
        let columns = self.columns.iter().map(|column| format!("{of}{}", quoted(column)));
        std::iter::once(rowid.unwrap_or_else(|| "NULL".into())).chain(columns).collect::<Vec<_>>().join(", ")
    }

    /// A row of which [`Table::wanted`] was asked, from the column `first` on.
    pub(super) fn row(&self, row: &SqlRow<'_>, first: usize) -> rusqlite::Result<At> {
        let rowid: Option<i64> = row.get(first)?;
        let mut cells = Vec::new();
        let mut exact = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            let value = row.get_ref(first + 1 + at)?;
            cells.push(Exact::cell(column, value));
            exact.push((column.clone(), Exact::from(value)));
        }
        let primary: Vec<(String, Exact)> = self
            .primary
            .iter()
            .filter_map(|column| exact.iter().find(|(name, _)| name == column).cloned())
            .collect();
        // A key of an ordinary table may hold NULL, many times over.
        let usable = !primary.is_empty() && primary.iter().all(|(_, value)| *value != Exact::Null);
        let key = match (usable, self.rowid, rowid) {
            (true, ..) => primary,
            (false, Some(name), Some(rowid)) => vec![(name.to_owned(), Exact::Integer(rowid))],
            _ => exact,
        };
        Ok(At { key: Key(key), rowid, row: cells.into_iter().collect() })
    }

    /// The rows that a condition holds for, at most `limit`.
    pub(super) fn rows(
        &self,
        connection: &Connection,
        condition: &str,
        values: Vec<rusqlite::types::Value>,
        limit: usize,
    ) -> Result<Vec<At>, StepError> {
        let sql = format!(
            "SELECT {} FROM main.{} WHERE {condition} LIMIT {limit}",
            self.wanted(""),
            quoted(&self.name)
        );
        let read = || -> rusqlite::Result<Vec<At>> {
            let mut statement = connection.prepare(&sql)?;
            statement.query_map(params_from_iter(values), |row| self.row(row, 0))?.collect()
        };
        read().map_err(|error| explain(connection, &error))
    }

    /// The rows under a key; more than one only if all columns are the key.
    pub(super) fn under(&self, connection: &Connection, key: &Key) -> Result<Vec<At>, StepError> {
        let known = |column: &str| {
            self.rowid == Some(column) || self.columns.iter().any(|name| name.eq_ignore_ascii_case(column))
        };
        if !key.0.iter().all(|(column, _)| known(column)) {
            return Ok(Vec::new());
        }
        let (condition, values) = key.condition();
        self.rows(connection, &condition, values, 3)
    }

    /// All names of tables with rows of their own.
    pub(super) fn names(connection: &Connection) -> Result<Vec<String>, StepError> {
        let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let read = || -> rusqlite::Result<Vec<String>> {
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(|error| explain(connection, &error))
    }
}
