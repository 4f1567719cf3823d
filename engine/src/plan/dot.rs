//! A plan as a drawing for Graphviz.

use super::{
    Plan,
    graph_lines::{Link, Look, label, links, phases},
};
use crate::report::escape;
use std::fmt::Write as _;

/// The plan in the DOT language: a cluster for each phase, a node for each step; solid lines for `needs`, dashed ones
/// for what is read, bold ones from phase to phase.
#[must_use]
pub fn dot(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to text cannot fail.
    let _infallible = write_dot(plan, &mut text);
    text
}

fn write_dot(plan: &Plan, text: &mut String) -> std::fmt::Result {
    let title = quoted(&escape(&plan.playbook));
    writeln!(text, "digraph {title} {{")?;
    writeln!(text, "  label={title}; labelloc=t; rankdir=LR; compound=true;")?;
    writeln!(text, "  node [shape=box, fontname=\"sans-serif\", fontsize=11];")?;
    writeln!(text, "  edge [fontname=\"sans-serif\", fontsize=9];")?;
    let phases = phases(plan);
    for (phase, steps) in &phases {
        writeln!(text, "  subgraph \"cluster_{phase}\" {{")?;
        writeln!(text, "    label=\"{phase}\"; style=rounded; color=gray;")?;
        for id in steps {
            let step = plan.step(*id);
            let label = label(step).iter().map(|line| inside(line)).collect::<Vec<_>>().join("\\n");
            writeln!(text, "    s{} [label=\"{label}\", {}];", id.0, attributes(Look::of(step)))?;
        }
        writeln!(text, "  }}")?;
    }
    for (from, to, link) in links(plan) {
        let style = match link {
            Link::Needs => "style=solid",
            Link::Reads => "style=dashed, color=steelblue",
        };
        writeln!(text, "  s{} -> s{} [{style}];", from.0, to.0)?;
    }
    for pair in phases.windows(2) {
        let [(before, from), (after, to)] = pair else { continue };
        let (Some(from), Some(to)) = (from.first(), to.first()) else { continue };
        writeln!(
            text,
            "  s{} -> s{} [ltail=\"cluster_{before}\", lhead=\"cluster_{after}\", style=bold, color=gray];",
            from.0, to.0
        )?;
    }
    writeln!(text, "}}")
}

fn attributes(look: Look) -> &'static str {
    match look {
        Look::Reads => "shape=ellipse, color=gray40",
        Look::Waits => "shape=hexagon, color=gray40",
        Look::Effect => "style=filled, fillcolor=lightgoldenrod1",
        Look::NoUndo => "style=filled, fillcolor=lightgoldenrod1, color=red, penwidth=2",
        Look::Cleanup => "style=filled, fillcolor=lightcyan",
        Look::Skipped => "style=dotted, color=gray, fontcolor=gray",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", inside(text))
}

/// Text inside of quotes: DOT knows `\"`, and labels give `\N` and the like a meaning.
fn inside(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
