//! Files and folders, here and on a host: moved, replaced, hidden, denied, mounted over, swapped, taken by another.

use tests::truth::{Death, Row, rows};

/// A file that is made in the folder `d`, and a playbook that says so.
const MADE: &str = "prepare: { made: { file: { create: '@DIR@/d/made', text: x } } }";
/// An owned folder `d/made`.
const FOLDER: &str = "prepare: { made: { file: { directory: '@DIR@/d/made', owned: true } } }";
/// A file that is put aside.
const ASIDE: &str = "prepare: { gone: { file: { remove: '@DIR@/d/it' } } }";

const THERE: &str = "hosts: { nas: { ssh: nas } }\nprepare: { made: { on: nas, file: { create: /volume1/d/made, text: x } } }";
const FOLDER_THERE: &str = "hosts: { nas: { ssh: nas } }\nprepare: { made: { on: nas, file: { directory: /volume1/d/made, owned: true } } }";
const ASIDE_THERE: &str =
    "hosts: { nas: { ssh: nas } }\nprepare: { gone: { on: nas, file: { remove: /volume1/d/it } } }";
/// A folder of the host's user.
const SETUP: &str = "nas: mkdir /volume1/d; chown drone: /volume1/d";
const SETUP_IT: &str = "nas: mkdir /volume1/d; echo it >/volume1/d/it; chown -R drone: /volume1/d";
/// The condition for the moment in which the step on the host has done its work.
const IS_MADE: &str = "nas: test -e /volume1/d/made";
const IS_ASIDE: &str = "nas: test ! -e /volume1/d/it";

