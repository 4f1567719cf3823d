//! `shakedown help`: of commands as `--help` shows it, and topics, which are the documentation itself.

use crate::{args::Cli, bundled, failure::Failure, out::Out};
use clap::{
    Args, Command, CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};
use engine::{
    diagnostic::did_you_mean,
    report::{Tone, escape, pad},
};

/// A page of the documentation that comes with the program.
struct Topic {
    name: &'static str,
    about: &'static str,
    text: &'static str,
}

const TOPICS: &[Topic] = &[
    Topic {
        name: "guide",
        about: "from nothing to a playbook of your own in ten minutes",
        text: include_str!("../../../docs/guide.md"),
    },
    Topic {
        name: "language",
        about: "every key, the expressions, the phases, undo, exit codes",
        text: include_str!("../../../docs/language.md"),
    },
    Topic {
        name: "recipes",
        about: "a web service, a migration, a restore, a cron job, a NAS",
        text: include_str!("../../../docs/recipes.md"),
    },
    Topic {
        name: "moving",
        about: "coming from Ansible, goss, Dagu or shell scripts",
        text: include_str!("../../../docs/moving.md"),
    },
    Topic {
        name: "troubleshooting",
        about: "what a message means and what to do about it",
        text: include_str!("../../../docs/troubleshooting.md"),
    },
    Topic {
        name: "guarantees",
        about: "what is promised whatever happens to a run, and what is not",
        text: include_str!("../../../docs/guarantees.md"),
    },
];

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown help                the commands and the topics
  shakedown help run            the same as: shakedown run --help
  shakedown help language | less")]
pub(crate) struct HelpArgs {
    /// A command such as `run` or `runs show`, or a topic
    words: Vec<String>,
}

pub(crate) fn run(args: &HelpArgs, out: &Out) -> Result<u8, Failure> {
    if let [word] = args.words.as_slice()
        && let Some(topic) = TOPICS.iter().find(|topic| topic.name == word)
    {
        out.print(topic.text)?;
        return Ok(0);
    }
    let mut root = Cli::command();
    root.build();
    let mut command = find(&root, &args.words)?.clone();
    let style = out.stdout_style();
    let help = command.render_long_help();
    out.print(&if style.color { help.ansi().to_string() } else { help.to_string() })?;
    if args.words.is_empty() {
        let widest = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or(0);
        let mut lines = vec![String::new(), style.paint(Tone::Strong, "Topics: shakedown help TOPIC")];
        lines.extend(TOPICS.iter().map(|topic| format!("  {}  {}", pad(topic.name, widest), topic.about)));
        out.print_lines(&lines)?;
    }
    Ok(0)
}

/// The command that the words name.
pub(crate) fn find<'c>(root: &'c Command, words: &[String]) -> Result<&'c Command, Failure> {
    let mut command = root;
    for word in words {
        command = command.find_subcommand(word).filter(|found| !found.is_hide_set()).ok_or_else(|| {
            let below = command.get_subcommands().filter(|below| !below.is_hide_set());
            let mut known: Vec<&str> = below.map(Command::get_name).collect();
            if words.len() == 1 {
                known.extend(TOPICS.iter().map(|topic| topic.name));
            }
            let hint = did_you_mean(word, known.iter().copied()).unwrap_or_else(|| match known.as_slice() {
                [] => format!("`{}` has no commands of its own", command.get_name()),
                known => format!("there are: {}", known.join(", ")),
            });
            Failure::invalid(format!("there is no command and no topic `{word}`")).hint(hint)
        })?;
    }
    Ok(command)
}

/// What else somebody may have meant who gave a playbook where a command belongs.
pub(crate) fn tip(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let playbook = bundled::find(given).is_some() || std::path::Path::new(given).is_file();
    playbook.then(|| format!("\nhint: shakedown run {}\n", escape(given)))
}
