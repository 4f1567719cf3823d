//! Servers that do what no server should: a few lines each, on a port of their own.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A server that handles each connection by itself. Its threads end with the test's process.
pub(crate) struct Evil {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Evil {
    /// `answer` is given the stream once a whole request has come, and its head; what it returns is kept open until the
    /// client goes.
    pub(crate) fn start(answer: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, heads) = (Arc::new(answer), seen.clone());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (answer, heads) = (answer.clone(), heads.clone());
                thread::spawn(move || {
                    let Some(head) = request(&stream) else { return };
                    heads.lock().expect("no panic").push(head.clone());
                    answer(&mut stream, &head);
                });
            }
        });
        Self { port, seen }
    }

    /// One that gives the same answer to all, and closes.
    pub(crate) fn says(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        // A client may go before all of it is written.
        Self::start(move |stream, _| drop(stream.write_all(&answer)))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The requests that have come: head and body of each.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

/// Head and body of a request; none if the client goes before.
fn request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if reader.read_line(&mut text).ok()? == 0 {
            return None;
        }
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    reader.read_exact(&mut body).ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    Some(text)
}

/// Keeps the connection open until the client goes.
pub(crate) fn hang(stream: &mut TcpStream) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
}

/// Writes the same again and again until the client goes.
pub(crate) fn forever(stream: &mut TcpStream, head: &str, piece: &[u8]) {
    if stream.write_all(head.as_bytes()).is_ok() {
        while stream.write_all(piece).is_ok() {}
    }
}
