//! From the bytes of a file to a text.

use super::{Code, Diagnostic, Diagnostics, Source, Span};
use crate::playbook::MAX_BYTES;
use std::sync::Arc;

/// How much of a file that is too large is kept, to be shown.
const KEPT: usize = 200;

/// The text of a file named `name`.
///
/// # Errors
/// It is larger than a playbook may be, or no UTF-8: one diagnostic with the place.
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<Arc<Source>, Diagnostics> {
    let wrong = |text: String, diagnostic: Diagnostic| {
        let mut found = Diagnostics::new(Arc::new(Source { name: name.to_owned(), text }));
        found.push(diagnostic);
        found
    };
    if bytes.len() > MAX_BYTES {
        let text = String::from_utf8_lossy(&bytes[..KEPT]).into_owned();
        return Err(wrong(text, crate::playbook::too_large()));
    }
    if let Some(text) = utf_16(&bytes) {
        let message = "this is UTF-16 text, and a playbook is UTF-8";
        let end = text.find('\n').unwrap_or(text.len());
        let diagnostic = Diagnostic::error(Code::Encoding, message, Span::new(0, end));
        return Err(wrong(text, diagnostic.hint("convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Arc::new(Source { name: name.to_owned(), text })),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let message = format!(
                "byte {} is {:#04x}, and that is no UTF-8 here",
                at + 1,
                bytes.get(at).copied().unwrap_or(0)
            );
            let diagnostic =
                Diagnostic::error(Code::Encoding, message, Span::new(at, at + '\u{fffd}'.len_utf8()));
            let hint = "if the file is Latin-1, convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW_FILE";
            Err(wrong(String::from_utf8_lossy(&bytes).into_owned(), diagnostic.hint(hint)))
        }
    }
}

/// What a file says that is UTF-16, by its byte order mark or by the zero in its first letter.
fn utf_16(bytes: &[u8]) -> Option<String> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        [0, low, ..] if *low != 0 => u16::from_be_bytes,
        [low, 0, ..] if *low != 0 => u16::from_le_bytes,
        _ => return None,
    };
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    Some(String::from_utf16_lossy(&units).trim_start_matches('\u{feff}').to_owned())
}
