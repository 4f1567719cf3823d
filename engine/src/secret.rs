//! Secrets: named in a playbook, found in the environment, a file or a systemd credential, and never written down.
//!
//! A value that holds a secret holds its mark, such as `⟪secret token⟫`: that is what plans, journals, logs and reports
//! see. Only a step that sends the value on asks for the secret itself, at the last moment.

use crate::{error::StepError, step::Leftover};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap, fmt};
use zeroize::Zeroizing;

const OPEN: &str = "⟪secret ";
const CLOSE: char = '⟫';
/// Nothing shorter is searched for in outputs, for too much would look like it; so no shorter secret is taken. Bytes.
pub const SHORTEST: usize = 4;

/// Where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// A variable of the environment.
    Env(String),
    /// A file of mode 0600 or 0400, owned by the user that runs it; without its last line feed.
    File(String),
    /// A credential of the systemd unit that runs it: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "variable `{name}`"),
            Self::File(path) => write!(f, "file `{path}`"),
            Self::Credential(name) => write!(f, "systemd credential `{name}`"),
        }
    }
}

/// A text with its secrets put in. It is wiped from memory when it is dropped, and can be neither printed nor
/// serialised.
pub struct Revealed(Zeroizing<String>);

impl Revealed {
    /// The text itself. What receives it must neither keep it nor show it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The mark that stands for a secret in values.
#[must_use]
pub fn mark(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// `secrets` as expressions see it: the mark of each.
#[must_use]
pub fn marks<'a>(names: impl IntoIterator<Item = &'a String>) -> Value {
    Value::Object(names.into_iter().map(|name| (name.clone(), mark(name).into())).collect())
}

/// Whether a text holds the mark of a secret.
#[must_use]
pub fn is_marked(text: &str) -> bool {
    text.split(OPEN).skip(1).any(|rest| rest.contains(CLOSE))
}

/// The secrets of a run, each found or not.
#[derive(Default)]
pub struct Secrets {
    found: BTreeMap<String, Result<Zeroizing<String>, StepError>>,
    /// What is searched for in outputs, the longest first: a secret as it is and as it is often written.
    forms: Vec<(Zeroizing<String>, String)>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.found.keys()).finish()
    }
}

impl Secrets {
    /// From what was found of each. One that was not found is an error only where it is needed.
    #[must_use]
    pub fn of(found: BTreeMap<String, Result<Zeroizing<String>, StepError>>) -> Self {
        let mut forms = Vec::new();
        for (name, secret) in &found {
            let Ok(secret) = secret else { continue };
            forms.extend(written_forms(secret).into_iter().map(|form| (form, mark(name))));
        }
        forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        Self { found, forms }
    }

