//! What others do to units while a run is under way is theirs: left and named.

use super::{down, ended, is_up, run_while, stage, up};
use tests::lab::lab_or_skip;

#[test]
fn what_another_did_meanwhile_is_left_and_named() {
    let mut stage = stage(lab_or_skip!());
    // Started anew by another.
    let output = run_while(&mut stage, "t-base", "start", "systemctl restart t-base");
    ended(&output, 4, &["left 1", "another started it anew", "systemctl stop t-base.service"]);
    assert!(is_up(&stage, "t-base"));
    down(&stage);
    // A helper that something else has come to need.
    let output = run_while(&mut stage, "t-base", "start", "systemctl start t-needs");
    ended(&output, 4, &["left 1", "`t-needs.service` needs it now"]);
    assert!(is_up(&stage, "t-needs"));
    down(&stage);
    // Its file is gone: it cannot be started again.
    up(&stage, "t-base t-needs");
    let output = run_while(
        &mut stage,
        "t-base",
        "stop",
        "rm /etc/systemd/system/t-needs.service; systemctl daemon-reload",
    );
    ended(&output, 4, &["`t-needs.service`", "systemctl start t-needs.service"]);
    assert!(is_up(&stage, "t-base") && !is_up(&stage, "t-needs"), "{output}");
}
