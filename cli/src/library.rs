//! The fragments that playbooks include: files beside them, and bundled ones.

use crate::{bundled, playbook::text_of};
use engine::{Source, diagnostic::did_you_mean, playbook::Library};
use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// What stands before the name of a bundled text.
const BUNDLED: &str = "bundled:";

/// Finds fragments on this machine; paths count from a folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    pub(crate) dir: &'a Path,
}

impl Library for Files<'_> {
    fn find(&self, name: &str, from: &Source) -> Result<Arc<Source>, (String, Option<String>)> {
        if let Some(name) = name.strip_prefix(BUNDLED) {
            return bundled_fragment(name);
        }
        if from.name.starts_with(BUNDLED) {
            let message = format!("a bundled text cannot include the file `{name}`");
            return Err((message, Some("include `bundled:NAME`".into())));
        }
        let path = plain(&Path::new(&from.name).parent().unwrap_or_else(|| Path::new("")).join(name));
        let shown = path.display().to_string();
        match self.dir.join(&path).metadata() {
            Ok(_) => {
                text_of(&shown, self.dir).map_err(|failure| (failure.message(), failure.own_hint().cloned()))
            }
            Err(error) => {
                let hint = match bundled::FRAGMENTS.iter().any(|fragment| fragment.name == name) {
                    true => format!("did you mean `{BUNDLED}{name}`?"),
                    false => "the path counts from the folder of the file that includes it".to_owned(),
                };
                Err((format!("cannot read `{shown}`: {error}"), Some(hint)))
            }
        }
    }
}

fn bundled_fragment(name: &str) -> Result<Arc<Source>, (String, Option<String>)> {
    let names = || bundled::FRAGMENTS.iter().map(|fragment| fragment.name);
    match bundled::FRAGMENTS.iter().find(|fragment| fragment.name == name) {
        Some(found) => {
            let name = format!("{BUNDLED}{}", found.name);
            Ok(Arc::new(Source { name, text: found.text.to_owned() }))
        }
        None => {
            let list = names().collect::<Vec<_>>().join(", ");
            let hint =
                did_you_mean(name, names()).unwrap_or_else(|| format!("the bundled fragments are: {list}"));
            Err((format!("there is no bundled fragment `{name}`"), Some(hint)))
        }
    }
}

/// A path without `.` and `NAME/..`: a file has one name, however one comes to it.
fn plain(path: &Path) -> PathBuf {
    let mut made = PathBuf::new();
    for component in path.components() {
        match (component, made.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                made.pop();
            }
            (other, _) => made.push(other),
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_in_one_way() {
        let cases = [
            ("a/./b.yaml", "a/b.yaml"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("/x/../../y", "/../y"),
            ("a/..", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(plain(Path::new(given)), Path::new(expected), "{given}");
        }
    }
}
