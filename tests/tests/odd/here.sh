sqlite3 it.db <<'SQL'
CREATE TABLE low (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO low VALUES (100, 'a');
CREATE TABLE top (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO top VALUES (9223372036854775807, 'a');
CREATE TABLE odd (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, size); INSERT INTO odd VALUES (1, 'A!', 1.0);
CREATE TABLE audit (n INTEGER PRIMARY KEY, what TEXT); INSERT INTO audit VALUES (9, 'made a');
CREATE TABLE gone (what TEXT); INSERT INTO gone VALUES ('gone 2');
CREATE TABLE stats (n INTEGER); INSERT INTO stats VALUES (7);
CREATE TRIGGER rewrites AFTER INSERT ON odd BEGIN
  UPDATE odd SET name = upper(new.name) || '!', size = 1.0 WHERE id = new.id;
  INSERT INTO audit (what) VALUES ('made ' || new.name);
  UPDATE stats SET n = n + 1;
END;
CREATE TRIGGER went AFTER DELETE ON odd BEGIN
  INSERT INTO gone VALUES ('gone ' || old.id);
  UPDATE stats SET n = n - 1;
END;
CREATE TABLE clause (name TEXT UNIQUE ON CONFLICT REPLACE, n INTEGER PRIMARY KEY ON CONFLICT IGNORE);
INSERT INTO clause VALUES ('a', 7);
CREATE TABLE equal (name TEXT); INSERT INTO equal VALUES ('a'), ('a');
CREATE TABLE final (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO final VALUES (7, 'undo'), (8, 'cleanup');
SQL
sqlite3 wal.db <<'SQL' >/dev/null
PRAGMA journal_mode = wal;
CREATE TABLE keyed (k TEXT COLLATE NOCASE, n INTEGER, v, PRIMARY KEY (k, n)) WITHOUT ROWID;
INSERT INTO keyed VALUES ('B', 2, 'v');
CREATE TABLE base (id INTEGER PRIMARY KEY, name TEXT); CREATE VIEW seen AS SELECT name FROM base;
CREATE TRIGGER there INSTEAD OF INSERT ON seen BEGIN
  INSERT INTO base (name) VALUES (new.name); INSERT INTO base (name) VALUES (new.name || '2');
END;
SQL
printf '{"jobs": [1.50, {"a": 1e400}], "n": 7}' >jobs.json
printf '{"last": 9223372036854775808, "n": 7}' >other.json
{ printf '{"long": "'; head -c 100000 /dev/zero | tr '\0' x; printf '"}'; } >long.json
printf theirs >theirs; chmod 640 theirs; chown 1:1 theirs
printf kept >kept
