//! Hosts of other kinds: one with BusyBox only, one that lacks a tool, a user without rights whose home is closed to others and who
//! sees no processes but its own.

use tests::truth::{Death, Row, rows};

/// BusyBox and nothing else: the host's programs, its shell among them, are applets.
const BUSY: &str = "nas: b=/srv/busybox; mount --bind /proc $b/proc; mount --bind /dev $b/dev; mount --bind /volume1 $b/volume1
nas: cp /etc/ssh/keys/drone /etc/ssh/keys/busy
nas: mkdir /volume1/d; echo it >/volume1/d/it; chmod 640 /volume1/d/it; chown -R busy: /volume1/d";

/// What `file` and `ssh` can do there.
const ALL: &str = "hosts: { nas: { ssh: busy@10.97.2.2 } }
prepare:
  folder: { on: nas, file: { directory: /volume1/d/f, owned: true, mode: '0750' } }
  fills: { on: nas, needs: [folder], command: { shell: 'mkdir /volume1/d/f/d; echo x >/volume1/d/f/.x; ln -s / /volume1/d/f/d/root', reads: true } }
  made: { on: nas, needs: [fills], file: { create: '/volume1/d/f/名', text: x, mode: '0604' }, expect: out.mode == \"0604\" }
  sparse: { on: nas, needs: [made], file: { create: /volume1/d/sparse, size: 1MiB, sparse: true } }
  zero: { on: nas, needs: [made], file: { create: /volume1/d/zero, size: 1MiB, content: zero } }
  copy: { on: nas, needs: [sparse, zero], file: { copy: /volume1/d/it, to: /volume1/d/copy }, expect: out.mode == \"0640\" }
  gone: { on: nas, needs: [copy], file: { remove: /volume1/d/it } }
  up: { needs: [gone], ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: /volume1/d/up } } }
  down: { needs: [up], ssh: { host: nas, download: { from: /volume1/d/up, to: '@DIR@/down' } } }
  sum: { on: nas, needs: [up], hash: { path: /volume1/d/up } }
cleanup:
  makes: { on: nas, file: { create: /volume1/d/late, text: x } }
  takes: { on: nas, needs: [makes], file: { remove: /volume1/d/late } }";
/// A folder with all in it, and what is put aside.
const SOME: &str = "hosts: { nas: { ssh: busy@10.97.2.2 } }
prepare:
  folder: { on: nas, file: { directory: /volume1/d/f, owned: true } }
  made: { on: nas, needs: [folder], file: { create: /volume1/d/f/made, text: x } }
  gone: { on: nas, needs: [made], file: { remove: /volume1/d/it } }";
const REPLACE: &str = "hosts: { nas: { ssh: busy@10.97.2.2 } }
prepare: { up: { ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: /volume1/d/it } } } }";
const MADE: &str = "hosts: { nas: { ssh: busy@10.97.2.2 } }
prepare: { made: { on: nas, file: { create: /volume1/d/made, text: x } } }";
const UP: &str = "hosts: { nas: { ssh: busy@10.97.2.2 } }
prepare: { made: { ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: /volume1/d/made } } } }";
const IS_MADE: &str =
    "nas: test -e /volume1/d/made; test -z \"$(find /volume1/d/made -maxdepth 0 -type f -links +1)\"";

/// No rights, a closed home, and `/proc` shows no process of another.
const CLOSED: &str = "nas: chmod 700 /home/drone; echo it >/home/drone/it; chown drone: /home/drone/it; mount -o remount,hidepid=2 /proc
nas: su drone -c 'test ! -e /proc/1'";
/// Relative paths count from the home.
const AT_HOME: &str = "hosts: { nas: { ssh: nas } }
prepare:
  folder: { on: nas, file: { directory: f, owned: true } }
  made: { on: nas, needs: [folder], file: { create: f/made, text: x } }
  gone: { on: nas, needs: [made], file: { remove: it } }
  up: { needs: [gone], ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: up } } }
  runs: { on: nas, needs: [up], command: { shell: 'sleep 4321 & sleep 0.1', reads: true } }";

