//! Processes: those that cannot be looked for are not gone, and none is started where nothing would end it.

mod blind;
mod escapes;

use tests::truth::{Death, Row, rows};

rows! {
    /// Nothing ends a process that a cleanup starts.
    no_process_begins_in_cleanup: Row {
        playbook: "cleanup: { late: { process: { run: [sleep, '4399'] } } }",
        exit: 3,
        says: &["nothing ends a process that is started in `cleanup` or as an `undo`", "use `command`"],
        ..Row::HERE
    };

    /// Nor one that an undo starts.
    no_process_begins_as_an_undo: Row {
        playbook: "prepare: { it: { command: { run: ['true'] }, undo: { process: { run: [sleep, '4399'] } } } }",
        exit: 3,
        says: &["nothing ends a process that is started in `cleanup` or as an `undo`"],
        ..Row::HERE
    };

    /// Two hundred that leave their session, clear their environment, stand still or ignore signals.
    two_hundred_end_with_their_step: Row {
        playbook: "prepare: { it: { process: { run: [sh, -c, \"for i in $(seq 100); do env -i setsid sleep 4398 & done; for i in $(seq 99); do (trap '' TERM; sleep 4398) & done; setsid sleep 4398 & kill -STOP $!; touch go; exec sleep 4398\"], dir: '@DIR@', stop_grace: 500ms, ready: { file: { stat: '@DIR@/go' } }, ready_when: out.exists } } }\ncleanup: { it_too: { command: { run: [rm, -f, '@DIR@/go'] } } }",
        says: &["left 0"],
        ..Row::LAB
    };

    /// Killed anywhere, the process and what came of it are ended by the recovery.
    a_process_is_ended_wherever_the_run_was_killed: Row {
        playbook: "prepare: { it: { process: { run: [sh, -c, '(env -i setsid sleep 4397 &); exec sleep 4397'] } } }",
        death: Death::Everywhere,
        ..Row::LAB
    };

    /// The run once it has started it, and the recovery anywhere.
    so_it_is_wherever_the_recovery_was_killed: Row {
        playbook: "prepare: { it: { process: { run: [sh, -c, '(env -i setsid sleep 4397 &); exec sleep 4397'] } } }",
        death: Death::Twice("after:it"),
        ..Row::LAB
    };
}
