//! An nginx of a test's own: a real web server, over HTTP and over TLS.

use super::{certificates, free_port};
use crate::lab::until;
use std::{
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    dir: tempfile::TempDir,
    /// The loopback port.
    pub port: u16,
    /// The loopback port that speaks TLS.
    pub tls_port: u16,
}

impl Nginx {
    /// Starts it with these lines in its `server` block; `DIR` in them is the folder of the server, `PORT` and `TLS` are its
    /// ports. Its files are those of the folder `www`.
    ///
    /// # Panics
    /// `nginx` or `openssl` is missing, or it does not start.
    #[must_use]
    pub fn start(lines: &str) -> Self {
        // Another may take a port between its choice and its use.
        (0..10).find_map(|_| Self::start_on(free_port(), lines)).expect("nginx starts")
    }

    /// As [`Nginx::start`], on a port that is known before; none if another has taken it.
    ///
    /// # Panics
    /// As [`Nginx::start`].
    #[must_use]
    pub fn start_on(port: u16, lines: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        std::fs::create_dir_all(dir.path().join("www")).expect("a folder");
        let tls_port = free_port();
        let root = dir.path().display().to_string();
        let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
        let config = format!(
            "daemon off; {user} worker_processes 1; pid DIR/pid; error_log DIR/error.log;
events {{ worker_connections 256; }}
http {{
  access_log DIR/access.log; default_type text/plain;
  client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
  server {{
    listen 127.0.0.1:PORT; listen 127.0.0.1:TLS ssl;
    ssl_certificate DIR/server.pem; ssl_certificate_key DIR/server.key;
    root DIR/www; client_max_body_size 64m; absolute_redirect off;
{lines}
  }}
}}
"
        );
        let config = config
            .replace("DIR", &root)
            .replace("PORT", &port.to_string())
            .replace("TLS", &tls_port.to_string());
        std::fs::write(dir.path().join("nginx.conf"), config).expect("written");
        let mut child = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("stderr")).expect("a file"))
            .spawn()
            .expect("nginx is installed");
        let mut ended = false;
        until("nginx answers or has ended", || {
            ended = !matches!(child.try_wait(), Ok(None));
            ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if ended {
            let said = std::fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
            assert!(said.contains("Address already in use"), "nginx does not start: {said}");
            return None;
        }
        Some(Self { child, dir, port, tls_port })
    }

    /// A path in the folder of the server; its files are in `www`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An address of the server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// An address of the server that speaks TLS.
    #[must_use]
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.tls_port)
    }

    /// The lines of its log: one for each request.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("access.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked to end, it ends its workers; killed, it would leave them.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _gone = self.child.wait();
    }
}
