//! The state folder: full, read-only, or not to be trusted.

use super::{FILES, Stage};
use std::{fs, process::Command};
use tests::{folders::said, lab::until};

/// The state folder of a stage on a file system of its own, which is small.
struct Small<'a>(&'a Stage);

impl<'a> Small<'a> {
    fn under(stage: &'a Stage) -> Self {
        let small = Self(stage);
        small.mount(&["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"]);
        small
    }

    fn mount(&self, argv: &[&str]) {
        let done = Command::new("mount").args(argv).arg(self.0.state.path()).status().expect("mount");
        assert!(done.success(), "{argv:?}");
    }

    fn free(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.0.state.path()).expect("a look");
        stat.blocks_available() * stat.fragment_size()
    }

    /// Leaves so many bytes of it.
    fn fill(&self, leave: u64) {
        let size = usize::try_from(self.free().saturating_sub(leave)).expect("small");
        fs::write(self.0.state.path().join("fill"), vec![1; size]).expect("writes");
        assert!(self.free() <= leave);
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0.state.path()).status();
    }
}

#[test]
fn a_dead_run_on_a_full_disk_is_recovered_also_after_a_restart() {
    if !nix::unistd::geteuid().is_root() {
        return tests::tell("SKIPPED lab test: it needs root");
    }
    for restarted in [false, true] {
        let stage = Stage::new(FILES);
        let small = Small::under(&stage);
        stage.die("kill:after:two");
        if restarted {
            // What SQLite keeps in memory is gone then, and needs space to be made again.
            let _none = fs::remove_file(stage.state.path().join("journal.sqlite-shm"));
        }
        small.fill(0);
        stage.says(&["recover", "--yes"], 0, &["RECOVERED files", "undone 2 of 2", "left 0"]);
        assert!(!stage.path("two.txt").exists());
    }
}

#[test]
fn pruning_gives_a_full_disk_its_space_back() {
    if !nix::unistd::geteuid().is_root() {
        return tests::tell("SKIPPED lab test: it needs root");
    }
    let stage = Stage::new(FILES);
    let small = Small::under(&stage);
    while small.free() > 1_300_000 {
        stage.says(&["run", "it.yaml", "--quiet"], 0, &[]);
    }
    small.fill(100_000);
    until("all but those of this moment are forgotten", || {
        said(&stage.run(&["runs", "prune", "--older", "0s"])).contains(" 0 runs") || small.free() > 500_000
    });
    stage.says(&["run", "it.yaml"], 0, &["PASSED files"]);
}

#[test]
fn a_history_that_cannot_be_written_can_be_read() {
    if !nix::unistd::geteuid().is_root() {
        return tests::tell("SKIPPED lab test: it needs root");
    }
    let stage = Stage::new(FILES);
    let small = Small::under(&stage);
    let run = stage.die("kill:after:two");
    small.mount(&["-o", "remount,ro"]);
    stage.says(&["runs"], 0, &[&run, "died"]);
    stage.says(&["runs", "show", &run], 0, &["two.txt"]);
    stage.says(&["recover"], 4, &["DIED files", "two.txt"]);
    stage.says(&["recover", "--yes"], 5, &[]);
    small.mount(&["-o", "remount,rw"]);
    stage.says(&["recover", "--yes"], 0, &["RECOVERED files"]);
}

#[test]
fn a_state_folder_that_others_can_write_is_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let stage = Stage::new(FILES);
    stage.die("kill:after:two");
    let state = stage.state.path();
    let chmod = |mode: u32| fs::set_permissions(state, fs::Permissions::from_mode(mode)).expect("ours");
    chmod(0o777);
    for argv in [&["run", "it.yaml"][..], &["recover", "--yes"], &["runs"]] {
        stage.says(argv, 5, &["cannot be trusted: others may write it (mode 0777)", "--state-dir"]);
    }
    chmod(0o700);
    let elsewhere = tempfile::tempdir().expect("a folder");
    fs::rename(state.join("scratch"), elsewhere.path().join("scratch")).expect("moves");
    symlink(elsewhere.path().join("scratch"), state.join("scratch")).expect("links");
    stage.says(&["recover", "--yes"], 5, &["cannot be trusted: it is a link"]);
    assert!(stage.path("two.txt").exists());
}
