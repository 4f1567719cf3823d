//! Plans of 10,000 steps and a run of many: they are valid, ordered, and small in memory.

use std::{
    fmt::Write as _,
    process::{Command, Stdio},
};

use tests::lab::binaries;

/// A playbook of 100 steps, each over 100 items. `needs` says what the step `i` waits for, and begins with `one` for a
/// step without items.
fn playbook(needs: impl Fn(usize) -> String) -> String {
    let mut text = "name: scale\nmonitor:\n".to_owned();
    for i in 0..100 {
        if let Some(needs) = needs(i).strip_prefix("one ") {
            writeln!(text, "  s{i}: {{ {needs}wait: {{ for: 1ms }} }}").expect("writes");
            continue;
        }
        writeln!(text, "  s{i}: {{ foreach: \"${{{{ range(100) }}}}\", {}wait: {{ for: 1ms }} }}", needs(i))
            .expect("writes");
    }
    text
}

/// Runs it, and gives its output and the most memory that it had, in KiB.
fn measured(argv: &[&str], dir: &std::path::Path) -> (std::process::Output, u64) {
    let mut command = Command::new(binaries::shakedown());
    command.args(argv).current_dir(dir).env("SHAKEDOWN_STATE_DIR", dir.join("state"));
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let status = format!("/proc/{}/status", child.id());
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let now = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
            // A process that has ended and is not asked yet has no memory.
            let Some(now) = now else { break };
            most = std::cmp::max(most, now);
        }
        most
    });
    let output = child.wait_with_output().expect("it ends");
    (output, watch.join().expect("no panic"))
}

#[test]
fn ten_thousand_steps_are_planned_in_little_memory() {
    let chain = playbook(|i| if i == 0 { String::new() } else { format!("needs: [s{}], ", i - 1) });
    let wide = playbook(|_| String::new());
    let diamond = playbook(|i| match i {
        0 => "one ".to_owned(),
        99 => format!("one needs: [{}], ", (1..99).map(|i| format!("s{i}")).collect::<Vec<_>>().join(", ")),
        _ => "needs: [s0], ".to_owned(),
    });
    for (what, text, steps) in [("chain", chain, 10_000), ("wide", wide, 10_000), ("diamond", diamond, 9_802)]
    {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("it.yaml"), text).expect("writes");
        let (output, most) = measured(&["plan", "it.yaml", "--no-probe"], dir.path());
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            said.contains(&format!("{steps} steps")),
            "{what}: {}",
            said.lines().last().unwrap_or_default()
        );
        assert!((1..200 * 1024).contains(&most), "{what}: {most} KiB");
        tests::tell(&format!("{what}: {most} KiB"));
    }
}

#[test]
fn a_run_of_a_thousand_steps_keeps_their_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = "name: many\nmonitor:\n".to_owned();
    for i in 0..1000 {
        let needs = if i % 10 == 0 { String::new() } else { format!("needs: [s{}], ", i - 1) };
        writeln!(text, "  s{i}: {{ {needs}file: {{ stat: / }} }}").expect("writes");
    }
    std::fs::write(dir.path().join("it.yaml"), text).expect("writes");
    let (output, most) = measured(&["run", "it.yaml", "-q", "--events", "events.jsonl"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let events = std::fs::read_to_string(dir.path().join("events.jsonl")).expect("events");
    let (mut started, mut finished) = (vec![usize::MAX; 1000], vec![usize::MAX; 1000]);
    for (at, line) in events.lines().enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let Some(step) = event["step"].as_u64().and_then(|step| usize::try_from(step).ok()) else { continue };
        match event["event"].as_str() {
            Some("step_started") => started[step] = at,
            Some("step_finished") => finished[step] = at,
            _ => {}
        }
    }
    for step in 0..1000 {
        assert!(started[step] < finished[step] && finished[step] < usize::MAX, "{step}");
        assert!(step % 10 == 0 || finished[step - 1] < started[step], "{step} before what it needs");
    }
    tests::tell(&format!("1000 steps: {most} KiB"));
}
