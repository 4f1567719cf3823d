//! Word of changes: how a wait notices at once, rather than at its next look.

use crate::host::BoxFuture;

/// Gives word when what a read-only step looks at may have changed.
///
/// It may give false alarms and may miss some changes, for a wait also looks from time to time; what it is for is to be
/// early. What happens between two calls of [`Changes::next`] is not lost.
pub trait Changes: Send {
    /// Ends at the next word. Dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, ()>;
}
