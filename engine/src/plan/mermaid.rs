//! A plan as a drawing for Mermaid, which Markdown pages show.

use super::{
    Plan,
    graph_lines::{Link, Look, label, links, phases},
};
use crate::report::escape;
use std::fmt::Write as _;

/// The plan as a Mermaid flowchart: a subgraph for each phase, a node for each step; solid lines for `needs`, dotted
/// ones for what is read, thick ones from phase to phase.
#[must_use]
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to text cannot fail.
    let _infallible = write_mermaid(plan, &mut text);
    text
}

fn write_mermaid(plan: &Plan, text: &mut String) -> std::fmt::Result {
    let title = serde_json::Value::from(&*escape(&plan.playbook));
    writeln!(text, "---\ntitle: {title}\n---\nflowchart LR")?;
    let phases = phases(plan);
    for (phase, steps) in &phases {
        writeln!(text, "  subgraph {phase}[\"{phase}\"]")?;
        for id in steps {
            let step = plan.step(*id);
            let label = label(step).iter().map(|line| inside(line)).collect::<Vec<_>>().join("<br/>");
            let (open, close) = match Look::of(step) {
                Look::Reads => ("([", "])"),
                Look::Waits => ("{{", "}}"),
                Look::Effect | Look::NoUndo | Look::Cleanup | Look::Skipped => ("[", "]"),
            };
            writeln!(text, "    s{}{open}\"{label}\"{close}", id.0)?;
        }
        writeln!(text, "  end")?;
    }
    for (from, to, link) in links(plan) {
        let arrow = match link {
            Link::Needs => "-->",
            Link::Reads => "-.->",
        };
        writeln!(text, "  s{} {arrow} s{}", from.0, to.0)?;
    }
    for pair in phases.windows(2) {
        if let [(before, _), (after, _)] = pair {
            writeln!(text, "  {before} ==> {after}")?;
        }
    }
    for look in Look::ALL {
        let of_look: Vec<String> = (plan.steps.iter().enumerate())
            .filter(|(_, step)| Look::of(step) == look)
            .map(|(i, _)| format!("s{i}"))
            .collect();
        if let (Some((class, style)), false) = (class(look), of_look.is_empty()) {
            writeln!(text, "  classDef {class} {style}")?;
            writeln!(text, "  class {} {class}", of_look.join(","))?;
        }
    }
    Ok(())
}

fn class(look: Look) -> Option<(&'static str, &'static str)> {
    match look {
        Look::Reads | Look::Waits => None,
        Look::Effect => Some(("effect", "fill:#fff3c4,stroke:#b08800,color:#000")),
        Look::NoUndo => Some(("noUndo", "fill:#fff3c4,stroke:#d00,stroke-width:3px,color:#000")),
        Look::Cleanup => Some(("cleanup", "fill:#e0f7fa,stroke:#00838f,color:#000")),
        Look::Skipped => Some(("skipped", "fill:#eee,stroke:#999,color:#777,stroke-dasharray:3")),
    }
}

/// Text inside of quotes: what has a meaning there, or in HTML, or begins a comment, stands as its number.
fn inside(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '`' | '%' | '\\' => {
                // Writing to text cannot fail.
                let _infallible = write!(made, "#{};", u32::from(c));
            }
            c => made.push(c),
        }
    }
    made
}
