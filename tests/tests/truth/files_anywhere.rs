//! Files and what ssh carries, killed at every point of the run and of its recovery: nothing is left, and nothing of another's is
//! missing.

use tests::truth::{Death, Row, rows};

/// Everything that `file` does here, modes and owners included.
const FILES: &str = "prepare:
  folder: { file: { directory: '@DIR@/f', owned: true, mode: '0750', owner: '12' } }
  fills: { needs: [folder], command: { shell: 'mkdir @DIR@/f/d; echo x >@DIR@/f/d/x; ln -s / @DIR@/f/d/root', reads: true } }
  made: { needs: [fills], file: { create: '@DIR@/f/行\\n尾', text: x, mode: '4711', owner: '12', group: '34' } }
  copy: { needs: [made], file: { copy: '@DIR@/it', to: '@DIR@/copy', mode: '0604' } }
  gone: { needs: [copy], file: { remove: '@DIR@/it' } }";
/// A file with a mode and owners of its own.
const IT: &str = "echo it >it; chmod 2604 it; chown 12:34 it";

/// Effects whose undo and cleanup are `file` steps.
const FINAL: &str = "prepare:
  made: { command: { shell: 'echo x >@DIR@/made' }, undo: { file: { remove: '@DIR@/made' } } }
  gone: { needs: [made], command: { shell: 'rm -f @DIR@/it' }, undo: { file: { create: '@DIR@/it', text: \"it\\n\", mode: '0640' } } }
cleanup:
  makes: { file: { create: '@DIR@/late', size: 1KiB } }
  folder: { file: { directory: '@DIR@/later' } }
  takes: { needs: [makes], file: { remove: '@DIR@/late' } }
  ends: { needs: [folder], command: { shell: 'test ! -e @DIR@/later || rmdir @DIR@/later', reads: true } }";

/// The same on a host.
const FILES_THERE: &str = "hosts: { nas: { ssh: nas } }
prepare:
  folder: { on: nas, file: { directory: /volume1/d/f, owned: true, mode: '0750' } }
  fills: { on: nas, needs: [folder], command: { shell: 'mkdir /volume1/d/f/d; ln -s / /volume1/d/f/d/root', reads: true } }
  made: { on: nas, needs: [fills], file: { create: '/volume1/d/f/名', text: x, mode: '4711', group: '2001' } }
  gone: { on: nas, needs: [made], file: { remove: /volume1/d/it } }";
const COPY_THERE: &str = "hosts: { nas: { ssh: nas } }
prepare: { copy: { on: nas, file: { copy: /volume1/d/it, to: /volume1/d/copy } } }
cleanup: { gone: { on: nas, file: { remove: /volume1/d/none } } }";
const FINAL_THERE: &str = "hosts: { nas: { ssh: nas } }
prepare:
  made: { on: nas, command: { shell: 'echo x >/volume1/d/made' }, undo: { on: nas, file: { remove: /volume1/d/made } } }
cleanup:
  makes: { on: nas, file: { create: /volume1/d/late, text: x } }
  takes: { on: nas, needs: [makes], file: { remove: /volume1/d/late } }";
/// A folder and a file of the host's user.
const SETUP: &str =
    "nas: mkdir /volume1/d; echo it >/volume1/d/it; chmod 640 /volume1/d/it; chown -R drone: /volume1/d";

const UPLOAD: &str = "hosts: { nas: { ssh: nas } }
prepare: { up: { ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: '/volume1/d/新', mode: '0604' } } } }";
const REPLACE: &str = "hosts: { nas: { ssh: nas } }
prepare: { up: { ssh: { host: nas, upload: { from: '@DIR@/it.yaml', to: /volume1/d/it } } } }";
/// A new file here, and one that replaces another.
const DOWNLOAD: &str = "hosts: { nas: { ssh: nas } }
prepare:
  down: { ssh: { host: nas, download: { from: /volume1/d/it, to: '@DIR@/新' } } }
  over: { needs: [down], ssh: { host: nas, download: { from: /volume1/d/it, to: '@DIR@/old' } } }";

rows! {
    /// Killed anywhere, in the run and in the undo.
    files_and_folders_are_recovered_from_anywhere: Row {
        setup: IT, playbook: FILES, death: Death::Everywhere,
        ..Row::HERE
    };
    /// And then the recovery is killed anywhere.
    their_recovery_is_recovered_from_anywhere: Row {
        setup: IT, playbook: FILES, death: Death::Twice("after:gone"),
        ..Row::HERE
    };
    /// Steps that nobody takes back: written undos and cleanup.
    final_steps_leave_nothing_wherever_they_are_killed: Row {
        setup: "echo it >it; chmod 640 it", playbook: FINAL, death: Death::Everywhere,
        ..Row::HERE
    };
    /// The same in the recovery.
    final_steps_leave_nothing_wherever_their_recovery_is_killed: Row {
        setup: "echo it >it; chmod 640 it", playbook: FINAL, death: Death::Twice("after:gone"),
        ..Row::HERE
    };
    /// Killed anywhere while it acts on a host.
    files_on_a_host_are_recovered_from_anywhere: Row {
        setup: SETUP, playbook: FILES_THERE, death: Death::Everywhere,
        ..Row::LAB
    };
    /// And then the recovery is killed anywhere.
    the_recovery_of_files_on_a_host_is_recovered_from_anywhere: Row {
        setup: SETUP, playbook: FILES_THERE, death: Death::Twice("after:gone"),
        ..Row::LAB
    };
    /// A copy there, and a cleanup step that finds nothing to do.
    a_copy_on_a_host_is_recovered_from_anywhere: Row {
        setup: SETUP, playbook: COPY_THERE, death: Death::Everywhere,
        ..Row::LAB
    };
    /// Steps on a host that nobody takes back.
    final_steps_on_a_host_leave_nothing_wherever_they_are_killed: Row {
        setup: SETUP, playbook: FINAL_THERE, death: Death::Everywhere,
        ..Row::LAB
    };
    /// A new file for a host.
    an_upload_is_recovered_from_anywhere: Row {
        setup: SETUP, playbook: UPLOAD, death: Death::Everywhere,
        ..Row::LAB
    };
    /// One in the place of another, which comes back.
    an_upload_that_replaces_is_recovered_from_anywhere: Row {
        setup: SETUP, playbook: REPLACE, death: Death::Everywhere,
        ..Row::LAB
    };
    /// And then the recovery is killed anywhere.
    the_recovery_of_an_upload_that_replaces_is_recovered_from_anywhere: Row {
        setup: SETUP, playbook: REPLACE, death: Death::Twice("after:up"),
        ..Row::LAB
    };
    /// A new file from a host, and one in the place of another.
    downloads_are_recovered_from_anywhere: Row {
        setup: "nas: mkdir /volume1/d; echo it >/volume1/d/it; chown -R drone: /volume1/d\necho old >old; chmod 604 old; chown 12:34 old",
        playbook: DOWNLOAD, death: Death::Everywhere,
        ..Row::LAB
    };
    /// And then the recovery is killed anywhere.
    the_recovery_of_downloads_is_recovered_from_anywhere: Row {
        setup: "nas: mkdir /volume1/d; echo it >/volume1/d/it; chown -R drone: /volume1/d\necho old >old; chmod 604 old; chown 12:34 old",
        playbook: DOWNLOAD, death: Death::Twice("after:over"),
        ..Row::LAB
    };
}
