//! Several steps of a run upon the same units: each has found what those before it had left, and none takes another's work
//! for a stranger's.

use super::{down, ended, stage, up};
use tests::lab::lab_or_skip;

#[test]
fn steps_of_one_run_know_each_others_starts() {
    let mut stage = stage(lab_or_skip!());
    for (what, units, steps) in [
        (
            "restarted, and needed by another",
            "",
            "up: { systemd: { unit: t-base, do: start } }\n  \
             again: { needs: [up], systemd: { unit: t-base, do: restart } }\n  \
             more: { needs: [again], systemd: { unit: t-needs, do: start } }",
        ),
        (
            "stopped again",
            "",
            "up: { systemd: { unit: t-base, do: start } }\n  \
             off: { needs: [up], systemd: { unit: t-base, do: stop } }",
        ),
        (
            "started again",
            "t-base t-needs",
            "off: { systemd: { unit: t-base, do: stop } }\n  \
             up: { needs: [off], systemd: { unit: t-base, do: start } }\n  \
             again: { needs: [up], systemd: { unit: t-base, do: restart } }",
        ),
        (
            "in no order",
            "",
            "up: { systemd: { unit: t-base, do: start } }\n  more: { systemd: { unit: t-needs, do: start } }",
        ),
        (
            "tried three times",
            "",
            "up: { systemd: { unit: t-base, do: restart }, expect: out.main_pid == 1, retry: { attempts: 3, delay: 10ms }, \
             continue_on_error: true }",
        ),
    ] {
        tests::tell(what);
        up(&stage, units);
        stage.playbook(&format!("name: it\nprepare:\n  {steps}\n"));
        ended(&stage.run(&[]), 0, &["left 0"]);
        stage.assert_clean();
        down(&stage);
    }
}

#[test]
fn what_a_cleanup_stops_stays_stopped_and_is_no_stranger_s_doing() {
    let mut stage = stage(lab_or_skip!());
    up(&stage, "t-base");
    stage.playbook(
        "name: it\nprepare: { again: { systemd: { unit: t-base, do: restart } } }\n\
         cleanup: { off: { systemd: { unit: t-base, do: stop } } }\n",
    );
    ended(&stage.run(&[]), 0, &["left 0"]);
    assert!(!super::is_up(&stage, "t-base"));
}
