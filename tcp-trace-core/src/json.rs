//! JSON that disturbs no terminal: what [`crate::process::printable`] escapes for people is escaped here as JSON has it
//! (RFC 8259, 7). For a program it is the same text.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

use crate::process::is_unsafe;

/// Writes a value without any white space.
///
/// # Errors
///
/// If it cannot be written, or does not serialise.
pub fn to_writer(out: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Harmless))
}

/// Compact, as the trait is by itself.
#[derive(Clone, Copy, Debug)]
struct Harmless;

impl Formatter for Harmless {
    /// `fragment` has nothing in it that JSON itself wants escaped: neither quotation marks nor what is below U+0020.
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        // Nearly every text is of this kind, and is not looked at twice.
        let is_plain = fragment.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        while let Some(c) = rest.chars().find(|c| !is_plain && is_unsafe(*c)) {
            let (before, after) = rest.split_once(c).unwrap_or((rest, ""));
            out.write_all(before.as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = after;
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: &impl Serialize) -> String {
        let mut bytes = Vec::new();
        to_writer(&mut bytes, value).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_disturbs_a_terminal_is_escaped() {
        let text = "a\"\\\u{1b}[31m\u{7f}\u{9b}ä\u{202e}b\u{e0041}\u{1f600}";
        assert_eq!(written(&text), r#""a\"\\\u001b[31m\u007f\u009bä\u202eb\udb40\udc41😀""#);
    }

    proptest! {
        #[test]
        fn it_is_the_same_text(texts in proptest::collection::vec(any::<String>(), 0..4)) {
            let json = written(&texts);
            prop_assert!(!json.chars().any(is_unsafe), "{:?}", json);
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), texts);
        }
    }
}
