//! What stands in the way of an undo: immutable files, file systems that became read-only, full disks. What cannot be taken back is
//! named, and the commands that are printed take it back once that is put right.

use tests::truth::{Death, Row, rows};

const MADE: &str = "prepare: { made: { file: { create: '@DIR@/d/made', text: x } } }";
const FOLDER: &str = "prepare: { made: { file: { directory: '@DIR@/d/made', owned: true } } }";
const ASIDE: &str = "prepare: { gone: { file: { remove: '@DIR@/d/it' } } }";
const DOWNLOAD: &str = "hosts: { nas: { ssh: nas } }
prepare: { down: { ssh: { host: nas, download: { from: /etc/hostname, to: '@DIR@/d/it' } } } }";
const THERE: &str = "hosts: { nas: { ssh: nas } }
prepare: { made: { on: nas, file: { create: /volume1/d/made, text: x } } }";
const FOLDER_THERE: &str = "hosts: { nas: { ssh: nas } }
prepare: { made: { on: nas, file: { directory: /volume1/d/made, owned: true } } }";
const ASIDE_THERE: &str = "hosts: { nas: { ssh: nas } }
prepare: { gone: { on: nas, file: { remove: /volume1/d/it } } }";
const UPLOAD: &str = "hosts: { nas: { ssh: nas } }
prepare: { up: { ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: /volume1/d/it } } } }";

/// Disks of their own.
const DISK: &str = "mkdir d; mount -t tmpfs -o size=2m tmpfs d; echo it >d/it; chmod 604 d/it";
const DISK_THERE: &str = "nas: mkdir /volume1/d; mount -t tmpfs -o size=2m tmpfs /volume1/d; echo it >/volume1/d/it; chmod 604 /volume1/d/it; chown -R drone: /volume1/d";
const FILL: &str = "dd if=/dev/zero of=d/filler bs=4k 2>/dev/null || test -e d/filler";
const FILL_THERE: &str =
    "nas: dd if=/dev/zero of=/volume1/d/filler bs=4k 2>/dev/null || test -e /volume1/d/filler";

const IS_MADE: &str = "test -e d/made; test -z \"$(find d/made -maxdepth 0 -type f -links +1)\"";
const IS_ASIDE: &str = "test ! -e d/it";
const IS_DOWN: &str = "! grep -qx it d/it";
const THERE_MADE: &str =
    "nas: test -e /volume1/d/made; test -z \"$(find /volume1/d/made -maxdepth 0 -type f -links +1)\"";
const THERE_ASIDE: &str = "nas: test ! -e /volume1/d/it";
const IS_UP: &str = "nas: ! grep -qx it /volume1/d/it";
const READ_ONLY: &str = "mount -o remount,ro d";
const WRITABLE: &str = "mount -o remount,rw d";
const READ_ONLY_THERE: &str = "nas: mount -o remount,ro /volume1/d";
const WRITABLE_THERE: &str = "nas: mount -o remount,rw /volume1/d";

