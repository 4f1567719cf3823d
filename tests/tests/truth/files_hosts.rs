//! Files and folders on a host: moved, replaced, denied, mounted over, swapped, taken by another.

use tests::truth::{Row, rows};

const THERE: &str = "hosts: { nas: { ssh: nas } }\nprepare: { made: { on: nas, file: { create: /volume1/d/made, text: x } } }";
const FOLDER_THERE: &str = "hosts: { nas: { ssh: nas } }\nprepare: { made: { on: nas, file: { directory: /volume1/d/made, owned: true } } }";
const ASIDE_THERE: &str =
    "hosts: { nas: { ssh: nas } }\nprepare: { gone: { on: nas, file: { remove: /volume1/d/it } } }";
/// A folder of the host's user.
const SETUP: &str = "nas: mkdir /volume1/d; chown drone: /volume1/d";
const SETUP_IT: &str = "nas: mkdir /volume1/d; echo it >/volume1/d/it; chown -R drone: /volume1/d";
/// The condition for the moment in which the step on the host has done its work.
const IS_MADE: &str =
    "nas: test -e /volume1/d/made; test -z \"$(find /volume1/d/made -maxdepth 0 -type f -links +1)\"";
const IS_ASIDE: &str = "nas: test ! -e /volume1/d/it";

rows! {
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
        exit: 4, says: &["left 1", "/volume1/d/made/m"], differs: &["+ nas file /volume1/d/made", "+ nas unit volume1-d-made-m.mount"],
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
