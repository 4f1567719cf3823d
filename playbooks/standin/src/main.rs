//! `media-sync-daemon`, the stand-in as a program of its own: what the lab's systemd unit starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    standin::main_with_args(std::env::args_os().skip(1))
}
