//! What was made is somewhere else, hidden, or in another's hands: it is named, or it cannot be told, but never taken for gone.
//! And what is printed then may be typed: it destroys nothing of another's.

use tests::truth::{Death, Row, rows};

/// A small file system with two folders.
const SMALL: &str = "mkdir m; mount -t tmpfs -o size=1m tmpfs m; mkdir m/d m/q; echo it >m/d/it";
const MADE_IN_IT: &str = "prepare: { made: { file: { create: '@DIR@/m/d/made', text: x } } }";
const ASIDE_IN_IT: &str = "prepare: { gone: { file: { remove: '@DIR@/m/d/it' } } }";
const HIDE: &str = "mount --bind m/q m/d";

/// The same on a host.
const SMALL_THERE: &str = "nas: mkdir /volume1/m; mount -t tmpfs -o size=1m tmpfs /volume1/m
nas: mkdir /volume1/m/d /volume1/m/q; chown -R drone: /volume1/m";
const THERE: &str = "hosts: { nas: { ssh: nas } }
prepare: { made: { on: nas, file: { create: /volume1/m/d/made, text: x } } }";
const FOLDER_THERE: &str = "hosts: { nas: { ssh: nas } }
prepare: { made: { on: nas, file: { directory: /volume1/m/d/made, owned: true } } }";
const UPLOAD: &str = "hosts: { nas: { ssh: nas } }
prepare: { up: { ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: /volume1/m/d/made } } } }";
const IS_THERE: &str = "nas: test -s /volume1/m/d/made";

const DOWNLOAD: &str = "hosts: { nas: { ssh: nas } }
prepare: { down: { ssh: { host: nas, download: { from: /etc/hostname, to: '@DIR@/d/made' } } } }";
const IS_DOWN: &str = "test -s d/made && ! grep -qx old d/made";

const MADE: &str = "prepare: { made: { file: { create: '@DIR@/d/made', text: x } } }";
const FOLDER: &str = "prepare: { made: { file: { directory: '@DIR@/d/made', owned: true } } }";
const JSON: &str =
    "prepare: { made: { json: { path: '@DIR@/d/it.json', create: true, set: { at: /a, value: 同 } } } }";
const IS_MADE: &str = "test -e d/made; test -z \"$(find d/made -maxdepth 0 -type f -links +1)\"";
const IS_JSON: &str = "test -e d/it.json";

