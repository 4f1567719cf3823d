//! Files that a playbook loads and that this machine does not have.

use engine::{
    diagnostic::{Code, Diagnostic, Diagnostics},
    local::near_names,
    playbook::Playbook,
};
use std::path::Path;

/// Warns of each, with the names in the same folder that are near. Relative paths are seen from `dir`.
pub(crate) fn warn(playbook: &Playbook, dir: &Path, found: &mut Diagnostics) {
    for file in &playbook.files {
        let path = dir.join(&file.path);
        if path.exists() {
            continue;
        }
        let message = format!("there is no file `{}` on this machine", file.path);
        let diagnostic = Diagnostic::warning(Code::NoSuchPath, message, file.span);
        found.push(diagnostic.hint(near_names(&path)));
    }
}
