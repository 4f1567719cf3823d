//! What people and machines read of plans and runs.

mod console;
mod plan_text;
mod sample;
mod template;
