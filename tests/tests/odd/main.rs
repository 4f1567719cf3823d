//! Kills runs of odd things, at every point that they have and at random times: rows with keys at the ends of what there is,
//! triggers, conflict clauses, written undos that are effects themselves, cleanup steps with effects, units that others hang on,
//! documents and keys. What is tame is in `crash.rs`.
//!
//! `tests/soak` runs those at random times for as long as you like.

use tests::truth::{After, Death, Place, Row, Server, Soak, rows};

const HERE: Row<'_> =
    Row { setup: include_str!("here.sh"), playbook: include_str!("here.yaml"), ..Row::HERE };
const POSTGRES: Row<'_> = Row {
    server: Server::Postgres,
    setup: include_str!("postgres.sh"),
    playbook: include_str!("postgres.yaml"),
    ..Row::HERE
};
const REDIS: Row<'_> = Row {
    server: Server::Redis,
    setup: include_str!("redis.sh"),
    playbook: include_str!("redis.yaml"),
    ..Row::HERE
};
const LAB: Row<'_> =
    Row { place: Place::Lab, setup: include_str!("lab.sh"), playbook: include_str!("lab.yaml"), ..Row::HERE };

rows! {
    /// Files, SQLite rows, documents and a process.
    here_killed_at_every_point_is_recovered: Row { death: Death::Everywhere, ..HERE };
    /// Nothing is done twice.
    here_killed_at_every_point_is_resumed: Row { death: Death::Everywhere, after: After::Resume, ..HERE };
    /// Died on the way forward.
    here_its_recovery_may_die_everywhere: Row { death: Death::Twice("after:extra"), ..HERE };
    /// Died where the record of a change is beside the document only.
    here_its_recovery_may_die_without_a_record: Row { death: Death::Twice("after:long"), ..HERE };
    /// Died on the way back.
    here_its_recovery_may_die_on_the_way_back: Row { death: Death::Twice("after-undo:deleted"), ..HERE };

    postgres_killed_at_every_point_is_recovered: Row { death: Death::Everywhere, ..POSTGRES };
    postgres_killed_at_every_point_is_resumed: Row { death: Death::Everywhere, after: After::Resume, ..POSTGRES };
    postgres_its_recovery_may_die_everywhere: Row { death: Death::Twice("after:extra"), ..POSTGRES };
    postgres_its_recovery_may_die_on_the_way_back: Row { death: Death::Twice("after-undo:deleted"), ..POSTGRES };

    redis_killed_at_every_point_is_recovered: Row { death: Death::Everywhere, ..REDIS };
    redis_killed_at_every_point_is_resumed: Row { death: Death::Everywhere, after: After::Resume, ..REDIS };
    redis_its_recovery_may_die_everywhere: Row { death: Death::Twice("after:extra"), ..REDIS };
    redis_its_recovery_may_die_on_the_way_back: Row { death: Death::Twice("after-undo:deleted"), ..REDIS };

    /// Units with their dependants, files of a host, a process.
    lab_killed_at_every_point_is_recovered: Row { death: Death::Everywhere, ..LAB };
    lab_its_recovery_may_die_everywhere: Row { death: Death::Twice("after:begins"), ..LAB };
    lab_its_recovery_may_die_on_the_way_back: Row { death: Death::Twice("after-undo:stopped"), ..LAB };
}

#[test]
fn here_killed_at_random_times() {
    HERE.soak(&Soak::of(40));
}

#[test]
fn postgres_killed_at_random_times() {
    POSTGRES.soak(&Soak::of(40));
}

#[test]
fn redis_killed_at_random_times() {
    REDIS.soak(&Soak::of(40));
}

#[test]
fn lab_killed_at_random_times() {
    LAB.soak(&Soak::of(10));
}
