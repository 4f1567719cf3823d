//! Passwords, certificates and what is never written down.

use crate::{SECRET, Stage, place, step};
use std::{fs, path::Path};
use tests::{
    bare::{Bare, exited},
    folders::said,
    lab::until,
    servers::postgres::{PASSWORD, Setup},
};

/// Every file below a folder that holds a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if memchr::memmem::find(&fs::read(&path).unwrap_or_default(), text.as_bytes()).is_some() {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_password_is_asked_for_given_as_a_secret_and_never_shown() {
    let stage = Stage::new();
    let plain = stage.server.url();
    let inside = plain.replace("tester@", "tester:${{ secrets.pw }}@");
    for (url, login) in [(&plain, ", password: '${{ secrets.pw }}'"), (&inside, "")] {
        let place = place();
        // The row holds the secret too, in a column, in the key and in JSON.
        stage.psql("DROP TABLE IF EXISTS keys");
        stage.make("CREATE TABLE keys (key text PRIMARY KEY, j jsonb)");
        let row = format!(
            "{{ postgres: {{ url: '{url}'{login}, insert: {{ into: keys, values: {{ key: '${{{{ secrets.pw }}}}', j: {{ in: ['${{{{ secrets.pw }}}}'] }} }} }} }} }}"
        );
        let read = format!(
            "{{ postgres: {{ url: '{url}'{login}, query: 'SELECT * FROM keys WHERE key = :k', params: {{ k: '${{{{ secrets.pw }}}}' }} }}, expect: out.count == 1 }}"
        );
        let waits = "{ needs: [read], wait: { until: { file: { stat: go } }, succeed_when: out.exists, every: 20ms } }";
        let child = place.begin(&format!(
            "{SECRET}prepare: {{ row: {row} }}\nmonitor:\n  read: {read}\n  waits: {waits}\n"
        ));
        until("the row is there", || {
            stage.psql(&format!("SELECT count(*) FROM keys WHERE key = '{PASSWORD}' AND j->'in'->>0 = key"))
                == "1"
        });
        stage.psql("UPDATE keys SET j = '{}'");
        fs::write(place.path("go"), "").expect("written");
        let text = exited(&child.wait_with_output().expect("it ends"), 4);
        assert!(!text.contains(PASSWORD) && text.contains("it was changed since"), "{text}");
        assert_eq!(holding(place.state.path(), PASSWORD), Vec::<String>::new());
        assert_eq!(holding(place.dir.path(), PASSWORD), Vec::<String>::new());
        assert_eq!(stage.psql("SELECT count(*) FROM keys"), "1");
        // Without that change it is found by its key, though the key is only named in the journal.
        stage.psql("TRUNCATE keys");
        exited(&place.run(&format!("{SECRET}prepare: {{ row: {row} }}\n")), 0);
        assert_eq!(stage.psql("SELECT count(*) FROM keys"), "0");
        let died = place.run_with("kill:after:row", &format!("{SECRET}prepare: {{ row: {row} }}\n"));
        assert_eq!(died.status.code(), None, "{}", said(&died));
        let text = exited(&place.shakedown(&["recover", "--yes"]), 0);
        assert_eq!(stage.psql("SELECT count(*) FROM keys"), "0", "{text}");
        assert_eq!(holding(place.state.path(), PASSWORD), Vec::<String>::new());
    }
}

