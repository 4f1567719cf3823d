//! `shakedown new`.

use crate::{bundled, failure::Failure, out::Out, playbook};
use clap::Args;
use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// What a new playbook begins with.
const STARTER: &str = include_str!("../../templates/starter.yaml");

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown new my-check.yaml
  shakedown new my-sync.yaml --from media-sync")]
pub(crate) struct NewArgs {
    /// The file to write; it must not exist
    file: PathBuf,
    /// Begin with a copy of a bundled playbook
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
}

pub(crate) fn run(args: &NewArgs, out: &Out) -> Result<u8, Failure> {
    let text = match &args.from {
        Some(name) => {
            let found = bundled::find(name).ok_or_else(|| playbook::unknown(name))?;
            found.text.to_owned()
        }
        None => STARTER.replace("NAME", &name_of(&args.file)),
    };
    let shown = args.file.display();
    let mut file = OpenOptions::new().write(true).create_new(true).open(&args.file).map_err(|error| {
        match error.kind() {
            ErrorKind::AlreadyExists => Failure::invalid(format!("`{shown}` exists already"))
                .hint("choose another name; nothing was changed"),
            _ => Failure::invalid(format!("cannot write `{shown}`: {error}")),
        }
    })?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::environment(format!("cannot write `{shown}`: {error}")))?;
    if !out.quiet {
        out.tell(&format!("wrote {shown}; next: shakedown plan {shown}\n"));
    }
    Ok(0)
}

/// A name for the playbook: that of its file, as far as a name may hold it.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_owned();
    if name.is_empty() { "my-check".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::name_of;
    use std::path::Path;

    #[test]
    fn a_playbook_is_named_after_its_file() {
        for (file, name) in [
            ("a/My Check.yaml", "my-check"),
            ("01-x.yaml", "x"),
            ("媒体.yaml", "my-check"),
            ("nas_copy.yml", "nas_copy"),
        ] {
            assert_eq!(name_of(Path::new(file)), name, "{file}");
        }
    }
}
