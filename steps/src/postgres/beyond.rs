//! What triggers and rules do besides changing rows, such as to empty a table, to make one or to grant a right: no count
//! of rows shows it, and no undo takes it back. It is seen inside of the open transaction, so that nothing of it comes about.

use super::{
    counts::Counts,
    link::{Failure, Link},
};

/// Whether the server counts at all, and functions that would keep it from that.
const COUNTS: &str = "SELECT current_setting('track_counts') = 'on', (SELECT string_agg(DISTINCT p.proname::text, '`, `') FROM pg_proc p \
    WHERE EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s LIKE 'track\\_counts=%'))";

/// Tables that this session alone has locked, as who empties, makes or alters them does.
const LOCKED: &str = "SELECT DISTINCT l.relation::regclass::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
    AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock') AND c.relnamespace <> 'pg_toast'::regnamespace ORDER BY 1";

/// Catalogs that a temporary table is written into.
const OF_TEMPORARY: [&str; 10] = [
    "pg_class",
    "pg_attribute",
    "pg_type",
    "pg_depend",
    "pg_shdepend",
    "pg_namespace",
    "pg_index",
    "pg_attrdef",
    "pg_constraint",
    "pg_sequence",
];

/// Whether nothing but temporary tables was made: they end with the session.
const TEMPORARY: &str = "WITH own (xid) AS (SELECT (txid_current() % 4294967296)::text) SELECT pg_my_temp_schema() <> 0 \
    AND NOT EXISTS (SELECT FROM pg_class, own WHERE pg_class.xmin::text = xid AND relpersistence <> 't') \
    AND NOT EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace, own WHERE t.xmin::text = xid AND n.nspname !~ '^pg_temp_') \
    AND NOT EXISTS (SELECT FROM pg_namespace n, own WHERE n.xmin::text = xid AND n.nspname !~ '^pg_(toast_)?temp_')";

/// Why what this transaction did cannot be taken back, or not be seen whole.
pub(super) async fn beyond(link: &Link<'_>, counts: &Counts) -> Result<Option<String>, Failure> {
    let rows = link.rows(COUNTS, &[]).await?;
    let (on, off_in) =
        rows.first().map_or((false, None), |row| (row.get(0), row.get::<_, Option<String>>(1)));
    if !on {
        let why = "the server does not count changes (`track_counts` is off), so that what triggers do cannot be seen";
        return Ok(Some(why.into()));
    }
    if let Some(functions) = off_in {
        let why = format!(
            "`{functions}` keeps the server from counting changes (`track_counts`), so that what triggers do cannot be seen"
        );
        return Ok(Some(why));
    }
    let catalogs: Vec<&str> = counts.catalogs().collect();
    let temporary = catalogs.iter().all(|catalog| OF_TEMPORARY.contains(catalog));
    if catalogs.is_empty()
        || (temporary && link.rows(TEMPORARY, &[]).await?.first().is_some_and(|row| row.get(0)))
    {
        return Ok(None);
    }
    let locked: Vec<String> = link.rows(LOCKED, &[]).await?.iter().map(|row| row.get(0)).collect();
    Ok(Some(match locked.is_empty() {
        false => format!(
            "a trigger or a rule empties, makes or alters `{}`, which no undo takes back",
            locked.join("`, `")
        ),
        true => format!(
            "a trigger or a rule changes more than rows (`{}`), which no undo takes back",
            catalogs.join("`, `")
        ),
    }))
}
