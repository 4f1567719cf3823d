//! What the tests share.

use std::io::Write as _;

pub mod bad;
pub mod bare;
pub mod editor;
pub mod folders;
pub mod lab;
pub mod servers;
pub mod stage;
pub mod terminal;
pub mod truth;
pub mod values;

/// Says how much a test has seen: counts and figures for whoever reads its output.
pub fn tell(line: &str) {
    // Who does not read it misses nothing.
    let _unread = writeln!(std::io::stdout(), "{line}");
}
