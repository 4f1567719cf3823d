//! What a transaction changed, table by table, as the server counts it: triggers, rules and cascades are in it.

use super::{
    link::{Failure, Link},
    sql::quoted,
};
use std::collections::BTreeMap;

/// The changes of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// As statements name it.
    pub(super) sql: String,
    /// As messages name it.
    pub(super) label: String,
    pub(super) inserted: i64,
    pub(super) updated: i64,
    pub(super) deleted: i64,
    /// It is one of the server's own, which says what tables, rights and large objects there are.
    catalog: bool,
}

/// The changes of all tables, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(pub(super) BTreeMap<u32, Count>);

const LOOK: &str = "SELECT relid, schemaname::text, relname::text, n_tup_ins, n_tup_upd, n_tup_del \
    FROM pg_stat_xact_all_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname !~ '^pg_toast'";

impl Counts {
    /// What was counted so far; at the beginning of a transaction that of earlier ones of the session.
    pub(super) async fn take(link: &Link<'_>) -> Result<Self, Failure> {
        let rows = link.rows(LOOK, &[]).await?;
        let counts = rows.iter().map(|row| {
            let (schema, name): (String, String) = (row.get(1), row.get(2));
            let count = Count {
                sql: format!("{}.{}", quoted(&schema), quoted(&name)),
                label: if ["public", "pg_catalog"].contains(&schema.as_str()) {
                    name
                } else {
                    format!("{schema}.{name}")
                },
                inserted: row.get(3),
                updated: row.get(4),
                deleted: row.get(5),
                catalog: schema == "pg_catalog",
            };
            (row.get(0), count)
        });
        Ok(Self(counts.collect()))
    }

    /// Those of tables with rows of people, by their numbers.
    pub(super) fn of_rows(self) -> impl Iterator<Item = (u32, Count)> {
        self.0.into_iter().filter(|(_, count)| !count.catalog)
    }

    /// The names of the server's own that were changed.
    pub(super) fn catalogs(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter(|count| count.catalog).map(|count| count.label.as_str())
    }

    /// What came after an earlier look.
    pub(super) fn since(self, before: &Self) -> Self {
        let less = |(oid, mut count): (u32, Count)| {
            if let Some(old) = before.0.get(&oid) {
                count.inserted -= old.inserted;
                count.updated -= old.updated;
                count.deleted -= old.deleted;
            }
            (oid, count)
        };
        let some = |count: &Count| count.inserted != 0 || count.updated != 0 || count.deleted != 0;
        Self(self.0.into_iter().map(less).filter(|(_, count)| some(count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Counts};

    #[test]
    fn only_what_came_since_counts() {
        let count = |inserted, updated| Count { inserted, updated, ..Count::default() };
        let before = Counts([(1, count(2, 0)), (2, count(1, 1))].into());
        let after = Counts([(1, count(3, 0)), (2, count(1, 1)), (3, count(0, 1))].into());
        let since = after.since(&before).0;
        assert_eq!(since.into_iter().collect::<Vec<_>>(), [(1, count(1, 0)), (3, count(0, 1))]);
    }
}
