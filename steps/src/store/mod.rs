//! What all stores share: what was stored, to the byte, and what became of it.
//!
//! A store reads back what it has just written, while nobody else can see it, and puts that into the intent
//! ([`Context::amend`](engine::step::Context::amend)). Whoever settles, undoes or looks later finds the thing by the
//! key that the store gave, and compares it with [`Row::differences`]: types and bytes, never a collation's or a type's
//! idea of equal.

mod fate;
mod row;

pub use fate::{Fate, Thing};
pub use row::{Cell, Row};