#[test]
fn a_wrong_password_and_none_are_told_apart_and_values_with_secrets_not_quoted() {
    let stage = Stage::new();
    let url = stage.server.url();
    let wrong = Bare::with([("PW", "wrong-canary-1")]);
    let text = said(&wrong.run(&format!("{SECRET}monitor: {{ it: {} }}\n", stage.step("check: reachable"))));
    assert!(
        text.contains("does not accept this user and password") && !text.contains("wrong-canary"),
        "{text}"
    );
    assert!(text.contains("psql -h 127.0.0.1 -p") && text.contains("-U tester -d media"), "{text}");
    let none = Bare::new()
        .run(&format!("monitor: {{ it: {{ postgres: {{ url: '{url}', check: reachable }} }} }}\n"));
    assert!(said(&none).contains("asks for a password, and none was given"), "{}", said(&none));
    for action in [
        "query: 'SELECT :v::int', params: { v: '${{ secrets.pw }}' }",
        "query: 'SELECT :v::date', params: { v: '${{ secrets.pw }}' }",
    ] {
        let output = stage.run(&format!("{SECRET}monitor: {{ it: {} }}\n", stage.step(action)));
        let text = said(&output);
        assert!(text.contains("invalid input syntax for type") && !text.contains("canary"), "{text}");
    }
    stage.make(&format!("INSERT INTO files (path, name) VALUES ('{PASSWORD}', 'a')"));
    let text = said(&stage.run(&stage.insert("files", "{ path: '${{ secrets.pw }}', name: b }")));
    assert!(text.contains("duplicate key") && !text.contains("canary"), "{text}");
}

#[test]
fn tls_is_accepted_with_the_right_authority_and_with_no_other() {
    let stage = Stage::with(Setup { tls: true, ..Setup::default() });
    let (plain, ca) = (stage.server.url(), stage.server.ca().display().to_string());
    let encrypted = |url: &str, more: &str| {
        let it =
            step(url, &format!("query: 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'{more}"));
        let it = it.strip_suffix(" }").expect("a step in braces").to_owned();
        move |expect: &str| format!("{SECRET}monitor: {{ it: {it}, expect: '{expect}' }} }}\n")
    };
    let trusting = format!(", ca: '{ca}'");
    let by_name = plain.replace("127.0.0.1", "localhost");
    for (url, more, expect) in [
        (plain.clone(), trusting.as_str(), "out.row.ssl"),
        (by_name.clone(), &trusting, "out.row.ssl"),
        (format!("{plain}?sslmode=require"), &trusting, "out.row.ssl"),
        (format!("{by_name}?sslmode=verify-full"), &trusting, "out.row.ssl"),
        // What does not leave the machine is not encrypted unless that is asked for.
        (plain.clone(), "", "!out.row.ssl"),
        (format!("{plain}?sslmode=disable"), "", "!out.row.ssl"),
    ] {
        exited(&place().run(&encrypted(&url, more)(expect)), 0);
    }
    for mode in ["require", "prefer", "verify-ca"] {
        let output = place().run(&encrypted(&format!("{plain}?sslmode={mode}"), "")("out.row.ssl"));
        let text = said(&output);
        assert!(!output.status.success() && text.contains("is not trusted"), "{mode}: {text}");
        assert!(text.contains("openssl s_client -starttls postgres -connect 127.0.0.1:"), "{text}");
    }
    // A whole run with an effect, encrypted; and the command that people type is so too.
    let insert = stage
        .insert("files", "{ path: /a, name: b }")
        .replace(&format!("'{plain}'"), &format!("'{plain}', ca: '{ca}'"));
    let ready = || stage.psql("SELECT count(*) FROM files") == "1";
    let text =
        exited(&stage.run_while(&insert, ready, || drop(stage.psql("UPDATE files SET name = 'x'"))), 4);
    let line = stage.type_in(&text);
    assert!(line.contains("PGSSLMODE=verify-full PGSSLROOTCERT="), "{line}");
    assert_eq!(stage.psql("SELECT name FROM files"), "x");

    stage.server.let_in("hostnossl all all 0.0.0.0/0 reject");
    let text = said(&place().run(&encrypted(&plain, "")("true")));
    assert!(text.contains("sslmode=require"), "{text}");

    let none = Stage::new();
    let text = said(&place().run(&encrypted(&none.server.url(), &trusting)("true")));
    assert!(text.contains("no TLS connection") && text.contains("does not support TLS"), "{text}");
}
