//! `shakedown man`.

use crate::{args::Cli, failure::Failure, out::Out};
use clap::{Args, Command, CommandFactory, builder::Resettable};
use clap_mangen::{Man, roff::Roff};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown man | man -l -
  shakedown man run | man -l -
  shakedown man --dir ~/.local/share/man/man1      # then: man shakedown-run")]
pub(crate) struct ManArgs {
    /// The command to print the page of; all of the program if not given
    command: Vec<String>,
    /// Write a page for each command to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs, out: &Out) -> Result<u8, Failure> {
    let mut root = Cli::command();
    root.build();
    let cannot = |error| Failure::environment(format!("cannot write the page: {error}"));
    match &args.dir {
        Some(dir) => write(&root, dir, out)?,
        None => {
            let command = super::help::find(&root, &args.command)?;
            out.print(&page(command).map_err(cannot)?)?;
        }
    }
    Ok(0)
}

fn write(root: &Command, dir: &Path, out: &Out) -> Result<(), Failure> {
    let cannot =
        |path: &Path, error| Failure::environment(format!("cannot write `{}`: {error}", path.display()));
    std::fs::create_dir_all(dir).map_err(|error| cannot(dir, error))?;
    let mut open = vec![root];
    while let Some(command) = open.pop() {
        let path = dir.join(format!("{}.1", name(command)));
        page(command).and_then(|text| std::fs::write(&path, text)).map_err(|error| cannot(&path, error))?;
        if !out.quiet {
            out.tell(&format!("wrote {}\n", path.display()));
        }
        open.extend(command.get_subcommands().filter(|below| !below.is_hide_set()));
    }
    Ok(())
}

/// `shakedown-runs-show`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// A page, with the examples in lines of their own as `--help` has them.
fn page(command: &Command) -> std::io::Result<String> {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone().after_help(Resettable::Reset)).manual("Shakedown");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut text = String::from_utf8_lossy(&page).into_owned();
    text.push_str(&more(&examples));
    Ok(text)
}

/// What follows the help as sections: `Examples:` and lines that are not indented begin one.
fn more(text: &str) -> String {
    let mut roff = Roff::new();
    let mut verbatim = false;
    for line in text.lines() {
        match line.strip_suffix(':').filter(|title| !title.starts_with(' ') && title.split(' ').count() == 1)
        {
            Some(title) => {
                close(&mut roff, &mut verbatim);
                roff.control("SH", [title.to_uppercase().as_str()]);
            }
            None if line.starts_with(' ') => {
                if !verbatim {
                    roff.control("nf", []);
                }
                verbatim = true;
                roff.text([line.into()]);
            }
            None => {
                close(&mut roff, &mut verbatim);
                if line.is_empty() {
                    roff.control("PP", []);
                } else {
                    roff.text([line.into()]);
                }
            }
        }
    }
    close(&mut roff, &mut verbatim);
    roff.to_roff()
}

fn close(roff: &mut Roff, verbatim: &mut bool) {
    if std::mem::take(verbatim) {
        roff.control("fi", []);
    }
}
