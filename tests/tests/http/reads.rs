//! What is asked, and how the answer is read.

use crate::{Stage, assert_code, assert_words, error_of, evil::Evil};
use std::{fs, process::Command};
use tests::{
    lab::{binaries, until},
    servers::{nginx::Nginx, redis::free_port},
};

const LINES: &str = r#"
    location = /json { default_type application/json; return 200 '{"status":"ok","名":[1,2]}'; }
    location = /empty { return 204; }
    location = /健康 { return 200 "$args $http_x_name $http_host $request_method"; }
    location = /many { add_header X-A 1; add_header X-A 2; add_header Set-Cookie "a=1, x"; add_header Set-Cookie b=2; return 200 many; }
    location = /packed.txt { gzip on; gzip_types text/plain; gzip_min_length 1; }
    location = /bytes.bin { default_type application/octet-stream; }
    location = /down { return 503 '{"error":"数据库连接失败"}'; }
    location = /old { return 302 /json; }
    location = /a { return 301 /b; }
    location = /b { return 307 /old; }
    location = /loop { return 302 /loop; }
    location = /private { auth_basic secret; auth_basic_user_file DIR/users; try_files /packed.txt =404; }
    location = /search { if ($request_method = POST) { return 200 found; } return 405; }
"#;

fn server() -> Nginx {
    let server = Nginx::start(LINES);
    fs::write(server.path("users"), "飞手:{PLAIN}rotor-9\n").expect("written");
    fs::write(server.path("www/packed.txt"), "text that is packed\n".repeat(100)).expect("written");
    server
}

fn sha256(path: &std::path::Path) -> String {
    let sum = Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(path).output().expect("openssl");
    String::from_utf8(sum.stdout).expect("text")[..64].to_owned()
}

#[test]
fn answers_are_read_with_status_headers_body_size_and_digest() {
    let server = server();
    let packed = server.path("www/packed.txt");
    fs::write(server.path("www/big"), "0123456789abcdef".repeat(1 << 20)).expect("written");
    fs::write(server.path("www/bytes.bin"), b"\xff\xfe\x00\x01").expect("written");
    let big = sha256(&server.path("www/big"));
    let steps = [
        ("url: /json", "out.status == 200 && out.json['名'] == [1, 2] && out.headers['content-type'] == 'application/json' && out.redirects == 0".to_owned()),
        ("url: /json, method: HEAD", "out.status == 200 && out.size == 0 && out.headers['content-length'] != '0'".into()),
        ("url: /empty, status: 204", "out.size == 0 && out.body == '' && out.json == null".into()),
        ("url: /健康?a=b, query: { 名: '值 &', n: 7 }, headers: { x-name: 无人机 }", "out.body.startsWith('a=b&n=7&%E5%90%8D=%E5%80%BC+%26 无人机 127.0.0.1:')".into()),
        ("url: /健康, headers: { Host: other.example }", "out.body == '  other.example GET'".into()),
        ("url: /many", "out.headers['x-a'] == '1, 2' && out.headers['set-cookie'] == 'a=1, x\\nb=2'".into()),
        ("url: /packed.txt", format!("out.size == 2000 && out.sha256 == '{}' && !('content-encoding' in out.headers)", sha256(&packed))),
        ("url: /packed.txt, headers: { accept-encoding: gzip }", "out.headers['content-encoding'] == 'gzip' && out.size < 2000 && !out.truncated".into()),
        ("url: /big", format!("out.size == 16777216 && out.sha256 == '{big}' && out.truncated && size(out.body) == 262144 && out.json == null")),
        ("url: /bytes.bin", "out.size == 4 && !has(out.body)".into()),
        ("url: /down, status: [200, 5xx]", "out.status == 503 && out.json.error == '数据库连接失败'".into()),
        ("url: /old, status: 302", "out.status == 302 && out.headers.location == '/json'".into()),
        ("url: /a, redirects: 3", "out.status == 200 && out.redirects == 3 && out.url.endsWith('/json')".into()),
        ("url: /private, basic_auth: { user: 飞手, password: rotor-9 }", "out.status == 200".into()),
        ("url: /search, method: post, reads: true, json: { q: [名] }", "out.body == 'found'".into()),
    ];
    let mut phases = "precheck:\n".to_owned();
    for (at, (step, expect)) in steps.iter().enumerate() {
        let step = step.replace("url: /", &format!("url: {}", server.url("/")));
        phases.push_str(&format!("  s{at}:\n    http: {{ {step} }}\n    expect: |-\n      {expect}\n"));
    }
    assert_code(&Stage::new().run(&phases), 0);
    assert_words(&server.log(), &["\"POST /search HTTP/1.1\" 200"]);
}