    /// The names of those that were not found, with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &StepError)> {
        self.found.iter().filter_map(|(name, found)| Some((name.as_str(), found.as_ref().err()?)))
    }

    /// The text with secrets in place of their marks.
    ///
    /// # Errors
    /// A secret was not found.
    pub fn reveal(&self, text: &str) -> Result<Revealed, StepError> {
        let mut revealed = Zeroizing::new(String::with_capacity(text.len() + 256));
        let mut rest = text;
        while let Some(at) = rest.find(OPEN) {
            let after = &rest[at + OPEN.len()..];
            let Some(end) = after.find(CLOSE) else { break };
            revealed.push_str(&rest[..at]);
            match self.found.get(&after[..end]) {
                Some(Ok(secret)) => revealed.push_str(secret),
                Some(Err(error)) => return Err(error.clone()),
                None => revealed.push_str(&rest[at..at + OPEN.len() + end + CLOSE.len_utf8()]),
            }
            rest = &after[end + CLOSE.len_utf8()..];
        }
        revealed.push_str(rest);
        Ok(Revealed(revealed))
    }

    /// The text with marks in place of secrets, also of those written in base64, in hex or as part of a URL.
    #[must_use]
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = Cow::Borrowed(text);
        for (form, mark) in &self.forms {
            if memchr::memmem::find(masked.as_bytes(), form.as_bytes()).is_some() {
                masked = Cow::Owned(masked.replace(form.as_str(), mark));
            }
        }
        masked
    }

    /// Masks a text where it is.
    pub fn mask_text(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.mask(text) {
            *text = masked;
        }
    }

    /// Masks every text of a value, keys too.
    pub fn mask_value(&self, value: &mut Value) {
        if self.forms.is_empty() {
            return;
        }
        match value {
            Value::String(text) => self.mask_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(map) => {
                map.values_mut().for_each(|item| self.mask_value(item));
                if map.keys().any(|key| matches!(self.mask(key), Cow::Owned(_))) {
                    *map = std::mem::take(map)
                        .into_iter()
                        .map(|(key, item)| (self.mask(&key).into_owned(), item))
                        .collect();
                }
            }
            // A secret of digits alone may come back as a number.
            Value::Number(number) => {
                let text = number.to_string();
                if let Some((_, mark)) = self.forms.iter().find(|(form, _)| **form == text) {
                    *value = Value::String(mark.clone());
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Masks the texts of an error.
    pub fn mask_error(&self, error: &mut StepError) {
        self.mask_text(&mut error.message);
        error.hint.iter_mut().chain(&mut error.details).for_each(|text| self.mask_text(text));
    }

    /// Masks the texts of a leftover.
    pub fn mask_leftover(&self, left: &mut Leftover) {
        for text in [&mut left.what, &mut left.why, &mut left.remove_with] {
            self.mask_text(text);
        }
    }

    /// Masks bytes that need not be text.
    pub fn mask_bytes(&self, bytes: &mut Vec<u8>) {
        for (form, mark) in &self.forms {
            let form = form.as_bytes();
            let found: Vec<usize> = memchr::memmem::find_iter(bytes, form).collect();
            // From the end, so that what was found before stays where it is.
            for at in found.into_iter().rev() {
                bytes.splice(at..at + form.len(), mark.bytes());
            }
        }
    }

    /// The longest text that is searched for, in bytes; where output is cut, so much of it has to be looked at whole.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.forms.first().map_or(0, |(form, _)| form.len())
    }
}

/// A secret as it stands and as outputs write it: lines of its own, base64 at any of three offsets, hex, URL-encoded,
/// escaped in JSON.
fn written_forms(secret: &str) -> Vec<Zeroizing<String>> {
    let mut forms = vec![secret.to_owned()];
    forms.extend(secret.lines().map(str::to_owned));
    let bytes = secret.as_bytes();
    for skip in 0..3usize {
        for url in [false, true] {
            // In base64 of a longer text the secret begins at any of three offsets; the characters at both ends depend
            // on what stands beside it and are left out.
            let shifted: Vec<u8> = std::iter::repeat_n(0, skip).chain(bytes.iter().copied()).collect();
            let text = base64(&shifted, url);
            let whole = (shifted.len() * 8) / 6;
            let from = [0, 2, 3][skip];
            forms.extend(text.get(from..whole).map(str::to_owned));
        }
    }
    forms.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    forms.push(bytes.iter().map(|byte| format!("{byte:02X}")).collect());
    let encoded = |plus: bool, upper: bool| -> String {
        let one = |byte: &u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(*byte).to_string()
            }
            b' ' if plus => "+".to_owned(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        };
        bytes.iter().map(one).collect()
    };
    forms.extend([encoded(false, true), encoded(true, true), encoded(false, false), encoded(true, false)]);
    // As forms, paths and queries of addresses are written, which leave more as it stands.
    let kept = |plus: bool, keep: fn(u8) -> bool| -> String {
        let one = |byte: &u8| match byte {
            b' ' if plus => "+".to_owned(),
            byte if keep(*byte) => char::from(*byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        bytes.iter().map(one).collect()
    };
    forms.push(kept(true, |byte| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte)));
    forms.push(kept(false, |byte| byte.is_ascii_graphic() && !b"\"#<>?^`{}".contains(&byte)));
    forms.push(kept(false, |byte| byte.is_ascii_graphic() && !b"\"#<>'".contains(&byte)));
    let json = Value::String(secret.to_owned()).to_string();
    forms.extend(json.get(1..json.len() - 1).map(str::to_owned));
    forms.sort();
    forms.dedup();
    forms.into_iter().filter(|form| form.len() >= SHORTEST).map(Zeroizing::new).collect()
}

fn base64(bytes: &[u8], url: bool) -> String {
    use base64::{Engine as _, engine::general_purpose};
    match url {
        true => general_purpose::URL_SAFE_NO_PAD.encode(bytes),
        false => general_purpose::STANDARD_NO_PAD.encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::{Secrets, Zeroizing, base64, is_marked, mark};
    use serde_json::json;

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        let found =
            pairs.iter().map(|(name, secret)| ((*name).to_owned(), Ok(Zeroizing::new((*secret).to_owned()))));
        Secrets::of(found.collect())
    }

    #[test]
    fn a_mark_becomes_the_secret_and_the_secret_a_mark() {
        let secrets = secrets(&[("token", "s3cr&t 密码")]);
        let text = format!("Bearer {}!", mark("token"));
        assert!(is_marked(&text) && !is_marked("⟪secret"));
        let revealed = secrets.reveal(&text).expect("found");
        assert_eq!(revealed.expose(), "Bearer s3cr&t 密码!");
        assert_eq!(secrets.mask(revealed.expose()), text);
    }

    #[test]
    fn it_is_found_in_the_forms_that_outputs_use() {
        let secrets = secrets(&[("token", "canary/5€+ x")]);
        for before in ["", "a", "ab", "abc"] {
            for url in [false, true] {
                let encoded = base64(format!("{before}canary/5€+ x tail").as_bytes(), url);
                let masked = secrets.mask(&encoded).into_owned();
                assert!(masked.contains("⟪secret token⟫"), "{before} {encoded} {masked}");
            }
        }
        for form in ["canary%2F5%E2%82%AC%2B%20x", "canary%2f5%e2%82%ac%2b+x", "63616e6172792f35e282ac2b2078"]
        {
            assert_eq!(secrets.mask(form), mark("token"), "{form}");
        }
        let other =
            super::Secrets::of([("t".to_owned(), Ok(Zeroizing::new("a~b (it's) *é".to_owned())))].into());
        for form in ["a%7Eb+%28it%27s%29+*%C3%A9", "a~b%20(it's)%20*%C3%A9", "a~b%20(it%27s)%20*%C3%A9"] {
            assert_eq!(other.mask(form), mark("t"), "{form}");
        }
        let mut value = json!({ "canary/5€+ x": ["a canary/5€+ x b", 7] });
        secrets.mask_value(&mut value);
        assert_eq!(value, json!({ "⟪secret token⟫": ["a ⟪secret token⟫ b", 7] }));
    }
}
