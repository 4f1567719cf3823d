//! Words of a command line as playbooks write them.

use engine::{
    ErrorClass, StepError,
    host::{Host, Stdin, shell_word},
    secret::is_marked,
    step::Context,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap};

/// An argument or the value of a variable. Numbers and truth values stand for their text, as in `[sleep, 1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Word(pub(crate) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(truth) => Ok(Self(truth.to_string())),
            other => Err(D::Error::custom(format!("expected text or a number, found `{other}`"))),
        }
    }
}

impl JsonSchema for Word {
    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// The words as an argv.
///
/// # Errors
/// A word holds a secret: every user of the machine can read the argument lists of all processes.
pub(crate) fn argv(words: &[Word]) -> Result<Vec<String>, StepError> {
    if let Some(word) = words.iter().find(|word| is_marked(&word.0)) {
        let message =
            format!("`{}`: a secret cannot stand in an argument list, which everyone can read", word.0);
        return Err(StepError::new(ErrorClass::Invalid, message).hint("hand it over by `env` or `stdin`"));
    }
    Ok(words.iter().map(|word| word.0.clone()).collect())
}

/// The words as an environment, with their secrets put in.
///
/// # Errors
/// A secret was not found, or would have to travel to a host in a command line.
pub(crate) fn environment(
    cx: &Context,
    host: &dyn Host,
    words: &BTreeMap<String, Word>,
) -> Result<BTreeMap<String, String>, StepError> {
    let reveal = |(name, word): (&String, &Word)| {
        if is_marked(&word.0) && !host.is_local() {
            let message = format!(
                "`env.{name}`: ssh hands variables over in a command line, which everyone on `{}` can read",
                host.name()
            );
            return Err(StepError::new(ErrorClass::Invalid, message).hint("hand the secret over by `stdin`"));
        }
        Ok((name.clone(), cx.reveal(&word.0)?.expose().to_owned()))
    };
    words.iter().map(reveal).collect()
}

/// The text as a standard input, with its secrets put in.
///
/// # Errors
/// A secret was not found.
pub(crate) fn stdin(cx: &Context, text: Option<&str>) -> Result<Stdin, StepError> {
    let Some(text) = text else { return Ok(Stdin::Null) };
    Ok(Stdin::Bytes(cx.reveal(text)?.expose().as_bytes().to_vec()))
}

/// The last `count` lines of a text that are not blank.
pub(crate) fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

/// A title of at most 80 characters, on one line.
pub(crate) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 80 { line } else { line.chars().take(79).chain(['…']).collect() }
}

/// A word for `/bin/sh`, quoted only if it has to be.
pub(crate) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    shell_word(word)
}
