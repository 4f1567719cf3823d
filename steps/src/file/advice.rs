//! What is told of a thing that could not be taken back: what it is, why, and a command that can be typed.

use super::Params;
use engine::{
    host::{shell_path, shell_word},
    step::Leftover,
};
use std::path::{Path, PathBuf};

/// What a step was about.
pub(super) struct Advice<'a> {
    pub(super) target: &'a str,
    pub(super) beside: &'a str,
    pub(super) params: &'a Params,
}

impl Advice<'_> {
    fn kind(&self) -> &'static str {
        if self.params.directory.is_some() { "folder" } else { "file" }
    }

    fn is_removal(&self) -> bool {
        self.params.remove.is_some()
    }

    fn left(&self, path: &Path, why: impl Into<String>, remove_with: String) -> Leftover {
        Leftover { what: format!("{} `{}`", self.kind(), path.display()), why: why.into(), remove_with }
    }

    fn target(&self) -> &Path {
        Path::new(self.target)
    }

    /// It could not be seen what became of it.
    pub(super) fn cannot_tell(&self, why: &str) -> Leftover {
        if self.is_removal() {
            let why = format!("it was put aside as `{}`: {why}", self.beside);
            return self.left(self.target(), why, look(&[self.target, self.beside]));
        }
        self.left(self.target(), why, look(&[self.target]))
    }

    /// It is ours by all but its content: of what another wrote there may be no other copy, so the command only looks.
    pub(super) fn changed(&self) -> Leftover {
        self.left(self.target(), "it was changed since it was made", look(&[self.target]))
    }

    /// What has the name is not what was made: whose it is nobody knows, so the command only looks.
    pub(super) fn replaced(&self) -> Leftover {
        self.left(self.target(), "it is another than the one that was made", look(&[self.target]))
    }

    /// It is somewhere else now; `ours` says that nobody has changed it, or mounted anything in it.
    pub(super) fn moved(&self, at: &Path, ours: bool) -> Leftover {
        let (path, why) = (shell_path(at), "and was moved or has a second name");
        let (folder, owned) = (self.params.directory.is_some(), self.params.owned);
        let (command, changed) = match (ours, folder) {
            (false, true) => (format!("ls -la -- {path}"), ""),
            (false, false) => (format!("ls -ld -- {path}"), "; it was changed since, or cannot be read"),
            (true, false) => (format!("rm -- {path}"), ""),
            (true, true) if owned => (remove_all(&path), ""),
            (true, true) => (format!("rmdir -- {path}"), ""),
        };
        self.left(at, format!("it was made as `{}`, {why}{changed}", self.target), command)
    }

    /// What is in it is another's.
    pub(super) fn not_empty(&self) -> Leftover {
        self.left(self.target(), "it is not empty", format!("ls -la -- {}", shell_word(self.target)))
    }

    /// Something is mounted in it, which is another's: no command that removes may come near it.
    pub(super) fn mounted(&self, folder: &Path, mounts: &[PathBuf]) -> Leftover {
        let places: Vec<_> = mounts.iter().map(|at| format!("`{}`", at.display())).collect();
        // What was mounted last goes first.
        let commands: Vec<_> =
            mounts.iter().rev().map(|at| format!("umount -- {}", shell_path(at))).collect();
        let why = format!(
            "something is mounted in it, at {}; once that is unmounted, `shakedown recover` removes it",
            places.join(" and ")
        );
        self.left(folder, why, commands.join(" && "))
    }

    /// Another has made the file anew that was put aside.
    pub(super) fn occupied(&self) -> Leftover {
        let why =
            format!("another file is at `{0}`; the one that was there before is put aside here", self.target);
        self.left(Path::new(self.beside), why, look(&[self.target, self.beside]))
    }

    /// The file that was put aside has been moved.
    pub(super) fn aside_moved(&self, at: &Path) -> Leftover {
        let why =
            format!("it was put aside from `{}`, and its folder or it itself was moved since", self.target);
        let command = format!("mv -n -- {} {}", shell_path(at), shell_word(self.target));
        self.left(at, why, command)
    }

    /// The file that was put aside has been deleted.
    pub(super) fn aside_deleted(&self) -> Leftover {
        let why = format!(
            "it was put aside as `{}`, and another deleted it there: it cannot be put back",
            self.beside
        );
        let folder = self.target.trim_end_matches('/').rsplit_once('/').map_or(".", |(folder, _)| folder);
        self.left(
            self.target(),
            why,
            format!("ls -la -- {}", shell_word(if folder.is_empty() { "/" } else { folder })),
        )
    }
}

/// A line that changes nothing.
fn look(paths: &[&str]) -> String {
    let words: Vec<String> = paths.iter().map(|path| shell_word(path)).collect();
    format!("ls -ld -- {}", words.join(" "))
}

/// Removes a folder with all in it that is on its file system.
pub(super) fn remove_all(word: &str) -> String {
    format!("find {word} -xdev -depth -delete")
}
