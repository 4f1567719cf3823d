//! Rows in SQLite databases: odd keys and triggers, neighbours, and kills at every point.

use tests::truth::{After, Death, Row, rows};

/// Keys that no rule finds, what triggers make of a row, and rows of others that look the same.
const ODD: &str = "sqlite3 it.db \"
    CREATE TABLE low (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO low VALUES (100, 'a');
    CREATE TABLE high (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO high VALUES (9223372036854775807, 'a');
    CREATE TABLE named (rowid TEXT, oid TEXT, name TEXT); INSERT INTO named VALUES ('1', '2', 'a');
    CREATE TABLE keyed (k TEXT, n INTEGER, v TEXT, PRIMARY KEY (k, n)) WITHOUT ROWID; INSERT INTO keyed VALUES ('a', 1, 'v');
    CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE audit (n INTEGER PRIMARY KEY, what TEXT);
    INSERT INTO t VALUES (1, 'A!'); INSERT INTO audit VALUES (1, 'old');
    CREATE TRIGGER rewrites AFTER INSERT ON t BEGIN UPDATE t SET name = upper(new.name) || '!' WHERE id = new.id; END;
    CREATE TRIGGER made AFTER INSERT ON t BEGIN INSERT INTO audit (what) VALUES ('made ' || new.id); END;
    CREATE TRIGGER went AFTER DELETE ON t BEGIN INSERT INTO audit (what) VALUES ('gone ' || old.id); END;
    CREATE VIEW v AS SELECT name FROM low;
    CREATE TRIGGER there INSTEAD OF INSERT ON v BEGIN INSERT INTO low (name) VALUES (new.name); END;\"";

const ODD_ROWS: &str = "prepare:
  low: { sqlite: { database: '@DIR@/it.db', insert: { into: low, values: { id: 5, name: a } } } }
  high: { sqlite: { database: '@DIR@/it.db', insert: { into: high, values: { name: a } } }, needs: low }
  named: { sqlite: { database: '@DIR@/it.db', insert: { into: named, values: { rowid: '1', oid: '2', name: b } } }, needs: high }
  keyed: { sqlite: { database: '@DIR@/it.db', insert: { into: keyed, values: { k: \"a'文\", n: 1, v: v } } }, needs: named }
  t: { sqlite: { database: '@DIR@/it.db', insert: { into: t, values: { name: a } } }, needs: keyed }
  v: { sqlite: { database: '@DIR@/it.db', insert: { into: v, values: { name: b } } }, needs: t }
monitor:
  once:
    sqlite:
      database: '@DIR@/it.db'
      query: >-
        SELECT (SELECT count(*) FROM low) AS low, (SELECT count(*) FROM high) AS high, (SELECT count(*) FROM named) AS named,
        (SELECT count(*) FROM keyed) AS keyed, (SELECT count(*) FROM t) AS t, (SELECT count(*) FROM audit) AS audit
    expect: \"out.row == { 'low': 3, 'high': 2, 'named': 2, 'keyed': 2, 't': 2, 'audit': 2 }\"
";

const TABLE: &str = "sqlite3 it.db \"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE)\"";
const INSERT: &str =
    "prepare: { row: { sqlite: { database: '@DIR@/it.db', insert: { into: t, values: { name: a } } } } }";
/// A row with a database of its own, in which another does something once the row is there.
const MEANWHILE: Row<'_> = Row {
    setup: TABLE,
    playbook: INSERT,
    ready: "test 1 = $(sqlite3 it.db 'SELECT count(*) FROM t')",
    ..Row::HERE
};
/// An insert there comes to 3001 rows.
const MANY: &str = "sqlite3 it.db \"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE a (id INTEGER PRIMARY KEY, n); CREATE TABLE n (i);
    WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3000) INSERT INTO n SELECT i FROM c;
    CREATE TRIGGER many AFTER INSERT ON t BEGIN
      INSERT INTO a (n) SELECT i FROM n;
    END\"";
/// One row for a step that nobody takes back.
const FINAL: &str =
    "{ sqlite: { database: '@DIR@/it.db', insert: { into: t, values: { id: 7, name: a } } } }";

fn refused<'a>(setup: &'a str, says: &'a [&'a str]) -> Row<'a> {
    Row { setup, playbook: INSERT, exit: 5, says, silent: &["PASSED", "ok, row"], ..Row::HERE }
}

rows! {
    /// A kill at any point is recovered, and nothing of it is left.
    odd_rows_are_gone_after_a_kill_anywhere: Row { setup: ODD, playbook: ODD_ROWS, death: Death::Everywhere, ..Row::HERE };
    /// Resumed, no row is inserted a second time.
    odd_rows_are_inserted_once_when_resumed: Row {
        setup: ODD, playbook: ODD_ROWS, death: Death::Everywhere, after: After::Resume, ..Row::HERE
    };
    /// A kill at any point of the recovery, too.
    odd_rows_are_gone_after_a_kill_of_the_recovery: Row {
        setup: ODD, playbook: ODD_ROWS, death: Death::Twice("after:v"), ..Row::HERE
    };
    /// An undo that was killed has deleted the row; an equal one that came during the run is another's.
    an_equal_row_of_another_is_not_taken_for_one_that_is_deleted: Row {
        setup: TABLE,
        playbook: &format!("{INSERT}\nmonitor: {{ other: {{ command: {{ run: [sqlite3, '@DIR@/it.db', \"INSERT INTO t (name) VALUES ('a')\"], reads: true }} }} }}"),
        death: Death::At("after-undo:row"),
        differs: &["+ row it.db: INSERT"],
        ..Row::HERE
    };
    /// One that came later may be the row under another key.
    an_equal_row_that_came_after_the_deletion_cannot_be_told: Row {
        setup: TABLE,
        playbook: INSERT,
        death: Death::At("after-undo:row"),
        between: "sqlite3 it.db \"INSERT INTO t VALUES (50, 'a')\"",
        exit: 4,
        says: &["left 0, 1 cannot be told", "its deletion was begun", "row 50 has its values"],
        differs: &["+ row it.db: INSERT"],
        over: false,
        ..Row::HERE
    };
    /// Another's equal row under the same key is in the new file, ours in the old one.
    a_rotated_database_is_left_and_named: Row {
        meanwhile: "mv it.db it.db.1; sqlite3 it.db \"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE); INSERT INTO t VALUES (1, 'a')\"",
        exit: 4,
        says: &["left 0, 1 cannot be told", "row 1 of `t` in `@DIR@/it.db`", "is `@DIR@/it.db.1` now"],
        differs: &["+ file it.db.1", "+ row it.db.1: BEGIN", "+ row it.db.1: COMMIT", "+ row it.db.1: PRAGMA", "+ row it.db.1: CREATE", "+ row it.db.1: INSERT", "+ row it.db: INSERT"],
        typed: Some(&["+ file it.db.1", "+ row it.db.1: BEGIN", "+ row it.db.1: COMMIT", "+ row it.db.1: PRAGMA", "+ row it.db.1: CREATE", "+ row it.db: INSERT"]),
        over: false,
        ..MEANWHILE
    };
    /// A database that is gone proves nothing.
    a_database_that_is_gone_is_unknown: Row {
        meanwhile: "rm it.db",
        exit: 4,
        says: &["left 0, 1 cannot be told", "is not there any more"],
        differs: &["- file it.db", "- row it.db: "],
        over: false,
        ..MEANWHILE
    };
    /// To the collation of the column it is the same.
    a_row_that_changed_in_case_is_left: Row {
        meanwhile: "sqlite3 it.db \"UPDATE t SET name = 'A'\"",
        exit: 4,
        says: &["left 1", "`name` has another value"],
        differs: &["+ row it.db: INSERT"],
        typed: Some(&["+ row it.db: INSERT"]),
        over: false,
        ..MEANWHILE
    };
    /// It is there under another key.
    a_row_whose_key_changed_is_left: Row {
        meanwhile: "sqlite3 it.db 'UPDATE t SET id = 99'",
        exit: 4,
        says: &["left 1", "row 99 is just like it", "WHERE \"id\" IS 99"],
        differs: &["+ row it.db: INSERT"],
        typed: Some(&["+ row it.db: INSERT"]),
        over: false,
        ..MEANWHILE
    };
    /// It is there in another table.
    a_row_of_a_renamed_table_is_left: Row {
        meanwhile: "sqlite3 it.db 'ALTER TABLE t RENAME TO t_old'",
        exit: 4,
        says: &["left 1", "`t_old` holds it", "DELETE FROM \"t_old\""],
        differs: &["- row it.db: CREATE", "+ row it.db: CREATE", "+ row it.db: INSERT"],
        typed: Some(&["- row it.db: CREATE", "+ row it.db: CREATE"]),
        ..MEANWHILE
    };
    /// The table was made anew, on the very same page, and an equal row is another's.
    a_row_of_a_table_that_was_made_anew_cannot_be_told: Row {
        meanwhile: "sqlite3 it.db \"DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE); INSERT INTO t VALUES (1, 'a')\"",
        exit: 4,
        says: &["left 0, 1 cannot be told", "may have been made anew"],
        differs: &["+ row it.db: INSERT"],
        typed: Some(&["+ row it.db: INSERT"]),
        over: false,
        ..MEANWHILE
    };
    /// Its deletion would take another's rows along.
    a_row_that_others_hang_on_is_left: Row {
        setup: "sqlite3 it.db \"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE c (n INTEGER PRIMARY KEY, p INTEGER REFERENCES t ON DELETE CASCADE)\"",
        meanwhile: "sqlite3 it.db 'INSERT INTO c VALUES (1, 1)'",
        exit: 4,
        says: &["left 1", "would change what is another's: row 1 of `c`", "look at it with: sqlite3"],
        differs: &["+ row it.db: INSERT INTO t", "+ row it.db: INSERT INTO c"],
        typed: Some(&["+ row it.db: INSERT INTO t", "+ row it.db: INSERT INTO c"]),
        over: false,
        ..MEANWHILE
    };
    /// A trigger makes thousands of rows: they go with ours.
    thousands_of_rows_that_a_trigger_made_go_with_ours: Row {
        setup: MANY,
        playbook: INSERT,
        says: &["left 0", "undone 1 of 1"],
        ..Row::HERE
    };
    /// Where ours cannot go, all of them are told of.
    thousands_of_rows_that_a_trigger_made_stay_with_ours: Row {
        setup: MANY,
        meanwhile: "sqlite3 it.db \"CREATE TRIGGER stays BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'kept'); END\"",
        exit: 4,
        says: &["left 1", "its deletion is refused: kept; with it is left what triggers did: 3000 rows in `a`"],
        differs: &["+ row it.db: INSERT INTO t", "+ row it.db: INSERT INTO a", "+ row it.db: CREATE TRIGGER"],
        over: false,
        ..MEANWHILE
    };
    /// Whoever looks at a database with a log, or is alone with one, leaves no file beside it.
    a_look_at_a_database_in_wal_mode_leaves_no_file: Row {
        setup: "sqlite3 it.db \"PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a')\"",
        playbook: "
precheck:
  # What the judge has left there.
  bare: { command: { run: [rm, -f, '@DIR@/it.db-wal', '@DIR@/it.db-shm'], reads: true } }
  one: { needs: bare, sqlite: { database: '@DIR@/it.db', query: SELECT count(*) AS n FROM t }, expect: out.row.n == 1 }
  sound: { needs: one, sqlite: { database: '@DIR@/it.db', check: [readable, writable, wal, quick, schema], table: t } }
  seen: { needs: one, wait: { until: { sqlite: { database: '@DIR@/it.db', query: SELECT count(*) AS n FROM t } }, succeed_when: out.row.n == 1 } }
prepare:
  row: { sqlite: { database: '@DIR@/it.db', insert: { into: t, values: { name: b } } } }
monitor:
  two: { sqlite: { database: '@DIR@/it.db', query: SELECT count(*) AS n FROM t }, expect: out.row.n == 2 }
  files:
    needs: two
    command: { run: [sh, -c, '! ls @DIR@ | grep -e -wal -e -shm'], reads: true }",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// The plan and the run judge alike whether a journal can be made.
    a_database_beside_which_nothing_can_be_made_is_not_writable: Row {
        setup: "mkdir d r; sqlite3 d/it.db 'CREATE TABLE t (id INTEGER PRIMARY KEY)'; mount --bind -o ro d r; \
                mount --bind d/it.db r/it.db",
        playbook: "precheck: { it: { sqlite: { database: '@DIR@/r/it.db', check: [readable, writable] } } }",
        exit: 1,
        says: &["REFUSED", "cannot be written: `@DIR@/r`: Read-only"],
        mend: "umount r/it.db r",
        ..Row::HERE
    };
    /// The trigger's own words are told.
    a_row_that_a_trigger_keeps_is_left: Row {
        meanwhile: "sqlite3 it.db \"CREATE TRIGGER stays BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'kept for 7 years'); END\"",
        exit: 4,
        says: &["left 1", "its deletion is refused: kept for 7 years"],
        differs: &["+ row it.db: INSERT", "+ row it.db: CREATE TRIGGER"],
        over: false,
        ..MEANWHILE
    };
    /// Another's row is not replaced.
    a_schema_that_replaces_makes_the_step_fail: refused(
        "sqlite3 it.db \"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE ON CONFLICT REPLACE, n); INSERT INTO t VALUES (1, 'a', 7)\"",
        &["UNIQUE constraint failed: t.name", "left 0"],
    );
    /// A row 0 with the same values is another's.
    a_trigger_that_ignores_makes_the_step_fail: refused(
        "sqlite3 it.db \"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (0, 'a'); CREATE TRIGGER no BEFORE INSERT ON t BEGIN SELECT RAISE(IGNORE); END\"",
        &["nothing was inserted into `t`", "left 0"],
    );
    /// What an undo inserts is there once, with nothing beside it.
    a_written_undo_that_inserts_leaves_just_its_row: Row {
        setup: TABLE,
        playbook: &format!("prepare: {{ it: {{ command: {{ run: [touch, '@DIR@/x'] }}, undo: {FINAL} }} }}"),
        death: Death::Twice("after:it"),
        differs: &["+ file x", "+ row it.db: INSERT"],
        ..Row::HERE
    };
    /// What a cleanup inserts is there once, with nothing beside it.
    a_cleanup_that_inserts_leaves_just_its_row: Row {
        setup: TABLE,
        playbook: &format!("prepare: {{ it: {{ file: {{ create: '@DIR@/x', text: x }} }} }}\ncleanup: {{ row: {FINAL} }}"),
        death: Death::Twice("after:it"),
        differs: &["+ row it.db: INSERT"],
        ..Row::HERE
    };
    /// Each attempt of a statement is taken back.
    each_attempt_of_a_statement_is_undone: Row {
        setup: TABLE,
        playbook: "prepare:
  it:
    sqlite: { database: '@DIR@/it.db', execute: \"INSERT INTO t (name) VALUES ('a')\" }
    expect: out.changes == 2
    retry: { attempts: 3, delay: 10ms, on: [expectation] }
    undo: { sqlite: { database: '@DIR@/it.db', execute: DELETE FROM t WHERE id = (SELECT max(id) FROM t) } }",
        exit: 2,
        says: &["left 0"],
        ..Row::HERE
    };
}
