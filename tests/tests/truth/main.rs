//! `left 0` and `PASSED` are true: situations, each judged by what the world is like before and after it, and never by
//! what Shakedown says of it.
//!
//! To add rows: put `mod NAME;` below, and write `tests/tests/truth/NAME.rs` as
//!
//! ```ignore
//! use tests::truth::{After, Death, Row, Server, rows};
//!
//! rows! {
//!     /// One line about the situation.
//!     a_changed_file_is_left_and_named: Row {
//!         playbook: "prepare: { made: { file: { create: made.txt, text: x } } }",
//!         ready: "test -e made.txt",
//!         meanwhile: "echo mine >made.txt",
//!         exit: 4,
//!         says: &["left 1", "made.txt"],
//!         differs: &["+ file made.txt"],
//!         typed: Some(&["+ file made.txt"]),
//!         ..Row::HERE
//!     };
//! }
//! ```
//!
//! `Row::LAB` happens in the lab, on the edge box with the NAS as its host, and the lines of a difference begin with
//! the box: `+ edge file @DIR@/made.txt`, `~ nas file /volume1/x`, `- edge unit x.service`, `+ edge process sleep 100`. A difference of rows
//! begins with `+ row it.db: INSERT`, `- row ('public.t'…` or `~ key k`. What a row has to say for itself is in
//! `tests::truth::Row`; where a table is not enough, `tests::truth::world::World` gives the parts.

mod elsewhere;
mod engine;
mod files;
mod files_anywhere;
mod files_hosts;
mod hosts;
mod json;
mod judge;
mod kinds;
mod obstacles;
mod postgres;
mod process;
mod redis;
mod sqlite;
mod systemd;