rows! {
    /// An immutable file.
    an_immutable_file_is_left_and_named: Row {
        setup: "mkdir d", playbook: MADE, ready: IS_MADE, meanwhile: "chattr +i d/made",
        exit: 4, says: &["left 1", "d/made"], differs: &["+ edge file @DIR@/d/made"], mend: "chattr -i d/made", typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// A folder to which names can only be added.
    a_file_in_a_folder_that_only_grows_is_left_and_named: Row {
        setup: "mkdir d", playbook: MADE, ready: IS_MADE, meanwhile: "chattr +a d",
        exit: 4, says: &["left 1", "d/made"], differs: &["+ edge file @DIR@/d/made"], mend: "chattr -a d", typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// Something immutable in an owned folder.
    an_owned_folder_with_something_immutable_is_left_and_named: Row {
        setup: "mkdir d", playbook: FOLDER, ready: IS_MADE, meanwhile: "touch d/made/a d/made/b; chattr +i d/made/a",
        exit: 4, says: &["left 1", "d/made"], differs: &["+ edge file @DIR@/d/made"], mend: "chattr -i d/made/a", typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// On a host.
    an_immutable_file_on_a_host_is_left_and_named: Row {
        setup: "nas: mkdir /volume1/d; chown drone: /volume1/d", playbook: THERE, ready: THERE_MADE,
        meanwhile: "nas: chattr +i /volume1/d/made",
        exit: 4, says: &["left 1", "/volume1/d/made", "ssh "], differs: &["+ nas file /volume1/d/made"],
        mend: "nas: chattr -i /volume1/d/made", typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// In an owned folder on a host.
    an_owned_folder_on_a_host_with_something_immutable_is_left_and_named: Row {
        setup: "nas: mkdir /volume1/d; chown drone: /volume1/d", playbook: FOLDER_THERE, ready: THERE_MADE,
        meanwhile: "nas: touch /volume1/d/made/a; chattr +i /volume1/d/made/a",
        exit: 4, says: &["left 1", "/volume1/d/made", "ssh "], differs: &["+ nas file /volume1/d/made"],
        mend: "nas: chattr -i /volume1/d/made/a", typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// An upload that became immutable.
    an_immutable_upload_is_left_and_named: Row {
        setup: DISK_THERE, playbook: UPLOAD, ready: IS_UP, meanwhile: "nas: chattr +i /volume1/d/it",
        exit: 4, says: &["left 1", "/volume1/d/it", "ssh "],
        differs: &["+ nas file /volume1/d/it.shakedown-", "~ nas file /volume1/d/it"],
        mend: "nas: chattr -i /volume1/d/it", typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// A disk that became read-only: the file is there.
    a_file_on_a_disk_that_became_read_only_is_left_and_named: Row {
        setup: DISK, playbook: MADE, ready: IS_MADE, meanwhile: READ_ONLY,
        exit: 4, says: &["left 1", "d/made"], differs: &["+ edge file @DIR@/d/made"], mend: WRITABLE, typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// An owned folder on it.
    a_folder_on_a_disk_that_became_read_only_is_left_and_named: Row {
        setup: DISK, playbook: FOLDER, ready: IS_MADE, meanwhile: READ_ONLY,
        exit: 4, says: &["left 1", "d/made"], differs: &["+ edge file @DIR@/d/made"], mend: WRITABLE, typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// A file that was put aside cannot come back, and the command brings it back later.
    a_put_aside_file_on_a_disk_that_became_read_only_is_named: Row {
        setup: DISK, playbook: ASIDE, ready: IS_ASIDE, meanwhile: READ_ONLY,
        exit: 4, says: &["left 1", "d/it", ".shakedown-"], differs: &["+ edge file @DIR@/d/.shakedown-", "- edge file @DIR@/d/it"],
        mend: WRITABLE, typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// A download that replaced another.
    a_download_on_a_disk_that_became_read_only_is_named: Row {
        setup: DISK, playbook: DOWNLOAD, ready: IS_DOWN, meanwhile: READ_ONLY,
        exit: 4, says: &["left 1", "d/it"],
        differs: &["+ edge file @DIR@/d/it.shakedown-", "~ edge file @DIR@/d/it"], mend: WRITABLE, typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// On a host.
    a_file_on_a_host_that_became_read_only_is_left_and_named: Row {
        setup: DISK_THERE, playbook: THERE, ready: THERE_MADE, meanwhile: READ_ONLY_THERE,
        exit: 4, says: &["left 1", "/volume1/d/made", "ssh "], differs: &["+ nas file /volume1/d/made"], mend: WRITABLE_THERE, typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// A file that was put aside on a host.
    a_put_aside_file_on_a_host_that_became_read_only_is_named: Row {
        setup: DISK_THERE, playbook: ASIDE_THERE, ready: THERE_ASIDE, meanwhile: READ_ONLY_THERE,
        exit: 4, says: &["left 1", "/volume1/d/it", ".shakedown-", "ssh "],
        differs: &["+ nas file /volume1/d/.shakedown-", "- nas file /volume1/d/it"],
        mend: WRITABLE_THERE, typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// An upload, found after a crash.
    an_upload_on_a_host_that_became_read_only_after_the_crash_is_named: Row {
        setup: DISK_THERE, playbook: UPLOAD, death: Death::At("after:up"), between: READ_ONLY_THERE,
        exit: 4, says: &["left 1", "/volume1/d/it", "ssh "],
        differs: &["+ nas file /volume1/d/it.shakedown-", "~ nas file /volume1/d/it"], mend: WRITABLE_THERE, typed: Some(&[]), over: false,
        ..Row::LAB
    };
    /// An undo needs no room.
    a_full_disk_does_not_keep_a_put_aside_file_from_coming_back: Row {
        setup: DISK, playbook: ASIDE, ready: IS_ASIDE, meanwhile: FILL,
        says: &["PASSED", "left 0"], differs: &["+ edge file @DIR@/d/filler"],
        ..Row::LAB
    };
    /// Nor that of a download.
    a_full_disk_does_not_keep_a_replaced_file_from_coming_back: Row {
        setup: DISK, playbook: DOWNLOAD, ready: IS_DOWN, meanwhile: FILL,
        says: &["PASSED", "left 0"], differs: &["+ edge file @DIR@/d/filler"],
        ..Row::LAB
    };
    /// Nor on a host.
    a_full_disk_on_a_host_does_not_keep_a_put_aside_file_from_coming_back: Row {
        setup: DISK_THERE, playbook: ASIDE_THERE, ready: THERE_ASIDE, meanwhile: FILL_THERE,
        says: &["PASSED", "left 0"], differs: &["+ nas file /volume1/d/filler"],
        ..Row::LAB
    };
    /// Nor that of an upload.
    a_full_disk_on_a_host_does_not_keep_a_replaced_file_from_coming_back: Row {
        setup: DISK_THERE, playbook: UPLOAD, ready: IS_UP, meanwhile: FILL_THERE,
        says: &["PASSED", "left 0"], differs: &["+ nas file /volume1/d/filler"],
        ..Row::LAB
    };
}
