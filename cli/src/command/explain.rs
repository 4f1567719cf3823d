//! `shakedown explain`.

use crate::{failure::Failure, out::Out};
use clap::Args;
use engine::{
    diagnostic::{Code, did_you_mean},
    report::{Tone, pad},
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown explain
  shakedown explain may-be-skipped")]
pub(crate) struct ExplainArgs {
    /// The code of a diagnostic, as in `error[CODE]`; all are listed if none is given
    code: Option<String>,
}

pub(crate) fn run(args: &ExplainArgs, out: &Out) -> Result<u8, Failure> {
    let names = || Code::ALL.iter().map(|code| code.name());
    let Some(given) = &args.code else {
        let style = out.stdout_style();
        let widest = names().map(str::len).max().unwrap_or(0);
        let line = |code: &Code| {
            format!("{}  {}", style.paint(Tone::Strong, &pad(code.name(), widest)), code.title())
        };
        out.print_lines(&Code::ALL.iter().map(line).collect::<Vec<_>>())?;
        return Ok(0);
    };
    match Code::named(given) {
        Some(code) => {
            out.print(code.page())?;
            Ok(0)
        }
        None => {
            let near = did_you_mean(given, names()).map(|near| format!("{near} ")).unwrap_or_default();
            Err(Failure::invalid(format!("there is no code `{given}`"))
                .hint(format!("{near}all are listed by: shakedown explain")))
        }
    }
}
