//! Effects on hosts, in the lab: what a daemon there may try, several files in one place, several names of one box, a name that
//! leads elsewhere, full disks, and kills at every point. The judge is what both boxes look like before and after.

use tests::{
    lab::{Output, REMOTE, until},
    stage::Stage,
};

const HEAD: &str = "name: hosts\nhosts: { nas: { ssh: nas }, also: { ssh: drone@10.97.2.2 }, root: { ssh: root@10.97.2.2 } }\n";

/// A stage on which root may log in on the NAS, too, and the file `it` with the mode 0640 is there.
fn stage(steps: &str) -> Option<Stage> {
    let mut stage = Stage::new(tests::lab::Lab::start_or_skip()?, &format!("{HEAD}{steps}"));
    let nas = stage.lab.nas();
    nas.sh("cp /etc/ssh/keys/drone /etc/ssh/keys/root").ok();
    nas.sh(&format!("echo original >{REMOTE}/it; chmod 640 {REMOTE}/it; chown drone: {REMOTE}/it")).ok();
    stage
        .lab
        .edge()
        .sh("for i in 1 2 3 4; do echo $i >/data/$i; done; head -c 3000000 /dev/zero >/data/large")
        .ok();
    stage.look();
    Some(stage)
}

/// The playbook, with faults.
fn run_with(stage: &Stage, faults: &str, argv: &str) -> Output {
    stage.lab.edge().sh(&format!("SHAKEDOWN_FAULTS={faults} shakedown {argv}"))
}

fn assert_says(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{output}");
    for words in words {
        assert!(output.stdout.contains(words) || output.stderr.contains(words), "no `{words}`: {output}");
    }
}

fn sleeps(stage: &Stage) -> bool {
    let all = stage.lab.nas().processes();
    all.iter()
        .any(|(_, argv)| argv.iter().any(|word| word == "sleep") && argv.iter().any(|word| word == "7777"))
}

#[test]
fn a_daemon_that_clears_its_environment_ends_with_its_step() {
    let steps = "monitor:\n  escapes: { on: root, command: { shell: 'env -i setsid sleep 7777 & sleep 0.2', reads: true } }\n";
    let Some(stage) = stage(steps) else { return };
    assert_says(&stage.run(&[]), 0, &["PASSED"]);
    assert!(!sleeps(&stage));
    stage.assert_clean();
}

#[test]
fn it_ends_with_a_run_that_was_killed() {
    let steps = "monitor:\n  escapes: { on: root, command: { shell: 'env -i setsid sleep 7777 & sleep 600', reads: true } }\n";
    let Some(stage) = stage(steps) else { return };
    let running = stage.start(&[]);
    until("it runs", || sleeps(&stage));
    running.signal(nix::sys::signal::Signal::SIGKILL);
    let _killed = running.wait();
    stage.shakedown(&["recover", "--yes"]);
    until("it is gone", || !sleeps(&stage));
    stage.assert_clean_soon();
}

/// Four uploads to one place by two names of one box, in no order.
const PILE: &str = "prepare:\n  one: { ssh: { host: nas, upload: { from: /data/1, to: TO } }, retry: { attempts: 5, delay: 100ms } }\n  \
                    two: { ssh: { host: also, upload: { from: /data/2, to: TO } }, retry: { attempts: 5, delay: 100ms } }\n  \
                    three: { ssh: { host: nas, upload: { from: /data/3, to: TO } }, retry: { attempts: 5, delay: 100ms } }\n  \
                    four: { needs: [one], ssh: { host: also, upload: { from: /data/4, to: TO } }, retry: { attempts: 5, delay: 100ms } }\n";

#[test]
fn several_uploads_to_one_place_give_the_original_back() {
    let Some(stage) = stage(&PILE.replace("TO", &format!("{REMOTE}/it"))) else { return };
    for _ in 0..2 {
        assert_says(&stage.run(&[]), 0, &["undone 4 of 4", "left 0"]);
        stage.assert_clean();
    }
}

#[test]
fn so_they_do_when_the_run_is_killed_at_any_point() {
    let Some(stage) = stage(&PILE.replace("TO", &format!("{REMOTE}/it"))) else { return };
    // Each seventh point: in them all kinds are met, from the first intent to the last undo.
    for point in [4, 11, 18, 25] {
        let killed = run_with(&stage, &format!("kill:{point}"), "run /root/it.yaml --no-input");
        let recovered = run_with(&stage, &format!("kill:{}", point % 5 + 2), "recover --yes");
        let again = stage.shakedown(&["recover", "--yes"]);
        assert_eq!(again.status.code(), Some(0), "{point}: {killed}\n{recovered}\n{again}");
        stage.assert_clean_soon();
    }
}

