//! `shakedown completions`.

use crate::{args::Cli, bundled, failure::Failure, out::Out};
use clap::{
    Args, Command, CommandFactory,
    builder::{PossibleValue, PossibleValuesParser},
};
use clap_complete::Shell;

/// How the completions of zsh call what completes a playbook.
const ZSH_PLAYBOOK: &str = "_shakedown_playbook";

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown completions bash > ~/.local/share/bash-completion/completions/shakedown
  shakedown completions zsh > ~/.zfunc/_shakedown          # with `fpath+=~/.zfunc` before `compinit`
  shakedown completions fish > ~/.config/fish/completions/shakedown.fish
  source <(shakedown completions bash)                     # for this shell only

They also know the bundled playbooks and the step types.")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, out: &Out) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut with_names(Cli::command()), "shakedown", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    out.print(&if args.shell == Shell::Zsh { with_files(&script) } else { script })?;
    Ok(0)
}

/// The command line with the names that this program knows, where it takes a playbook or a step type. Only for
/// completions: at work, a file will do as well, and messages of ours tell what exists.
fn with_names(command: Command) -> Command {
    let playbooks = || PossibleValuesParser::new(bundled::ALL.iter().map(|playbook| playbook.name));
    let kinds = || {
        let kinds = steps::builtin();
        PossibleValuesParser::new(
            kinds.iter().map(|kind| PossibleValue::new(kind.kind())).collect::<Vec<_>>(),
        )
    };
    command
        .mut_subcommand("run", |run| run.mut_arg("playbook", |arg| arg.value_parser(playbooks())))
        .mut_subcommand("plan", |plan| plan.mut_arg("playbook", |arg| arg.value_parser(playbooks())))
        .mut_subcommand("check", |check| check.mut_arg("playbooks", |arg| arg.value_parser(playbooks())))
        .mut_subcommand("new", |new| new.mut_arg("from", |arg| arg.value_parser(playbooks())))
        .mut_subcommand("steps", |steps| steps.mut_arg("kind", |arg| arg.value_parser(kinds())))
        .mut_subcommand("playbooks", |list| {
            list.mut_subcommand("show", |show| show.mut_arg("name", |arg| arg.value_parser(playbooks())))
        })
}

/// bash and fish offer files beside the words of a list; zsh has to be told to.
fn with_files(script: &str) -> String {
    let names: Vec<&str> = bundled::ALL.iter().map(|playbook| playbook.name).collect();
    let names = names.join(" ");
    let completer = format!(
        "{ZSH_PLAYBOOK}() {{\n    _alternative 'bundled:bundled playbook:({names})' 'files:file:_files -g \"*.(yaml|yml)\"'\n}}\n"
    );
    let mut done = String::new();
    for line in script.lines() {
        // What takes only a name is left as it is.
        let takes_files = line.contains(":playbook") && !line.contains("--from");
        let line = if takes_files {
            line.replace(&format!(":({names})"), &format!(":{ZSH_PLAYBOOK}"))
        } else {
            line.to_owned()
        };
        done.push_str(&line);
        done.push('\n');
        if line.starts_with("autoload ") {
            done.push_str(&format!("\n{completer}"));
        }
    }
    done
}
