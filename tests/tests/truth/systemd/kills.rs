//! Killed wherever the run or its recovery may be, the units are put back.

use tests::truth::{Death, Row, rows};

/// Stops what others need.
const STOP: Row<'_> = Row {
    setup: concat!(include_str!("units.sh"), "systemctl start t-base t-needs t-part t-bound"),
    playbook: "prepare: { it: { systemd: { unit: t-base, do: stop } } }",
    ..Row::LAB
};

/// Brings up what it wants, and stops what conflicts.
const START: Row<'_> = Row {
    setup: concat!(include_str!("units.sh"), "systemctl start t-rival"),
    playbook: "prepare: { it: { systemd: { unit: t-top, do: start } } }",
    ..Row::LAB
};

/// A start that a later step makes anew.
const ANEW: Row<'_> = Row {
    setup: include_str!("units.sh"),
    playbook: "prepare:\n  up: { systemd: { unit: t-base, do: start } }\n  \
               again: { needs: [up], systemd: { unit: t-base, do: restart } }",
    ..Row::LAB
};

/// A start that a later step takes back, so that the undo of that makes another.
const OFF: Row<'_> = Row {
    setup: include_str!("units.sh"),
    playbook: "prepare:\n  up: { systemd: { unit: t-needs, do: start } }\n  \
               off: { needs: [up], systemd: { unit: t-base, do: stop } }",
    ..Row::LAB
};

rows! {
    /// Wherever the run is killed.
    a_stop_with_all_that_it_took_along_is_put_back: Row { death: Death::Everywhere, ..STOP };

    /// The run once it has stopped them, and the recovery wherever it is.
    so_it_is_when_the_recovery_is_killed_too: Row { death: Death::Twice("after:it"), ..STOP };

    /// Wherever the run is killed.
    a_start_with_all_that_it_brought_up_is_put_back: Row { death: Death::Everywhere, ..START };

    /// The run once it has started them, and the recovery wherever it is.
    so_is_a_start_when_the_recovery_is_killed_too: Row { death: Death::Twice("after:it"), ..START };

    /// Wherever the run is killed: also while the later step is at it, and nobody has seen which start it made.
    a_start_made_anew_is_stopped_wherever_the_run_was_killed: Row { death: Death::Everywhere, ..ANEW };

    /// The run at its end, and the recovery wherever it is: also between two undos that have to know of each other.
    a_start_that_an_undo_made_is_stopped_too: Row { death: Death::Twice("after:off"), ..OFF };
}
