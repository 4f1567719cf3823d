//! What people and machines read of plans and runs.

mod console;
mod plan_graphs;
mod plan_text;
mod plan_totals;
mod sample;
mod template;
