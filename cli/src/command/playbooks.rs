//! `shakedown playbooks`.

use crate::{
    bundled,
    failure::Failure,
    out::Out,
    playbook,
    wrap::{beside, columns},
};
use clap::{Args, Subcommand};
use engine::report::{Tone, pad};
use serde_json::Value;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown playbooks
  shakedown playbooks show quickstart
  shakedown playbooks show bundled:daemon     # a fragment, for `include: bundled:daemon`")]
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
            let fragment = |name: &str| bundled::FRAGMENTS.iter().find(|fragment| fragment.name == name);
            let found = match name.strip_prefix("bundled:") {
                Some(name) => fragment(name).or_else(|| bundled::find(name)),
                None => bundled::find(name).or_else(|| fragment(name)),
            };
            out.print(found.ok_or_else(|| playbook::unknown(name))?.text)?;
        }
        None => {
            let style = out.stdout_style();
            let fragments = bundled::FRAGMENTS.iter().map(|of| (format!("bundled:{}", of.name), of.text));
            let playbooks = bundled::ALL.iter().map(|of| (of.name.to_owned(), of.text));
            let both =
                [("", playbooks.collect::<Vec<_>>()), ("\nFragments, to include:\n", fragments.collect())];
            let widest = both.iter().flat_map(|(_, all)| all).map(|(name, _)| name.len()).max().unwrap_or(0);
            for (title, all) in both {
                out.print(title)?;
                for (name, text) in all {
                    let name = style.paint(Tone::Strong, &pad(&name, widest));
                    let about = About::of(text);
                    let mut lines = vec![format!("{name}  {}", about.description)];
                    if !about.params.is_empty() {
                        let first = format!("{:widest$}  params: ", "");
                        let params = beside(&first, &about.params, columns());
                        lines.extend(params.iter().map(|line| style.paint(Tone::Faint, line)));
                    }
                    out.print_lines(&lines)?;
                }
            }
            if !out.quiet {
                out.tell("one of them, to read or to copy: shakedown playbooks show NAME\n");
            }
        }
    }
    Ok(0)
}

/// What a list tells of a playbook, also of one that this program could not run.
struct About {
    description: String,
    /// `size=256KiB, dir=/tmp`; a param without a default must be given.
    params: String,
}

impl About {
    fn of(text: &str) -> Self {
        let value = engine::playbook::yaml_value(text).unwrap_or_default();
        let params = value.get("params").and_then(Value::as_object);
        let one = |(name, param): (&String, &Value)| match param.get("default") {
            Some(Value::String(text)) => format!("{name}={text}"),
            Some(other) => format!("{name}={other}"),
            None => format!("{name} (required)"),
        };
        let params: Vec<String> = params.into_iter().flatten().map(one).collect();
        Self {
            description: value.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
            params: params.join(", "),
        }
    }
}