#[test]
fn tls_is_trusted_by_the_named_authority_alone_and_tells_until_when() {
    let server = server();
    let ca = server.path("ca.pem").display().to_string();
    let url = server.tls_url("/json");
    let good = format!(
        "monitor:\n  it:\n    http: {{ url: '{url}', ca: '{ca}' }}\n    expect: out.json.status == 'ok' && out.certificate.days_left == 1 && out.certificate.expires_at.endsWith('Z')\n"
    );
    assert_code(&Stage::new().run(&good), 0);
    let text = error_of(&format!("{{ url: '{url}' }}"));
    assert_words(
        &text,
        &[
            "is not trusted",
            "name the certificate authority of the server with `ca`",
            "openssl s_client -connect 127.0.0.1:",
        ],
    );
    let other = format!("https://127.0.0.2:{}/json", server.tls_port);
    // The address is in use only for the loopback address that it listens on; nothing answers at the other.
    assert_words(&error_of(&format!("{{ url: '{other}', ca: '{ca}' }}")), &["nothing listens there"]);
    let plain = format!("https://127.0.0.1:{}/json", server.port);
    assert_words(
        &error_of(&format!("{{ url: '{plain}', ca: '{ca}' }}")),
        &["no TLS connection", "does it speak TLS?"],
    );
    let swapped = format!("http://127.0.0.1:{}/json", server.tls_port);
    assert_words(
        &error_of(&format!("{{ url: '{swapped}' }}")),
        &["answered 400", "plain HTTP request was sent to HTTPS port"],
    );
}

#[test]
fn an_unexpected_answer_shows_its_first_lines_and_what_to_do() {
    let server = server();
    let it = |path: &str| error_of(&format!("{{ url: '{}' }}", server.url(path)));
    assert_words(
        &it("/down"),
        &["answered 503 Service Unavailable, expected 2xx", "数据库连接失败", "journalctl -u UNIT"],
    );
    assert_words(&it("/old"), &["answered 302 Found, expected 2xx", "it leads to `/json`", "redirects: 1"]);
    assert_words(&it("/private"), &["answered 401", "basic_auth"]);
    let text = error_of(&format!("{{ url: '{}', redirects: 2 }}", server.url("/a")));
    assert_words(&text, &["redirects once more, to `/json`", "expected at most 2 redirects"]);
    let text = error_of(&format!("{{ url: '{}', redirects: 20 }}", server.url("/loop")));
    assert_words(&text, &["expected at most 20 redirects"]);
    assert_eq!(server.log().matches("/loop").count(), 21);
}

#[test]
fn a_wait_ends_when_the_service_has_come_up() {
    let stage = Stage::new();
    let port = free_port();
    stage.write(&format!(
        "monitor:
  up:
    wait:
      until: {{ http: {{ url: 'http://127.0.0.1:{port}/json' }} }}
      succeed_when: out.json.status == 'ok'
      every: 20ms
    timeout: 2m
"
    ));
    let argv = ["run", "it.yaml", "--no-input", "--events", "events.jsonl"];
    let child = stage.command(binaries::shakedown(), &argv).spawn().expect("it starts");
    until("the wait has begun", || {
        fs::read_to_string(stage.path("events.jsonl")).is_ok_and(|events| events.contains("step_started"))
    });
    let server = Nginx::start_on(port, LINES).expect("the port is still free");
    assert_code(&child.wait_with_output().expect("it ends"), 0);
    assert_words(&server.log(), &["GET /json HTTP/1.1\" 200"]);
}

#[test]
fn a_redirect_to_another_server_takes_no_credentials_along() {
    let there = Evil::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let location = there.url("/there");
    let here = Evil::says(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"));
    let step = format!(
        "{{ url: '{}', redirects: 1, bearer: '${{{{ secrets.t }}}}', headers: {{ x-key: '${{{{ secrets.t }}}}', cookie: a=b, x-plain: kept }} }}",
        here.url("/here")
    );
    let stage = Stage::new();
    stage.write(&format!("secrets: {{ t: {{ env: T }} }}\nmonitor:\n  it:\n    http: {step}\n"));
    let mut command = stage.command(binaries::shakedown(), &["run", "it.yaml", "--no-input"]);
    assert_code(&command.env("T", "canary-77").output().expect("it starts"), 0);
    let (first, second) = (here.seen().concat(), there.seen().concat());
    assert_words(&first, &["authorization: Bearer canary-77\r\n", "x-key: canary-77\r\n", "cookie: a=b\r\n"]);
    assert_words(
        &second,
        &["GET /there HTTP/1.1\r\n", "x-plain: kept\r\n", &format!("host: 127.0.0.1:{}\r\n", there.port)],
    );
    assert!(
        !second.contains("canary") && !second.contains("cookie") && !second.contains("authorization"),
        "{second}"
    );
}
