//! What is said when the server does what no server should.

use crate::{
    assert_words, error_of,
    evil::{Evil, forever, hang},
};
use std::{net::TcpStream, process::Command};

#[test]
fn a_server_that_never_answers_is_told_by_how_far_it_came() {
    let silent = Evil::start(|stream, _| hang(stream));
    let text = error_of(&format!("{{ url: '{}', timeout: 300ms }}", silent.url("/")));
    assert_words(&text, &["did not answer within 300 ms"]);

    let endless = Evil::start(|stream, _| {
        forever(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n")
    });
    let text = error_of(&format!("{{ url: '{}', timeout: 500ms }}", endless.url("/")));
    assert_words(&text, &["answered 200, but its body did not end within 500 ms: ", " bytes had come"]);

    let slow = Evil::start(|stream, _| {
        use std::io::Write as _;
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nx-a: b\r\n");
        hang(stream);
    });
    assert_words(
        &error_of(&format!("{{ url: '{}', timeout: 300ms }}", slow.url("/"))),
        &["did not answer within 300 ms"],
    );
}

#[test]
fn answers_that_are_none_are_told_as_such() {
    let cut = Evil::says("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this");
    assert_words(
        &error_of(&format!("{{ url: '{}' }}", cut.url("/"))),
        &["closed the connection before its answer was whole"],
    );
    let chunk = Evil::says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n");
    assert_words(&error_of(&format!("{{ url: '{}' }}", chunk.url("/"))), &[&chunk.url("/")]);
    let other = Evil::says("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    assert_words(
        &error_of(&format!("{{ url: '{}' }}", other.url("/"))),
        &["does not answer as an HTTP/1.1 server does", "does it expect https"],
    );
    let head = Evil::start(|stream, _| forever(stream, "HTTP/1.1 200 OK\r\n", b"x-again: and again\r\n"));
    assert_words(
        &error_of(&format!("{{ url: '{}' }}", head.url("/"))),
        &["the head of the answer", "has no end"],
    );
    let line = Evil::start(|stream, _| forever(stream, "HTTP/1.1 200 ", b"OK and OK and OK"));
    assert_words(
        &error_of(&format!("{{ url: '{}' }}", line.url("/"))),
        &["the head of the answer", "has no end"],
    );
    let nowhere =
        Evil::says("HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n");
    let text = error_of(&format!("{{ url: '{}', redirects: 5 }}", nowhere.url("/")));
    assert_words(
        &text,
        &["redirects to `file:///etc/passwd`, which is no address", "expected http or https"],
    );
}

#[test]
fn a_port_that_never_accepts_and_a_name_that_is_unknown_are_told_apart() {
    // With a backlog of 0 Linux queues one connection and then answers no more.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().expect("made");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let listener = socket.listen(0).expect("listens");
    let address = listener.local_addr().expect("bound");
    let _queued = TcpStream::connect(address).expect("queued");
    let text = error_of(&format!("{{ url: 'http://{address}/', connect_timeout: 300ms }}"));
    assert_words(&text, &["no connection to", "within 300 ms", "ping -c 3 127.0.0.1"]);
    let text = error_of("{ url: 'http://no-such-host.invalid/' }");
    assert_words(&text, &["the name `no-such-host.invalid` cannot be resolved", "getent hosts"]);
}

#[test]
fn a_pipe_in_place_of_a_file_is_never_waited_for() {
    let server = Evil::start(|stream, _| hang(stream));
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let sent = format!("{{ url: '{}', method: POST, reads: true, file: '{pipe}' }}", server.url("/"));
    assert_words(&error_of(&sent), &["it is a pipe, expected a file"]);
    let trusted = format!("{{ url: 'https://127.0.0.1:{}/', ca: '{pipe}' }}", server.port);
    assert_words(&error_of(&trusted), &["it is a pipe, expected a file"]);
}
