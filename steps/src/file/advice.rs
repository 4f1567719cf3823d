//! What is told of a thing that could not be taken back: what it is, why, and a command that can be typed.

use super::Params;
use engine::{host::shell_word, step::Leftover};
use std::path::Path;

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

    fn left(&self, path: &str, why: impl Into<String>, remove_with: String) -> Leftover {
        Leftover { what: format!("{} `{path}`", self.kind()), why: why.into(), remove_with }
    }

    /// It could not be seen what became of it.
    pub(super) fn cannot_tell(&self, why: &str) -> Leftover {
        if self.is_removal() {
            let why = format!("it was put aside as `{}`: {why}", self.beside);
            return self.left(self.target, why, look(&[self.target, self.beside]));
        }
        self.left(self.target, why, look(&[self.target]))
    }

    /// It is ours by all but its content.
    pub(super) fn changed(&self) -> Leftover {
        self.left(self.target, "it was changed since it was made", remove(self.target))
    }

    /// What has the name is not what was made: whose it is nobody knows, so the command only looks.
    pub(super) fn replaced(&self) -> Leftover {
        self.left(self.target, "it is another than the one that was made", look(&[self.target]))
    }

    /// It is somewhere else now.
    pub(super) fn moved(&self, at: &Path) -> Leftover {
        let at = at.display().to_string();
        let command = match (self.params.directory.is_some(), self.params.owned) {
            (false, _) => remove(&at),
            (true, true) => format!("rm -r -- {}", shell_word(&at)),
            (true, false) => format!("rmdir -- {}", shell_word(&at)),
        };
        self.left(
            &at,
            format!("it was made as `{}`, and was moved or has a second name", self.target),
            command,
        )
    }

    pub(super) fn not_empty(&self) -> Leftover {
        self.left(self.target, "it is not empty", format!("rm -r -- {}", shell_word(self.target)))
    }

    /// Something is mounted in it, which is another's.
    pub(super) fn mounted(&self, at: &Path) -> Leftover {
        let at = at.display().to_string();
        let command = format!("umount -- {} && rm -r -- {}", shell_word(&at), shell_word(self.target));
        self.left(self.target, format!("something is mounted in it, at `{at}`"), command)
    }

    /// Another has made the file anew that was put aside.
    pub(super) fn occupied(&self) -> Leftover {
        let why =
            format!("another file is at `{0}`; the one that was there before is put aside here", self.target);
        self.left(self.beside, why, look(&[self.target, self.beside]))
    }

    /// The file that was put aside has been moved.
    pub(super) fn aside_moved(&self, at: &Path) -> Leftover {
        let at = at.display().to_string();
        let why =
            format!("it was put aside from `{}`, and its folder or it itself was moved since", self.target);
        let command = format!("mv -n -- {} {}", shell_word(&at), shell_word(self.target));
        self.left(&at, why, command)
    }

    /// The file that was put aside has been deleted.
    pub(super) fn aside_deleted(&self) -> Leftover {
        let why = format!(
            "it was put aside as `{}`, and another deleted it there: it cannot be put back",
            self.beside
        );
        let folder = self.target.trim_end_matches('/').rsplit_once('/').map_or(".", |(folder, _)| folder);
        self.left(
            self.target,
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

fn remove(path: &str) -> String {
    format!("rm -- {}", shell_word(path))
}
