//! Fields of a hash or of an entry of a stream, in the order in which the playbook has them.

use crate::word::Word;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// At least one field with its value.
#[derive(Clone, Debug)]
pub(super) struct Fields(pub(super) Vec<(String, Word)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::<String, Value>::deserialize(deserializer)?;
        if map.is_empty() {
            return Err(D::Error::custom("`fields` is empty: expected at least one field"));
        }
        let fields = map.into_iter().map(|(name, value)| {
            let word = Word::deserialize(value)
                .map_err(|error| D::Error::custom(format!("field `{name}`: {error}")))?;
            Ok((name, word))
        });
        fields.collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for Fields {
    fn schema_name() -> Cow<'static, str> {
        "Fields".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": Word::json_schema(generator),
        })
    }
}
