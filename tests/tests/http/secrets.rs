//! A secret goes out in each place where it may stand, the server says it back in each, and no file holds it.

use crate::{Stage, assert_code, evil::Evil};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};
use tests::lab::binaries;

const CANARY: &str = "c4n4ry (it's) 密/€+7&x";

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_byte_of_a_secret_is_in_anything_that_a_run_writes() {
    // As the address parser escapes it: other characters than a search for URL-encoded forms expects.
    let escaped = "c4n4ry%20(it's)%20%E5%AF%86/%E2%82%AC+7&x";
    let server = Evil::start(move |stream, head| {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = format!("{head}\n{CANARY}\n{}{CANARY}", "x".repeat(262_120));
        let answer = match path.starts_with("/again") {
            true => format!("HTTP/1.1 302 Found\r\nlocation: /there?{escaped}\r\ncontent-length: 0\r\n\r\n"),
            false => {
                format!("HTTP/1.1 418 No\r\nx-back: {CANARY}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
        };
        let _gone = stream.write_all(answer.as_bytes());
    });
    let url = server.url("");
    let s = "${{ secrets.t }}";
    let playbook = format!(
        "secrets: {{ t: {{ env: T }} }}
monitor:
  bearer: {{ http: {{ url: '{url}/b', bearer: '{s}', headers: {{ x-a: 'a {s}' }}, status: 418 }}, expect: out.truncated }}
  basic: {{ http: {{ url: '{url}/u', basic_auth: {{ user: me, password: '{s}' }}, query: {{ key: '{s}' }}, status: 4xx }} }}
  body: {{ http: {{ url: '{url}/t', method: POST, reads: true, body: 'token={s}', status: 418 }} }}
  json: {{ http: {{ url: '{url}/j', method: POST, reads: true, json: {{ a: ['{s}'] }}, status: 418 }} }}
  again: {{ http: {{ url: '{url}/again', redirects: 1, status: 418 }} }}
  fails: {{ needs: [bearer, basic, body, json, again], http: {{ url: '{url}/again', redirects: 1, bearer: '{s}' }} }}
"
    );
    let stage = Stage::new();
    stage.write(&playbook);
    let argv = [
        "run",
        "it.yaml",
        "--no-input",
        "--report",
        "json=r.json",
        "--report",
        "markdown=r.md",
        "--events",
        "e.jsonl",
    ];
    let mut command = stage.command(binaries::shakedown(), &argv);
    let run = command.env("T", CANARY).output().expect("it starts");
    let text = assert_code(&run, 2);
    assert!(text.contains("answered 418"), "{text}");

    let seen = server.seen().concat();
    for sent in [format!("Bearer {CANARY}\r\n"), format!("a {CANARY}\r\n"), format!("token={CANARY}")] {
        assert!(seen.contains(&sent), "`{sent}` was not sent: {seen}");
    }
    let mut written = vec![("the terminal".to_owned(), [run.stdout, run.stderr].concat())];
    for path in [stage.dir.path(), stage.state.path()].into_iter().flat_map(files) {
        written.push((path.display().to_string(), fs::read(&path).expect("read")));
    }
    assert!(written.iter().any(|(name, _)| name.ends_with("journal.sqlite")), "the journal is among them");
    for (name, bytes) in &written {
        let found = memchr::memmem::find(bytes, b"c4n4ry");
        let near = found
            .map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(80)..(at + 60).min(bytes.len())]));
        assert_eq!(near, None, "{name}");
    }
}
