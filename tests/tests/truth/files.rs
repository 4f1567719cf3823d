//! Files and folders of this machine: moved, replaced, hidden, denied, mounted over, swapped, taken by another.

use tests::truth::{Death, Row, rows};

/// A file that is made in the folder `d`, and a playbook that says so.
const MADE: &str = "prepare: { made: { file: { create: '@DIR@/d/made', text: x } } }";
/// An owned folder `d/made`.
const FOLDER: &str = "prepare: { made: { file: { directory: '@DIR@/d/made', owned: true } } }";
/// A file that is put aside.
const ASIDE: &str = "prepare: { gone: { file: { remove: '@DIR@/d/it' } } }";

rows! {
    /// Another program took it, as it is to: that is no leftover.
    a_file_that_another_deleted_is_gone: Row {
        setup: "mkdir d", playbook: MADE, ready: "test -e d/made", meanwhile: "rm d/made",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// Also when the run was killed in between: the kernel is asked, which a search could not tell in time.
    a_file_that_another_deleted_after_the_crash_is_gone: Row {
        setup: "mkdir d", playbook: MADE, death: Death::At("after:made"), between: "rm d/made",
        says: &["RECOVERED"],
        ..Row::HERE
    };
    /// An overlay gives no handles, and not all layers can be searched.
    a_file_that_another_deleted_after_the_crash_on_an_overlay_cannot_be_told: Row {
        setup: "mkdir d", playbook: MADE, death: Death::At("after:made"), between: "rm d/made",
        exit: 4, says: &["left 0, 1 cannot be told", "d/made", "cannot be searched"], over: false,
        ..Row::LAB
    };
    /// A folder is found in the same way.
    a_folder_that_another_moved_after_the_crash_is_left_and_named: Row {
        setup: "mkdir d e", playbook: FOLDER, death: Death::At("after:made"), between: "touch d/made/x; mv d/made e/",
        exit: 4, says: &["e/made"], differs: &["+ file e/made"], typed: Some(&[]), over: false,
        ..Row::HERE
    };
    /// Deleted where it was put aside, after the crash.
    a_put_aside_file_that_another_deleted_after_the_crash_is_told: Row {
        setup: "mkdir d; echo it >d/it", playbook: ASIDE, death: Death::At("after:gone"), between: "rm d/.shakedown-*",
        exit: 4, says: &["d/it", "another deleted it there"], differs: &["- file d/it"], over: false,
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
        exit: 4, says: &["left 0", "1 cannot be told", "d/made"], differs: &["~ edge file @DIR@/d", "+ edge unit root-case-d.mount"], over: false,
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
        exit: 4, says: &["left 1", "d/made/m"], differs: &["+ edge file @DIR@/d/made", "+ edge unit root-case-d-made-m.mount"],
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
}