rows! {
    /// Another program took it, as it is to: that is no leftover.
    a_file_that_another_deleted_is_gone: Row {
        setup: "mkdir d", playbook: MADE, ready: "test -e d/made", meanwhile: "rm d/made",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// Moved within its folder.
    a_file_that_was_renamed_is_left_and_named: Row {
        setup: "mkdir d", playbook: MADE, ready: "test -e d/made", meanwhile: "mv d/made 'd/新 name'",
        exit: 4, says: &["left 1", "d/新 name"], differs: &["+ file d/新 name"], typed: Some(&[]), over: false,
        ..Row::HERE
    };
    /// Moved out of its folder.
    a_file_that_was_moved_away_is_left_and_named: Row {
        setup: "mkdir d e", playbook: MADE, ready: "test -e d/made", meanwhile: "mv d/made e/",
        exit: 4, says: &["left 1", "e/made"], differs: &["+ file e/made"], typed: Some(&[]), over: false,
        ..Row::HERE
    };
    /// The same found out by another process.
    a_file_that_was_moved_after_the_crash_is_left_and_named: Row {
        setup: "mkdir d e", playbook: MADE, death: Death::At("after:made"), between: "mv d/made e/",
        exit: 4, says: &["e/made"], differs: &["+ file e/made"], typed: Some(&[]), over: false,
        ..Row::HERE
    };
    /// Its folder has another name, and another folder has its name.
    a_file_in_a_folder_that_was_replaced_is_left_and_named: Row {
        setup: "mkdir d", playbook: MADE, ready: "test -e d/made", meanwhile: "mv d e; mkdir d",
        exit: 4, says: &["left 1", "e/made"], differs: &["+ file e"], typed: Some(&["+ file e"]), over: false,
        ..Row::HERE
    };
    /// An equal file in the place of ours, ours under another name.
    an_equal_file_in_its_place_is_not_taken_for_it: Row {
        setup: "mkdir d", playbook: MADE, ready: "test -e d/made",
        meanwhile: "mv d/made d/ours; printf x >d/made",
        exit: 4, says: &["left 1", "d/ours"], differs: &["+ file d/made", "+ file d/ours"],
        typed: Some(&["+ file d/made"]), over: false,
        ..Row::HERE
    };
    /// A second name keeps the file.
    a_file_with_a_second_name_is_named_by_that: Row {
        setup: "mkdir d", playbook: MADE, ready: "test -e d/made", meanwhile: "ln d/made d/second",
        exit: 4, says: &["left 1", "d/second"], differs: &["+ file d/second"], typed: Some(&[]), over: false,
        ..Row::HERE
    };
    /// The file system under it was unmounted; a watch must not have kept it busy.
    a_file_under_a_mount_that_is_gone_cannot_be_told: Row {
        setup: "mkdir d; mount -t tmpfs tmpfs d", playbook: MADE, ready: "test -e d/made", meanwhile: "umount d",
        exit: 4, says: &["left 0", "1 cannot be told", "d/made"], differs: &["~ edge file @DIR@/d", "- edge unit root-case-d.mount"], over: false,
        ..Row::LAB
    };
    /// Something is mounted over its folder, and hides it.
    a_file_that_a_mount_hides_cannot_be_told: Row {
        setup: "mkdir d", playbook: MADE, ready: "test -e d/made", meanwhile: "mount -t tmpfs tmpfs d",
        exit: 4, says: &["left 0", "1 cannot be told", "d/made"], differs: &["~ edge file @DIR@/d", "+ edge file /run/mount", "+ edge unit root-case-d.mount"], over: false,
        ..Row::LAB
    };
    /// What was put aside is not there: nobody says that there was nothing.
    a_put_aside_file_that_another_deleted_is_told: Row {
        setup: "mkdir d; echo it >d/it", playbook: ASIDE, ready: "test ! -e d/it", meanwhile: "rm d/.shakedown-*",
        exit: 4, says: &["left 1", "d/it", ".shakedown-"], differs: &["- file d/it"],
        typed: Some(&["- file d/it"]), over: false,
        ..Row::HERE
    };
    /// The command of the report brings it back.
    a_put_aside_file_whose_folder_was_renamed_is_named: Row {
        setup: "mkdir d; echo it >d/it", playbook: ASIDE, ready: "test ! -e d/it", meanwhile: "mv d e; mkdir d",
        exit: 4, says: &["left 1", "e/.shakedown-"], differs: &["+ file e", "- file d/it"],
        typed: Some(&["+ file e"]), over: false,
        ..Row::HERE
    };
    /// The only copy of the original is not given up by the command of the report.
    a_removed_file_that_another_made_anew_keeps_its_copy: Row {
        setup: "mkdir d; echo it >d/it", playbook: ASIDE, ready: "test ! -e d/it", meanwhile: "echo new >d/it",
        exit: 4, says: &["left 1", "put aside here", "d/.shakedown-"], differs: &["+ file d/.shakedown-", "~ file d/it"],
        typed: Some(&["+ file d/.shakedown-", "~ file d/it"]), over: false,
        ..Row::HERE
    };
    /// A folder of another in the place of ours keeps what is in it.
    a_folder_of_another_in_the_place_of_ours_stays: Row {
        setup: "mkdir d", playbook: FOLDER, ready: "test -e d/made",
        meanwhile: "rmdir d/made; mkdir d/made; echo precious >d/made/p",
        exit: 4, says: &["left 1", "d/made"], differs: &["+ file d/made"], typed: Some(&["+ file d/made"]), over: false,
        ..Row::HERE
    };
    /// A bind mount of the same file system in an owned folder.
    an_owned_folder_with_a_mount_in_it_is_left: Row {
        setup: "mkdir d precious; echo p >precious/p", playbook: FOLDER, ready: "test -e d/made",
        meanwhile: "mkdir d/made/m; mount --bind precious d/made/m",
        exit: 4, says: &["left 1", "d/made/m"], differs: &["+ edge file @DIR@/d/made", "+ edge file /run/mount", "+ edge unit root-case-d-made-m.mount"],
        over: false,
        ..Row::LAB
    };
    /// The copy of a private file is private, and so is its half.
    a_copy_is_as_private_as_its_source: Row {
        setup: "echo secret >from; chmod 600 from",
        playbook: "prepare: { made: { file: { copy: '@DIR@/from', to: '@DIR@/to' }, expect: out.mode == \"0600\" } }",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// Made and removed by steps that nobody takes back, killed anywhere.
    final_steps_leave_nothing_wherever_they_are_killed: Row {
        setup: "echo it >it",
        playbook: "prepare: { gone: { command: { run: [mv, '@DIR@/it', '@DIR@/other'] }, \
            undo: { file: { copy: '@DIR@/other', to: '@DIR@/it', mode: '0644' } } } }
cleanup: { other: { file: { remove: '@DIR@/other' } } }",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// Permission to look was denied: that is not nothing.
    a_denied_look_on_a_host_cannot_be_told: Row {
        setup: SETUP, playbook: THERE, ready: IS_MADE, meanwhile: "nas: chown root: /volume1/d; chmod 700 /volume1/d",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/d/made", "ssh "], silent: &["nothing was there"],
        differs: &["+ nas file /volume1/d/made", "~ nas file /volume1/d"], over: false,
        ..Row::LAB
    };
    /// Nor is it for a folder that was made.
    a_denied_look_at_a_folder_on_a_host_cannot_be_told: Row {
        setup: SETUP, playbook: FOLDER_THERE, ready: IS_MADE,
        meanwhile: "nas: chown root: /volume1/d; chmod 700 /volume1/d",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/d/made"], silent: &["nothing was there"],
        differs: &["+ nas file /volume1/d/made", "~ nas file /volume1/d"], over: false,
        ..Row::LAB
    };
    /// The put-aside file is named with where it is.
    a_denied_look_at_a_put_aside_file_cannot_be_told: Row {
        setup: SETUP_IT, playbook: ASIDE_THERE, ready: IS_ASIDE,
        meanwhile: "nas: chown root: /volume1/d; chmod 700 /volume1/d",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/d/.shakedown-"], silent: &["nothing was there"],
        differs: &["+ nas file /volume1/d/.shakedown-", "- nas file /volume1/d/it", "~ nas file /volume1/d"],
        over: false,
        ..Row::LAB
    };
    /// A look that is denied is an error, and says so.
    what_may_not_be_seen_on_a_host_is_denied_and_not_missing: Row {
        setup: "nas: mkdir -m 700 /volume1/closed; echo x >/volume1/closed/it",
        playbook: "hosts: { nas: { ssh: nas } }\nmonitor:
  look: { on: nas, file: { stat: /volume1/closed/it }, expect: '!out.exists', continue_on_error: true }
  sum: { on: nas, hash: { path: /volume1/closed/it }, continue_on_error: true }
  tree: { on: nas, hash: { tree: /volume1/closed }, continue_on_error: true }
  room: { on: nas, disk: { path: /volume1/closed/it, min_free: 1MiB }, continue_on_error: true }
  all:
    needs: [look, sum, tree, room]
    disk: { path: / }
    expect: >-
      [steps.look, steps.sum, steps.tree, steps.room].all(s, s.status == \"failed\" && s.error.class == \"denied\")",
        exit: 0, silent: &["not-found"],
        ..Row::LAB
    };
    /// Moved on a host.
    a_file_that_was_moved_on_a_host_is_left_and_named: Row {
        setup: SETUP, playbook: THERE, ready: IS_MADE, meanwhile: "nas: mv /volume1/d/made '/volume1/d/新 name'",
        exit: 4, says: &["left 1", "/volume1/d/新 name"], differs: &["+ nas file /volume1/d/新 name"],
        typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// Moved with its folder on a host.
    a_file_in_a_folder_that_was_replaced_on_a_host_is_left_or_cannot_be_told: Row {
        setup: SETUP, playbook: THERE, ready: IS_MADE,
        meanwhile: "nas: mv /volume1/d /volume1/e; mkdir /volume1/d; chown drone: /volume1/d",
        exit: 4, says: &["/volume1/"], silent: &["nothing was there"], differs: &["+ nas file /volume1/e"], over: false,
        ..Row::LAB
    };
    /// A bind mount in an owned folder on a host.
    an_owned_folder_with_a_mount_in_it_on_a_host_is_left: Row {
        setup: "nas: mkdir /volume1/d /volume1/precious; echo p >/volume1/precious/p; chown -R drone: /volume1/d /volume1/precious",
        playbook: FOLDER_THERE, ready: IS_MADE,
        meanwhile: "nas: mkdir /volume1/d/made/m; mount --bind /volume1/precious /volume1/d/made/m",
        exit: 4, says: &["left 1", "/volume1/d/made/m"], differs: &["+ nas file /volume1/d/made", "+ nas file /run/mount", "+ nas unit volume1-d-made-m.mount"],
        over: false,
        ..Row::LAB
    };
    /// A folder of another in the place of ours on a host.
    a_folder_of_another_in_the_place_of_ours_on_a_host_stays: Row {
        setup: SETUP, playbook: FOLDER_THERE, ready: IS_MADE,
        meanwhile: "nas: rmdir /volume1/d/made; mkdir /volume1/d/made; echo precious >/volume1/d/made/p",
        exit: 4, says: &["left 1", "/volume1/d/made"], differs: &["+ nas file /volume1/d/made"],
        typed: Some(&["+ nas file /volume1/d/made"]), over: false,
        ..Row::LAB
    };
    /// The copy of a removed file that another made anew, on a host: the command is typed there and destroys nothing.
    a_removed_file_that_another_made_anew_on_a_host_keeps_its_copy: Row {
        setup: SETUP_IT, playbook: ASIDE_THERE, ready: IS_ASIDE, meanwhile: "nas: echo new >/volume1/d/it",
        exit: 4, says: &["left 1", "/volume1/d/.shakedown-", "ssh "],
        differs: &["+ nas file /volume1/d/.shakedown-", "~ nas file /volume1/d/it"],
        typed: Some(&["+ nas file /volume1/d/.shakedown-", "~ nas file /volume1/d/it"]), over: false,
        ..Row::LAB
    };
}