rows! {
    /// A view of the same file system over its folder.
    a_file_that_a_bind_mount_hides_cannot_be_told: Row {
        setup: SMALL, playbook: MADE_IN_IT, ready: "test -e m/d/made", meanwhile: HIDE,
        exit: 4, says: &["left 0", "1 cannot be told", "m/d/made"],
        differs: &["- edge file @DIR@/m/d/it", "+ edge unit root-case-m-d.mount"], over: false,
        ..Row::LAB
    };
    /// The same after a death.
    a_file_that_a_bind_mount_hides_after_a_death_cannot_be_told: Row {
        setup: SMALL, playbook: MADE_IN_IT, death: Death::At("after:made"), between: HIDE,
        exit: 4, says: &["left 0", "1 cannot be told", "m/d/made"],
        differs: &["- edge file @DIR@/m/d/it", "+ edge unit root-case-m-d.mount"], over: false,
        ..Row::LAB
    };
    /// Nobody has deleted what was put aside.
    a_put_aside_file_that_a_bind_mount_hides_cannot_be_told: Row {
        setup: SMALL, playbook: ASIDE_IN_IT, ready: "test ! -e m/d/it", meanwhile: HIDE,
        exit: 4, says: &["1 cannot be told", "m/d/.shakedown-"], silent: &["deleted it there"],
        differs: &["- edge file @DIR@/m/d/it", "+ edge unit root-case-m-d.mount"], over: false,
        ..Row::LAB
    };
    /// On a host no kernel can be asked.
    a_file_that_a_bind_mount_hides_on_a_host_cannot_be_told: Row {
        setup: SMALL_THERE, playbook: THERE, ready: IS_THERE, meanwhile: "nas: mount --bind /volume1/m/q /volume1/m/d",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/m/d/made"],
        differs: &["+ nas unit volume1-m-d.mount"], over: false,
        ..Row::LAB
    };
    /// Deleted there by another while nothing hides anything: it is gone.
    a_file_that_another_deleted_on_a_host_is_gone: Row {
        setup: SMALL_THERE, playbook: THERE, ready: IS_THERE, meanwhile: "nas: rm /volume1/m/d/made",
        says: &["PASSED", "left 0"],
        ..Row::LAB
    };
    /// Moved where the host's user may not look.
    a_folder_that_was_moved_into_a_closed_one_cannot_be_told: Row {
        setup: SMALL_THERE, playbook: FOLDER_THERE, ready: "nas: test -e /volume1/m/d/made",
        meanwhile: "nas: mkdir -m 700 /volume1/m/closed; mv /volume1/m/d /volume1/m/closed/; mkdir /volume1/m/d",
        exit: 4, says: &["left 0", "1 cannot be told", "/volume1/m/d/made"],
        differs: &["+ nas file /volume1/m/closed", "~ nas file /volume1/m/d"], over: false,
        ..Row::LAB
    };
    /// What was uploaded goes on under another name.
    an_upload_that_was_moved_is_left_and_named: Row {
        setup: SMALL_THERE, playbook: UPLOAD, ready: IS_THERE, meanwhile: "nas: mv /volume1/m/d/made /volume1/m/q/b",
        exit: 4, says: &["left 1", "/volume1/m/q/b"], differs: &["+ nas file /volume1/m/q/b"], typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// Under a second one.
    an_upload_with_a_second_name_is_named_by_that: Row {
        setup: SMALL_THERE, playbook: UPLOAD, ready: IS_THERE, meanwhile: "nas: ln /volume1/m/d/made /volume1/m/q/b",
        exit: 4, says: &["left 1", "/volume1/m/q/b"], differs: &["+ nas file /volume1/m/q/b"], typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// And the earlier file is back all the same.
    an_upload_over_a_file_that_was_moved_is_left_and_named: Row {
        setup: "nas: mkdir /volume1/m; mount -t tmpfs -o size=1m tmpfs /volume1/m
nas: mkdir /volume1/m/d /volume1/m/q; echo old >/volume1/m/d/made; chown -R drone: /volume1/m",
        playbook: UPLOAD, ready: "nas: ! grep -qx old /volume1/m/d/made", meanwhile: "nas: mv /volume1/m/d/made /volume1/m/q/b",
        exit: 4, says: &["left 1", "/volume1/m/q/b"], differs: &["+ nas file /volume1/m/q/b"], typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// The same with what was downloaded.
    a_download_that_was_moved_is_left_and_named: Row {
        setup: "mkdir d", playbook: DOWNLOAD, ready: IS_DOWN, meanwhile: "mv d/made d/m",
        exit: 4, says: &["left 1", "d/m"], differs: &["+ edge file @DIR@/d/m"], typed: Some(&[]), over: false,
        ..Row::LAB
    };
    a_download_over_a_file_with_a_second_name_is_named_by_that: Row {
        setup: "mkdir d; echo old >d/made", playbook: DOWNLOAD, ready: IS_DOWN, meanwhile: "ln d/made d/m",
        exit: 4, says: &["left 1", "d/m"], differs: &["+ edge file @DIR@/d/m"], typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// Killed in any moment of the undo it is still taken back.
    a_download_is_taken_back_from_anywhere: Row {
        setup: "mkdir d; echo old >d/made", playbook: DOWNLOAD, death: Death::Twice("after:down"),
        ..Row::LAB
    };
    /// A document that this run has made.
    a_document_that_was_made_and_moved_is_left_and_named: Row {
        setup: "mkdir -p d q/r/s", playbook: JSON, ready: IS_JSON, meanwhile: "mv d/it.json q/r/s/b",
        exit: 4, says: &["left 1", "q/r/s/b"], differs: &["+ file q/r/s/b"], over: false,
        ..Row::HERE
    };
    a_document_that_was_made_and_has_a_second_name_is_named_by_that: Row {
        setup: "mkdir -p d q/r/s", playbook: JSON, ready: IS_JSON, meanwhile: "ln d/it.json q/r/s/b",
        exit: 4, says: &["left 1", "q/r/s/b"], differs: &["+ file q/r/s/b"], over: false,
        ..Row::HERE
    };
    a_document_that_was_made_and_deleted_is_gone: Row {
        setup: "mkdir d", playbook: JSON, ready: IS_JSON, meanwhile: "rm d/it.json",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// Killed in any moment of its undo it is not taken for moved.
    a_document_that_was_made_is_taken_back_from_anywhere: Row {
        setup: "mkdir d", playbook: JSON, death: Death::Twice("after:made"),
        ..Row::HERE
    };
    /// Two mounts in an owned folder, one of them twice: the printed command takes them off and comes near no file. Then it
    /// can be recovered.
    an_owned_folder_with_two_mounts_in_it_is_left: Row {
        setup: "mkdir d precious; echo p >precious/p", playbook: FOLDER, ready: IS_MADE,
        meanwhile: "mkdir 'd/made/a b' d/made/c; mount --bind precious 'd/made/a b'; mount -t tmpfs tmpfs d/made/c; mount --bind precious d/made/c",
        exit: 4, says: &["left 1", "d/made/c", "d/made/a b"],
        differs: &["+ edge file @DIR@/d/made", "+ edge unit root-case-d-made"],
        typed: Some(&["+ edge file @DIR@/d/made"]),
        ..Row::LAB
    };
    /// Another's file in a folder that is not owned.
    a_folder_with_the_file_of_another_is_left_and_looked_at: Row {
        setup: "mkdir d", playbook: "prepare: { made: { file: { directory: '@DIR@/d/made' } } }", ready: IS_MADE,
        meanwhile: "echo theirs >d/made/theirs",
        exit: 4, says: &["left 1", "it is not empty"], differs: &["+ file d/made"], typed: Some(&["+ file d/made"]), over: false,
        ..Row::HERE
    };
    /// What another wrote into ours is the only copy of that.
    a_file_that_another_wrote_into_is_left_and_looked_at: Row {
        setup: "mkdir d", playbook: MADE, ready: IS_MADE, meanwhile: "echo theirs >>d/made",
        exit: 4, says: &["left 1", "changed since"], differs: &["+ file d/made"], typed: Some(&["+ file d/made"]), over: false,
        ..Row::HERE
    };
    /// Also once it was moved.
    a_file_that_another_wrote_into_and_moved_is_left_and_looked_at: Row {
        setup: "mkdir d", playbook: MADE, ready: IS_MADE, meanwhile: "echo theirs >>d/made; mv d/made d/b",
        exit: 4, says: &["left 1", "d/b"], differs: &["+ file d/b"], typed: Some(&["+ file d/b"]), over: false,
        ..Row::HERE
    };
    /// A name that no terminal can show: the command is typed as it stands, and spares the neighbours.
    a_name_of_odd_bytes_can_be_typed: Row {
        setup: "mkdir d; touch 'd/a\\nb' d/b", playbook: MADE, ready: IS_MADE,
        meanwhile: "mv d/made \"$(printf 'd/-a\\nb\\377 !%%\\033[1m')\"",
        exit: 4, says: &["left 1"], differs: &["+ file d/-a"], typed: Some(&[]), over: false,
        ..Row::HERE
    };
    /// The same on a host.
    a_name_of_odd_bytes_on_a_host_can_be_typed: Row {
        setup: SMALL_THERE, playbook: UPLOAD, ready: IS_THERE,
        meanwhile: "nas: mv /volume1/m/d/made \"$(printf '/volume1/m/d/a\\nb!\\033[1m')\"",
        exit: 4, says: &["left 1"], differs: &["+ nas file /volume1/m/d/a"], typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// Deeper than any path, any stack and any number of descriptors.
    an_owned_folder_of_any_depth_goes: Row {
        setup: "mkdir d", playbook: FOLDER, ready: IS_MADE,
        meanwhile: "python3 -c 'import os\nos.chdir(\"d/made\")\nfor i in range(5000):\n  os.mkdir(\"n\")\n  os.chdir(\"n\")'",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// A file is known by what it is: a change that is taken back gives the very same back.
    a_document_that_the_same_run_has_made_is_taken_back: Row {
        setup: "mkdir d",
        playbook: "prepare:
  made: { file: { create: '@DIR@/d/made', text: '{\"a\": 1}' } }
  set: { needs: [made], json: { path: '@DIR@/d/made', set: { at: /a, value: 2 } } }
  more: { needs: [set], json: { path: '@DIR@/d/made', set: { at: /b, value: 3 } } }",
        says: &["PASSED", "left 0", "undone 3 of 3"],
        ..Row::HERE
    };
    /// The same killed anywhere.
    a_document_that_the_same_run_has_made_is_taken_back_from_anywhere: Row {
        setup: "mkdir d",
        playbook: "prepare:
  made: { file: { create: '@DIR@/d/made', text: '{\"a\": 1}' } }
  set: { needs: [made], json: { path: '@DIR@/d/made', set: { at: /a, value: 2 } } }",
        death: Death::Everywhere,
        ..Row::HERE
    };
    /// Removed, made anew, changed and removed again.
    all_that_one_run_did_to_one_path_is_taken_back: Row {
        setup: "mkdir d; echo '{\"a\": 1}' >d/it; echo '{\"a\": 9}' >from; chmod 604 d/it",
        playbook: "prepare:
  gone: { file: { remove: '@DIR@/d/it' } }
  copy: { needs: [gone], file: { copy: '@DIR@/from', to: '@DIR@/d/it' } }
  set: { needs: [copy], json: { path: '@DIR@/d/it', set: { at: /a, value: 2 } } }
  again: { needs: [set], file: { remove: '@DIR@/d/it' } }",
        says: &["PASSED", "left 0", "undone 4 of 4"],
        ..Row::HERE
    };
    /// Downloaded over what the same run has made.
    a_download_over_what_the_same_run_has_made_is_taken_back: Row {
        setup: "mkdir d",
        playbook: "hosts: { nas: { ssh: nas } }
prepare:
  made: { file: { create: '@DIR@/d/made', text: x } }
  down: { needs: [made], ssh: { host: nas, download: { from: /etc/hostname, to: '@DIR@/d/made' } } }",
        says: &["PASSED", "left 0", "undone 2 of 2"],
        ..Row::LAB
    };
}
