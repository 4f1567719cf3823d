//! What the server says of itself.

use super::{link::Link, value};
use engine::StepError;
use redis::Value as Reply;
use std::collections::BTreeMap;

/// A section of `INFO`, by name.
pub(super) async fn section(link: &mut Link<'_>, name: &str) -> Result<BTreeMap<String, String>, StepError> {
    let reply = link.ask(redis::cmd("INFO").arg(name)).await?;
    let text = match &reply {
        // Names of clients and the like need not be UTF-8.
        Reply::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => value::text(other).unwrap_or_default().to_owned(),
    };
    Ok(facts(&text))
}

/// The lines of `INFO` by their names.
pub(super) fn facts(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, found)| (name.to_owned(), found.trim_end().to_owned())).collect()
}
