//! `shakedown playbooks`.

use crate::{bundled, failure::Failure, out::Out, playbook};
use clap::{Args, Subcommand};
use engine::report::{Tone, pad};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown playbooks
  shakedown playbooks show quickstart")]
pub(crate) struct PlaybooksArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a bundled playbook
    #[command(after_help = "Example:
  shakedown playbooks show media-sync > media-sync.yaml")]
    Show {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(args: &PlaybooksArgs, out: &Out) -> Result<u8, Failure> {
    match &args.action {
        Some(Action::Show { name }) => {
            let found = bundled::find(name).ok_or_else(|| playbook::unknown(name))?;
            out.print(found.text)?;
        }
        None => {
            let style = out.stdout_style();
            let widest = bundled::ALL.iter().map(|bundled| bundled.name.len()).max().unwrap_or(0);
            for bundled in bundled::ALL {
                let name = style.paint(Tone::Strong, &pad(bundled.name, widest));
                out.print(&format!("{name}  {}\n", description(bundled.text)))?;
            }
        }
    }
    Ok(0)
}

/// The `description` of a playbook: told even of one that this program could not run.
fn description(text: &str) -> String {
    engine::playbook::yaml_value(text)
        .ok()
        .and_then(|value| Some(value.get("description")?.as_str()?.to_owned()))
        .unwrap_or_default()
}
