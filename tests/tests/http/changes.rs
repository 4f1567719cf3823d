//! Requests that change something: sent once, taken back by the written undo, and in doubt when nobody answered.

use crate::{
    Stage, assert_code, assert_words,
    evil::{Evil, hang},
};
use std::{io::Write as _, process::Command};
use tests::{
    lab::{binaries, until},
    servers::nginx::Nginx,
};

const STORE: &str = "location /store/ { root DIR/www; dav_methods PUT DELETE; create_full_put_path on; }";

#[test]
fn a_file_is_sent_as_it_is_and_the_written_undo_takes_it_back() {
    let server = Nginx::start(STORE);
    let stage = Stage::new();
    let url = server.url("/store/2026/媒体 1.bin").replace(' ', "%20");
    stage.write(&format!(
        "prepare:
  made: {{ file: {{ create: '媒体.bin', size: 20MiB }} }}
  sent:
    http: {{ method: PUT, url: '{url}', file: '${{{{ steps.made.out.path }}}}', status: 201 }}
    undo: {{ http: {{ method: DELETE, url: '{url}', status: [204, 404] }} }}
monitor:
  back: {{ http: {{ url: '{url}' }}, expect: 'out.sha256 == steps.made.out.sha256 && out.size == 20971520' }}
"
    ));
    let plan = assert_code(&stage.shakedown(&["plan", "it.yaml"]), 0);
    assert_words(&plan, &["PUT http://127.0.0.1"]);
    assert_code(&stage.shakedown(&["run", "it.yaml", "--no-input"]), 0);
    let left = Command::new("find").arg(server.path("www")).args(["-type", "f"]).output().expect("find");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    assert_words(&server.log(), &["\"PUT /store/", "\"DELETE /store/"]);
}

#[test]
fn a_change_without_an_answer_is_in_doubt_and_is_sent_only_once() {
    for breaks in [true, false] {
        let server = Evil::start(move |stream, head| {
            if head.starts_with("DELETE") {
                let _gone = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            } else if !breaks {
                hang(stream);
            }
        });
        let url = server.url("/jobs");
        let output = Stage::new().run(&format!(
            "prepare:
  job:
    http: {{ method: POST, url: '{url}', json: {{ 名: ['${{{{ run.id }}}}', 1] }}, timeout: 2s }}
    retry: {{ attempts: 3, delay: 10ms }}
    undo: {{ http: {{ method: DELETE, url: '{url}' }} }}
"
        ));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success(), "{text}");
        let why = if breaks {
            "closed the connection before its answer was whole"
        } else {
            "did not answer within 2 s"
        };
        assert_words(&text, &[why, "unknown"]);
        let seen = server.seen();
        assert_eq!(seen.iter().filter(|head| head.starts_with("POST")).count(), 1, "{seen:?}");
        assert_eq!(seen.iter().filter(|head| head.starts_with("DELETE")).count(), 1, "{seen:?}");
        assert_words(&seen[0], &["content-type: application/json\r\n", "{\"名\":[\"", "\",1]}"]);
    }
}

#[test]
fn a_change_that_is_sent_elsewhere_where_nobody_may_go_has_not_happened() {
    for (status, doubt) in [("307 Temporary Redirect", false), ("303 See Other", true)] {
        let server =
            Evil::says(format!("HTTP/1.1 {status}\r\nlocation: ftp://host/\r\ncontent-length: 0\r\n\r\n"));
        let output = Stage::new().run(&format!(
            "prepare:
  it:
    http: {{ url: '{}', method: POST, redirects: 1 }}
    undo: {{ command: {{ run: ['true'] }} }}
",
            server.url("/")
        ));
        let text = tests::folders::said(&output);
        assert_words(&text, &["redirects to `ftp://host/`, which is no address"]);
        assert_eq!(text.contains("unknown"), doubt, "{text}");
    }
}

#[test]
fn what_has_not_left_is_tried_again_and_so_is_what_only_reads() {
    let server = Evil::start(|_, _| {});
    let output = Stage::new().run(&format!(
        "monitor:
  it:
    http: {{ url: '{}', method: POST, body: 找, reads: true }}
    retry: {{ attempts: 3, delay: 10ms, on: [unreachable] }}
",
        server.url("/")
    ));
    assert_words(&assert_code(&output, 5), &["closed the connection"]);
    assert_eq!(server.seen().len(), 3);
    assert_words(&server.seen()[0], &["content-type: text/plain; charset=utf-8\r\n", "\r\n\r\n找"]);

    let port = tests::servers::redis::free_port();
    let output = Stage::new().run(&format!(
        "prepare:
  it:
    http: {{ url: 'http://127.0.0.1:{port}/', method: POST }}
    undo: {{ command: {{ run: ['true'] }} }}
    retry: {{ attempts: 3, delay: 10ms }}
"
    ));
    let text = assert_code(&output, 5);
    assert_words(&text, &["nothing listens there", "3 attempts"]);
    assert!(!text.contains("unknown"), "{text}");
}

#[test]
fn a_run_that_is_stopped_gives_its_requests_up() {
    let server = Evil::start(|stream, _| hang(stream));
    let stage = Stage::new();
    stage.write(&format!(
        "monitor:\n  it:\n    http: {{ url: '{}', timeout: 1h }}\n    timeout: 1h\n",
        server.url("/")
    ));
    let child =
        stage.command(binaries::shakedown(), &["run", "it.yaml", "--no-input"]).spawn().expect("it starts");
    until("the request has come", || !server.seen().is_empty());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
    assert_code(&child.wait_with_output().expect("it ends"), 130);
}

#[test]
fn a_playbook_says_at_reading_what_cannot_be_sent() {
    let stage = Stage::new();
    for (step, words) in [
        ("url: 'ftp://host/'", "expected http or https, found `ftp`"),
        ("url: 'http://host/a b'", "write it as %20"),
        ("url: \"http://host/\\r\\nX: y\"", "it holds `\\r`"),
        ("url: 'http://user:pw@host/'", "give them with `basic_auth`"),
        ("url: 'http://-oProxyCommand=x/'", "a host does not begin with `-`"),
        ("url: 'http://host/', headers: { X-A: \"a\\r\\nX-B: b\" }", "holds a line feed"),
        ("url: 'http://host/', headers: { Content-Length: 3 }", "cannot be given"),
        ("url: 'http://host/', body: x", "needs a `method` that sends a body"),
        ("url: 'http://host/', method: POST, reads: true, body: x, json: 1", "`json` cannot go with `body`"),
        ("url: 'http://host/', status: 2x", "expected a status such as"),
        ("url: 'http://host/', method: CONNECT, reads: true", "`CONNECT` cannot be a step"),
        ("url: 'http://host/', ca: ca.pem", "`ca` goes with an `https://` address"),
        ("url: 'http://host/', redirects: 21", "expected at most 20"),
    ] {
        let text = assert_code(&stage.run(&format!("monitor:\n  it:\n    http: {{ {step} }}\n")), 3);
        assert_words(&text, &[words]);
    }
    let post = "precheck:\n  it:\n    http: { url: 'http://host/', method: POST }\n";
    assert_code(&stage.run(post), 3);
    let nested = "monitor:\n  it:\n    wait: { until: { http: { url: 'http://host/', method: POST } } }\n";
    assert_words(&assert_code(&stage.run(nested), 3), &["reads: true"]);
    stage.write("prepare:\n  it:\n    http: { url: 'http://host/', method: POST }\n");
    assert_words(
        &assert_code(&stage.shakedown(&["plan", "it.yaml"]), 0),
        &["+ it  POST http://host/", "NO UNDO"],
    );
}
