//! A row, a document or an entry as a store holds it.

use serde::{Deserialize, Serialize};

/// One value as it is stored. The journal holds a digest of its bytes, not the bytes: it needs them only to compare, and they
/// may be large, or hold a secret that would be masked there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The column or field.
    pub name: String,
    /// The type under which the store holds it, in the store's own word: `text`, `blob`, `int8`.
    pub kind: String,
    /// A digest of its exact bytes.
    digest: String,
}

impl Cell {
    /// A value of that name, type and bytes.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: impl Into<String>, bytes: &[u8]) -> Self {
        let digest = crate::hex::hex(&blake3::hash(bytes).as_bytes()[..16]);
        Self { name: name.into(), kind: kind.into(), digest }
    }

    /// Whether both hold the same bytes under the same type.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.digest == other.digest
    }
}

/// All values of a row, in the order of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Row(pub Vec<Cell>);

impl Row {
    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Cell> {
        self.0.iter().find(|cell| cell.name == name)
    }

    /// How `now` differs from this row, in words, a difference each; of the columns that count, for others belong to the
    /// program under test. Nothing if it does not.
    #[must_use]
    pub fn differences(&self, now: &Self, counts: impl Fn(&str) -> bool) -> Vec<String> {
        let cells = self.0.iter().filter(|cell| counts(&cell.name));
        cells
            .filter_map(|cell| match now.get(&cell.name) {
                None => Some(format!("`{}` is not there any more", cell.name)),
                Some(other) if cell.kind != other.kind => {
                    Some(format!("`{}` was {} and is {} now", cell.name, cell.kind, other.kind))
                }
                Some(other) if !cell.is(other) => Some(format!("`{}` has another value", cell.name)),
                Some(_) => None,
            })
            .collect()
    }
}

impl FromIterator<Cell> for Row {
    fn from_iter<I: IntoIterator<Item = Cell>>(cells: I) -> Self {
        Self(cells.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Row};

    fn row(cells: &[(&str, &str, &[u8])]) -> Row {
        cells.iter().map(|(name, kind, bytes)| Cell::new(*name, *kind, bytes)).collect()
    }

    #[test]
    fn only_the_same_bytes_under_the_same_type_are_the_same() {
        let stored = row(&[("name", "text", b"a"), ("size", "integer", b"1"), ("state", "text", b"new")]);
        let all = |now: &Row| stored.differences(now, |_| true);
        assert_eq!(all(&stored), Vec::<String>::new());
        let case = row(&[("name", "text", b"A"), ("size", "integer", b"1"), ("state", "text", b"new")]);
        assert_eq!(all(&case), ["`name` has another value"]);
        let other_type = row(&[("name", "blob", b"a"), ("size", "real", b"1"), ("state", "text", b"new")]);
        assert_eq!(
            all(&other_type),
            ["`name` was text and is blob now", "`size` was integer and is real now"]
        );
        let renamed = row(&[("title", "text", b"a"), ("size", "integer", b"1"), ("state", "text", b"old")]);
        assert_eq!(all(&renamed), ["`name` is not there any more", "`state` has another value"]);
        assert_eq!(stored.differences(&renamed, |name| name == "size"), Vec::<String>::new());
    }

    #[test]
    fn it_is_the_same_after_the_journal_and_shows_nothing_of_its_values() {
        let stored = row(&[("name", "text", "密码 s3cret".as_bytes())]);
        let text = serde_json::to_string(&stored).expect("JSON");
        assert!(!text.contains("s3cret") && !text.contains("密码"), "{text}");
        assert_eq!(serde_json::from_str::<Row>(&text).expect("reads"), stored);
    }
}