#[test]
fn undos_by_two_names_of_one_box_do_not_end_each_other() {
    let steps = "prepare:\n  far:\n    foreach: ${{ range(8) }}\n    on: nas\n    command: { shell: 'touch /home/drone/a${{ each.value }}' }\n    \
                 undo: { on: nas, command: { shell: 'sleep 0.4; rm /home/drone/a${{ each.value }}' } }\n  \
                 near:\n    foreach: ${{ range(8) }}\n    on: also\n    command: { shell: 'touch /home/drone/b${{ each.value }}' }\n    \
                 undo: { on: also, command: { shell: 'sleep 0.4; rm /home/drone/b${{ each.value }}' } }\n";
    let Some(stage) = stage(steps) else { return };
    for _ in 0..2 {
        let killed = run_with(&stage, "kill:before-undo:far[3]", "run /root/it.yaml --no-input");
        assert_ne!(killed.status.code(), Some(0), "{killed}");
        let recovered = stage.shakedown(&["recover", "--yes"]);
        assert_eq!(recovered.status.code(), Some(0), "{recovered}");
        let left = stage.lab.nas().sh("ls /home/drone").ok();
        assert_eq!(left.trim(), "", "{recovered}");
    }
    stage.assert_clean_soon();
}

#[test]
fn a_name_that_leads_to_another_box_is_not_touched_and_named() {
    let steps =
        format!("prepare:\n  up: {{ ssh: {{ host: nas, upload: {{ from: /data/1, to: {REMOTE}/it }} }} }}\n");
    let Some(stage) = stage(&steps) else { return };
    let killed = run_with(&stage, "kill:after:up", "run /root/it.yaml --no-input");
    assert_ne!(killed.status.code(), Some(0), "{killed}");
    stage.lab.nas().sh("hostname other").ok();
    let recovered = stage.shakedown(&["recover", "--yes"]);
    assert_says(&recovered, 4, &["another machine now, `other ("]);
    assert_eq!(stage.lab.nas().sh(&format!("cat {REMOTE}/it")).ok(), "1\n");
    stage.lab.nas().sh("hostname nas").ok();
}

#[test]
fn a_full_disk_keeps_no_part() {
    let steps = "prepare:\n  up: { ssh: { host: root, upload: { from: /data/large, to: /small/it } } }\n";
    let Some(mut stage) = stage(steps) else { return };
    stage.mount("nas", "/small", "size=1m");
    let output = stage.run(&[]);
    assert_ne!(output.status.code(), Some(0), "{output}");
    assert!(output.stdout.contains("left 0") && !output.stdout.contains("created 1"), "{output}");
    stage.assert_clean();
}

#[test]
fn an_upload_that_is_an_undo_leaves_nothing_beside() {
    let steps = format!(
        "prepare:\n  changes:\n    on: nas\n    command: {{ shell: 'echo new >{REMOTE}/it' }}\n    \
         undo: {{ ssh: {{ host: nas, upload: {{ from: /data/original, to: {REMOTE}/it, mode: '0640' }} }} }}\n\
         cleanup:\n  again: {{ ssh: {{ host: nas, download: {{ from: {REMOTE}/it, to: /data/original }} }} }}\n"
    );
    let Some(mut stage) = stage(&steps) else { return };
    stage.lab.edge().sh("echo original >/data/original; chmod 640 /data/original").ok();
    stage.look();
    for fault in ["none", "kill:before-undo:changes", "kill:before:again", "kill:after:again"] {
        let fault = if fault == "none" { "" } else { fault };
        run_with(&stage, fault, "run /root/it.yaml --no-input");
        stage.shakedown(&["recover", "--yes"]);
        let names = stage.lab.nas().sh(&format!("ls -A {REMOTE}")).ok();
        assert!(!names.contains("shakedown"), "{fault}: {names}");
        let names = stage.lab.edge().sh("ls -A /data").ok();
        assert!(!names.contains("shakedown"), "{fault}: {names}");
        assert_eq!(stage.lab.nas().sh(&format!("cat {REMOTE}/it")).ok(), "original\n", "{fault}");
    }
}

#[test]
fn a_folder_that_is_replaced_meanwhile_cannot_be_told() {
    let steps = format!(
        "prepare:\n  up: {{ ssh: {{ host: nas, upload: {{ from: /data/1, to: {REMOTE}/new/it }} }} }}\n\
         monitor:\n  moves: {{ needs: [], on: nas, command: {{ shell: 'mv {REMOTE}/new {REMOTE}/away; mkdir {REMOTE}/new', reads: true }} }}\n"
    );
    let Some(stage) = stage(&steps) else { return };
    stage.lab.nas().sh(&format!("mkdir {REMOTE}/new; chown drone: {REMOTE}/new")).ok();
    let output = stage.run(&[]);
    assert_says(&output, 4, &["cannot be told", "another one than before"]);
    assert!(stage.lab.nas().exists(&format!("{REMOTE}/away/it")));
}
