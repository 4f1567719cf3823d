//! A row that its table does not hold any more: moved into another part or an heir of it, or gone with a part that left.

use super::{
    Condition, Found, Insert, Placed, Turned,
    find::{NEWER, alike},
};
use crate::postgres::{
    link::{Failure, Link},
    table::Table,
};
use serde_json::Value;

/// The uppermost tables of the trees that these belong to, as far as they exist. All rows of a tree are seen from there.
const TOPS: &str = "WITH RECURSIVE up (oid) AS (SELECT unnest(string_to_array($1::text, ',')::oid[]) \
    UNION SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.oid) \
    SELECT c.oid FROM up JOIN pg_class c USING (oid) \
    WHERE c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) ORDER BY c.oid";

impl Insert {
    /// What becomes of a row that is not in its table: only what the whole tree does not hold is gone.
    pub(super) async fn moved(
        &self,
        link: &Link<'_>,
        table: &Table,
        placed: &Placed,
    ) -> Result<Turned, Failure> {
        let mut seeds: Vec<String> = placed.family.iter().map(ToString::to_string).collect();
        seeds.extend([table.oid.to_string(), placed.at.table.clone()]);
        let tops = link.rows(TOPS, &[Value::from(seeds.join(","))]).await?;
        for oid in tops.iter().map(|row| row.get(0)) {
            let Some(mut top) = Table::numbered(link, oid).await? else { continue };
            top.key.clone_from(&table.key);
            let from = top.sql();
            let stored = Condition::by_place(&placed.at);
            if let Some(found) = self.fetch_from(link, &top, &from, placed, &stored).await? {
                let why =
                    format!("`{}`, which holds it, is no part of `{}` any more", found.part, table.label());
                return Ok(Turned::Changed(found, why));
            }
            if let Some(found) = self.newer(link, &top, &from, placed).await? {
                let why = format!(
                    "it is not where it was stored, and a newer row of `{}` may be it: nobody can tell whether it was moved",
                    found.part
                );
                return Ok(Turned::Unclear(why, Some(found)));
            }
        }
        Ok(Turned::Gone)
    }

    /// A row somewhere else in the tree that was written later and may be ours.
    async fn newer(
        &self,
        link: &Link<'_>,
        top: &Table,
        from: &str,
        placed: &Placed,
    ) -> Result<Option<Found>, Failure> {
        let elsewhere = || {
            let elsewhere = Condition::default().and("tableoid <> $?::oid", &placed.at.table);
            elsewhere.and(NEWER, &placed.at.xmin)
        };
        // A change that moves a row between parts leaves nothing of it for certain.
        if top.has_parts() || placed.stored.0.is_empty() {
            return self.fetch_from(link, top, from, placed, &elsewhere()).await;
        }
        let has_key = !top.key.is_empty() && top.key_columns().len() == top.key.len();
        let key = has_key.then(|| Condition::by_key(top, &placed.key));
        for like in key.into_iter().chain(alike(top, placed)) {
            let like = like.and("tableoid <> $?::oid", &placed.at.table).and(NEWER, &placed.at.xmin);
            if let Some(found) = self.fetch_from(link, top, from, placed, &like).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
