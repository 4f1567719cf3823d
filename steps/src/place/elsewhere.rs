//! A file that was put in place and is not there any more, or has a second name; and what a person can do.

use super::{At, Found, Placing, identity, place, split};
use crate::{
    file::{
        self,
        trace::{self, Fate, Lost},
    },
    identity::Identity,
};
use engine::{
    StepError,
    host::{shell_path, shell_word},
    step::{Leftover, Undone},
};
use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

impl Placing {
    /// What became of the file, which is not in its place, or has a second name.
    pub(super) async fn elsewhere(&self, at: At<'_>, gone: Undone) -> Result<Undone, StepError> {
        let made = self.made.as_deref().and_then(|made| identity(made, at));
        let Some(made) = made else { return Ok(gone) };
        let (key, handle, mounts) = (self.key(), self.handle.clone(), self.mounts.clone());
        let (folder, stood) = (PathBuf::from(split(&self.to).0), identity(&self.folder, at));
        let search = move |made: &Identity| {
            let lost = Lost {
                key: &key,
                made,
                handle: handle.as_deref(),
                folder: &folder,
                stood: stood.as_ref(),
                mounts: mounts.as_ref(),
            };
            lost.fate()
        };
        let fate = if at.host.is_local() {
            let task = tokio::task::spawn_blocking(move || search(&made)).await;
            task.map_err(|error| StepError::internal(format!("the search ended: {error}")))?
        } else {
            let (folder, stood) = (PathBuf::from(split(&self.to).0), identity(&self.folder, at));
            let (key, mounts) = (self.key(), self.mounts.as_ref());
            let lost =
                Lost { key: &key, made: &made, handle: None, folder: &folder, stood: stood.as_ref(), mounts };
            file::search::fate(&lost, async |exec| at.run(exec).await).await?
        };
        let look = |path: &Path| format!("ls -ld -- {}", shell_path(path));
        Ok(match (fate, gone) {
            (Fate::Deleted, gone) | (Fate::Unknown(_), gone @ Undone::Left(_)) => gone,
            (Fate::Unknown(why), _) => Undone::CannotTell(self.leftover(at, &why, look(Path::new(&self.to)))),
            (Fate::At(path), _) => {
                let held = match path.to_str() {
                    Some(path) => at.look(path).await?,
                    None => Found::Other,
                };
                // Of what another wrote there may be no other copy.
                let ours = matches!(held, Found::File { sha256, .. } if sha256 == self.sha256);
                let command = if ours { format!("rm -- {}", shell_path(&path)) } else { look(&path) };
                let why = format!("it was put there as `{}`, and was moved or has a second name", self.to);
                let mut left = self.leftover(at, &why, command);
                left.what = place(&path.to_string_lossy(), at);
                Undone::Left(left)
            }
        })
    }

    /// What only this attempt has.
    fn key(&self) -> String {
        format!("{} {}", self.beside, self.made.as_deref().unwrap_or_default())
    }

    /// The kernel tells what becomes of it while the run lives.
    pub(super) fn watch(&self, made: &str, at: At<'_>) {
        let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(&self.to);
        let Some((file, made)) = opened.ok().zip(identity(made, at)) else { return };
        if Identity::of_open(&file).is_ok_and(|now| now.is(&made)) {
            trace::watch(&self.key(), &file);
        }
    }

    /// What a person can type to take the file back, and which harms nothing that came after it.
    pub(crate) fn by_hand(&self) -> String {
        let (to, beside) = (shell_word(&self.to), shell_word(&self.beside));
        let clear = format!("rm -f -- {beside}");
        if self.made.is_none() {
            return clear;
        }
        let same = format!("[ \"$(sha256sum <{to})\" = '{}  -' ]", self.sha256);
        match (&self.before, &self.backup) {
            (Some(_), Some(backup)) => format!("{clear}; {same} && mv -f -- {} {to}", shell_word(backup)),
            _ => format!("{clear}; {same} && rm -f -- {to}"),
        }
    }

    pub(super) fn left(&self, at: At<'_>, word: &str) -> Leftover {
        let to = shell_word(&self.to);
        let kept = self.backup.as_deref().unwrap_or_default();
        let (old, other) = (shell_word(kept), shell_word(&format!("{}.other", self.to)));
        // Both stay: whoever types it may want either.
        let swap = format!("[ ! -e {other} ] && mv -- {to} {other} && mv -- {old} {to}");
        let keeps = self.before.is_some() && !kept.is_empty();
        let earlier = if keeps { format!("; the earlier file is `{kept}`") } else { String::new() };
        match word {
            "beside" => {
                let command = format!("rm -f -- {}", shell_word(&self.beside));
                let mut left = self.leftover(at, "it was on its way", command);
                left.what = place(&self.beside, at);
                left
            }
            "aside" => {
                let command = format!("[ -e {to} ] || mv -- {old} {to}");
                let mut left = self.leftover(at, "the earlier file was put aside and is not back", command);
                left.what = place(kept, at);
                left
            }
            "spare" => {
                let command = format!("[ {old} -ef {to} ] && rm -f -- {old}");
                let mut left = self.leftover(at, "it is a second name of the earlier file", command);
                left.what = place(kept, at);
                left
            }
            "lost" => {
                let why = format!(
                    "the earlier file, which was put aside as `{kept}`, is gone: it cannot come back"
                );
                self.leftover(at, &why, String::new())
            }
            "touched" => {
                let why = format!(
                    "the earlier file, which was put aside as `{kept}`, changed meanwhile: it stays there"
                );
                self.leftover(at, &why, swap)
            }
            "there" | "changed" => {
                let why = if word == "there" {
                    "it is still there"
                } else {
                    "it changed since this run put it there"
                };
                let look =
                    || if word == "there" { format!("rm -i -- {to}") } else { format!("ls -l -- {to}") };
                let command = if keeps { swap } else { look() };
                self.leftover(at, &format!("{why}{earlier}"), command)
            }
            _ => {
                let why = format!("another file stands there now, which this run did not make{earlier}");
                self.leftover(at, &why, if keeps { swap } else { String::new() })
            }
        }
    }

    pub(super) fn leftover(&self, at: At<'_>, why: &str, command: String) -> Leftover {
        Leftover { what: place(&self.to, at), why: why.to_owned(), remove_with: at.typed(&command) }
    }
}
