//! Servers and programs without measure: whatever they answer, a run keeps within 64 MiB above one that does nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Child,
    thread,
};
use tests::{
    bare::Bare,
    lab::{binaries, until},
};

/// How much more memory a run may take than one that does nothing, in KiB.
const MORE: u64 = 64 << 10;

/// A server that says the same to each connection once it has been asked something: a beginning, and then a piece without end
/// unless that is empty.
fn server(begin: &[u8], piece: &[u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (begin, piece) =
        (begin.to_vec(), piece.repeat(64 << 10).into_iter().take(64 << 10).collect::<Vec<_>>());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (begin, piece) = (begin.clone(), piece.clone());
            thread::spawn(move || talk(stream, &begin, &piece));
        }
    });
    port
}

fn talk(mut stream: TcpStream, begin: &[u8], piece: &[u8]) {
    let mut asked = [0; 4096];
    while stream.read(&mut asked).is_ok_and(|count| count > 0) {
        if stream.write_all(begin).is_err() {
            return;
        }
        while !piece.is_empty() {
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    }
}

/// The most memory that a program has had, in KiB: it only grows, so that what was seen last is near enough.
fn peak(mut child: Child) -> (u64, Option<i32>) {
    let (mut most, mut code) = (0, None);
    until("the run ends", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = most.max(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0));
        let ended = child.try_wait().expect("it is ours");
        code = ended.and_then(|status| status.code());
        ended.is_some()
    });
    (most, code)
}

fn measure(bare: &Bare, step: &str) -> (u64, Option<i32>) {
    bare.write(&format!("precheck:\n  a:\n    timeout: 5s\n    {step}\n"));
    let mut command = bare.command(binaries::shakedown(), &["run", "it.yaml"]);
    peak(
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starts"),
    )
}

#[test]
fn no_answer_takes_more_than_a_few_megabytes() {
    let bare = Bare::new();
    let db = bare.path("a.db");
    rusqlite::Connection::open(&db)
        .and_then(|db| db.execute_batch("CREATE TABLE t (x)"))
        .expect("a database");
    let http = |begin: &str, piece: &str| {
        format!("http: {{ url: 'http://127.0.0.1:{}/' }}", server(begin.as_bytes(), piece.as_bytes()))
    };
    let redis = |begin: &str, piece: &str| {
        let port = server(begin.as_bytes(), piece.as_bytes());
        format!("redis: {{ url: 'redis://127.0.0.1:{port}', command: [GET, key], reads: true }}")
    };
    let sqlite = |row: &str| {
        format!(
            "sqlite: {{ database: '{}', max_rows: 100000, query: \"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < 5000) SELECT {row} AS x FROM n\" }}",
            db.display()
        )
    };
    let (idle, ended) = measure(&bare, "command: { run: ['true'], reads: true }");
    assert_eq!(ended, Some(0));
    let mut over = Vec::new();
    for (what, step, code) in [
        ("a body without end", http("HTTP/1.1 200 OK\r\n\r\n", "x"), 1),
        (
            "a body of a huge length",
            http("HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n", ""),
            1,
        ),
        ("headers without end", http("HTTP/1.1 200 OK\r\n", "a: b\r\n"), 1),
        ("a header without end", http("HTTP/1.1 200 OK\r\na: ", "b"), 1),
        (
            "chunks without end",
            http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
            1,
        ),
        ("a huge text", redis("$944000000\r\n", "x"), 1),
        ("a huge list", redis("*900000000\r\n", "+a\r\n"), 1),
        ("lists in lists", redis("", "*100000\r\n"), 1),
        ("a line without end", redis("+", "x"), 1),
        ("answers without end", redis("", "+OK\r\n"), 1),
        ("output without end", "command: { run: [yes], reads: true }".into(), 1),
        ("much output", "command: { run: [head, -c, '500000000', /dev/zero], reads: true }".into(), 0),
        ("many rows", sqlite("printf('%30000d', i)"), 0),
        ("large rows", sqlite("printf('%3000000d', 1)"), 1),
    ] {
        let (most, ended) = measure(&bare, &step);
        if most > idle + MORE || ended != Some(code) {
            over.push(format!("{what}: {most} KiB, idle {idle} KiB, exit code {ended:?}, expected {code}"));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}