rows! {
    /// Everything works there, and is taken back.
    busybox_is_enough: Row {
        setup: BUSY, playbook: ALL, says: &["PASSED", "left 0"],
        ..Row::LAB
    };
    /// A command that is too long for one argument, and data behind it: each gets its own bytes.
    on_busybox_a_long_command_and_its_stdin_arrive_whole: Row {
        setup: BUSY,
        playbook: &format!("hosts: {{ nas: {{ ssh: busy@10.97.2.2 }} }}
monitor:
  long:
    on: nas
    command: {{ run: [sh, -c, 'cat; echo $#', sh, {0}, {0}], stdin: abcdefgh, reads: true }}
    expect: out.stdout == \"abcdefgh2\"", "x".repeat(100_000)),
        says: &["PASSED"],
        ..Row::LAB
    };
    /// The recovery is killed anywhere.
    on_busybox_a_recovery_is_recovered_from_anywhere: Row {
        setup: BUSY, playbook: SOME, death: Death::Twice("after:gone"),
        ..Row::LAB
    };
    /// An upload over another file, killed once it is in place, and again in the recovery.
    on_busybox_an_upload_that_replaces_is_recovered: Row {
        setup: BUSY, playbook: REPLACE, death: Death::Twice("after:up"),
        ..Row::LAB
    };
    /// The birth of a file is not told there, yet the inode tells one from another.
    on_busybox_a_file_that_was_moved_is_left_and_named: Row {
        setup: BUSY, playbook: MADE, ready: IS_MADE, meanwhile: "nas: mv /volume1/d/made '/volume1/d/新 name'",
        exit: 4, says: &["left 1", "/volume1/d/新 name", "ssh "], differs: &["+ nas file /volume1/d/新 name"],
        typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// Its content counts.
    on_busybox_a_changed_file_is_left_and_named: Row {
        setup: BUSY, playbook: MADE, ready: IS_MADE, meanwhile: "nas: echo more >>/volume1/d/made",
        exit: 4, says: &["left 1", "/volume1/d/made", "ssh "], differs: &["+ nas file /volume1/d/made"],
        typed: Some(&["+ nas file /volume1/d/made"]), over: false,
        ..Row::LAB
    };
    /// So does that of an upload. What may hold another's work is only looked at.
    on_busybox_a_changed_upload_is_left_and_named: Row {
        setup: BUSY, playbook: UP, ready: IS_MADE, meanwhile: "nas: echo more >>/volume1/d/made",
        exit: 4, says: &["left 1", "/volume1/d/made", "ls -l"], differs: &["+ nas file /volume1/d/made"], over: false,
        ..Row::LAB
    };
    /// A look that is denied is no absence.
    on_busybox_a_denied_look_cannot_be_told: Row {
        setup: BUSY, playbook: MADE, ready: IS_MADE, meanwhile: "nas: chown root: /volume1/d; chmod 700 /volume1/d",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/d/made"], silent: &["nothing was there"],
        differs: &["+ nas file /volume1/d/made", "~ nas file /volume1/d"],
        mend: "nas: chown busy: /volume1/d; chmod 755 /volume1/d",
        typed: Some(&["+ nas file /volume1/d/made"]), over: false,
        ..Row::LAB
    };
    /// Nor for an upload.
    on_busybox_a_denied_look_at_an_upload_cannot_be_told: Row {
        setup: BUSY, playbook: UP, ready: IS_MADE, meanwhile: "nas: chown root: /volume1/d; chmod 700 /volume1/d",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/d/made"], silent: &["nothing was there"],
        differs: &["+ nas file /volume1/d/made", "~ nas file /volume1/d"],
        over: false,
        ..Row::LAB
    };
    /// A tool that is missing is named, before anything is made.
    a_host_without_stat_is_named: Row {
        setup: &[BUSY, "\nnas: rm /srv/busybox/bin/stat"].concat(), playbook: MADE,
        exit: 5, says: &["`stat`"], silent: &["created 1"],
        ..Row::LAB
    };
    /// `find` only helps.
    a_host_without_find_is_enough: Row {
        setup: &[BUSY, "\nnas: rm /srv/busybox/bin/find"].concat(), playbook: SOME, says: &["PASSED", "left 0"],
        ..Row::LAB
    };
    /// Without it nobody can tell whether a file was deleted or moved.
    without_find_a_file_that_was_moved_cannot_be_told: Row {
        setup: &[BUSY, "\nnas: rm /srv/busybox/bin/find"].concat(), playbook: MADE, ready: IS_MADE,
        meanwhile: "nas: mv /volume1/d/made /volume1/d/moved",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/d/made"], differs: &["+ nas file /volume1/d/moved"],
        mend: "nas: mv /volume1/d/moved /volume1/d/made", typed: Some(&["+ nas file /volume1/d/made"]), over: false,
        ..Row::LAB
    };
    /// And one by which an upload is compared.
    a_host_without_sha256sum_is_named: Row {
        setup: &[BUSY, "\nnas: rm /srv/busybox/bin/sha256sum"].concat(), playbook: UP,
        exit: 5, says: &["sha256sum"], silent: &["created 1"],
        ..Row::LAB
    };
    /// No command is started where nothing could end it.
    a_host_without_setsid_is_named: Row {
        setup: &[BUSY, "\nnas: rm /srv/busybox/bin/setsid"].concat(), playbook: MADE,
        exit: 5, says: &["`setsid`"], silent: &["created 1"],
        ..Row::LAB
    };
    /// A tool that vanished does not make an effect vanish.
    without_stat_nobody_says_that_it_is_gone: Row {
        setup: BUSY, playbook: MADE, ready: IS_MADE, meanwhile: "nas: rm /srv/busybox/bin/stat",
        exit: 4, says: &["stat", "/volume1/d/made", "ssh "], differs: &["+ nas file /volume1/d/made"],
        typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// Nor an upload.
    without_sha256sum_nobody_says_that_an_upload_is_gone: Row {
        setup: BUSY, playbook: UP, ready: IS_MADE, meanwhile: "nas: rm /srv/busybox/bin/sha256sum",
        exit: 4, says: &["sha256sum", "/volume1/d/made", "ssh "], differs: &["+ nas file /volume1/d/made"],
        mend: "nas: ln -s busybox /srv/busybox/bin/sha256sum", typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// A user without rights whose home is closed, and who sees no process of another.
    a_closed_home_and_hidden_processes_are_enough: Row {
        setup: CLOSED, playbook: AT_HOME, says: &["PASSED", "left 0"],
        ..Row::LAB
    };
    /// Killed in the middle of it.
    in_a_closed_home_a_run_is_recovered: Row {
        setup: CLOSED, playbook: AT_HOME, death: Death::At("after:up"), says: &["RECOVERED", "left 0"],
        ..Row::LAB
    };
}
