//! The subcommands, one file each.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod explain;
pub(crate) mod help;
pub(crate) mod man;
pub(crate) mod new;
pub(crate) mod plan;
pub(crate) mod playbooks;
pub(crate) mod recover;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod steps;
