//! The lines that move.

use engine::{
    event::Progress,
    quantity::{Bytes, Millis},
    report::{escape, shorten, width},
};
use indicatif::{ProgressState, ProgressStyle};
use std::fmt::Write;

/// The cells of a bar.
const CELLS: u64 = 20;
/// What stands in a line beside a step's name and what it sees: the spinner, gaps, the time.
const BESIDE: usize = 26;
/// Shorter than this, what a step sees tells nothing.
const LEAST: usize = 10;

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; if one were wrong the plain look would do.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// The line of a phase.
pub(super) fn header() -> ProgressStyle {
    style("  {prefix}  {msg}")
}

/// The line of a step that runs, up to `limit` if it mostly waits.
pub(super) fn running(limit: Option<Millis>) -> ProgressStyle {
    style("  {spinner} {prefix}  {msg}  {took}").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").with_key(
        "took",
        move |state: &ProgressState, out: &mut dyn Write| {
            // Whole seconds, or the line would flicker.
            let took = Millis(state.elapsed().as_secs() * 1_000);
            let _infallible = match (limit, took) {
                (Some(limit), took) => write!(out, "{} of {limit}", seconds(took)),
                (None, Millis(0)) => Ok(()),
                (None, took) => write!(out, "{took}"),
            };
        },
    )
}

fn seconds(took: Millis) -> String {
    if took.0 == 0 { "0 s".into() } else { took.to_string() }
}

/// What a step sees, short enough for a line of the terminal that also holds its name.
pub(super) fn fit(text: &str, name: &str) -> String {
    let terminal = console::Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns));
    shorten(text, terminal.saturating_sub(BESIDE + width(&escape(name))).max(LEAST))
}

/// What a step sees, in words, or a bar.
pub(super) fn progress(progress: &Progress) -> String {
    match progress {
        Progress::Sees(now) => escape(now).into_owned(),
        Progress::Bytes { done, total } => {
            let done = (*done).min(*total);
            let full = if *total == 0 {
                CELLS
            } else {
                u64::try_from(u128::from(done) * u128::from(CELLS) / u128::from(*total)).unwrap_or(CELLS)
            };
            let cells: String = (0..CELLS).map(|cell| if cell < full { '█' } else { '░' }).collect();
            format!("{cells} {} of {}", Bytes(done), Bytes(*total))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress, progress};

    #[test]
    fn a_bar_fills_and_never_overflows() {
        let bar = |done, total| progress(&Progress::Bytes { done, total });
        assert_eq!(bar(0, 100), "░░░░░░░░░░░░░░░░░░░░ 0 B of 100 B");
        assert_eq!(bar(512, 1024), "██████████░░░░░░░░░░ 512 B of 1 KiB");
        assert_eq!(bar(2_000, 1_000), "████████████████████ 1000 B of 1000 B");
        assert_eq!(bar(0, 0), "████████████████████ 0 B of 0 B");
        assert!(bar(u64::MAX, u64::MAX).starts_with("████████████████████"));
    }

    #[test]
    fn what_a_step_sees_is_escaped() {
        assert_eq!(progress(&Progress::Sees("a\u{1b}[2J\n".into())), "a\\u{1b}[2J\\n");
    }
}
