//! JSON as Go and as Jackson read and write it.

use std::{borrow::Cow, fmt};

use serde_core::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::Reason;

/// The members of an object in the order in which they stand, duplicates included.
pub(super) struct Members(Vec<(String, Value)>);

impl Members {
    /// Reads what Go reads: to the end, with what is no UTF-8 replaced.
    pub(super) fn of_go(value: &[u8]) -> Result<Self, Reason> {
        if value.is_empty() {
            return Err(Reason::new("it is empty"));
        }
        let text = String::from_utf8_lossy(value);
        serde_json::from_str(&without_halves(&text)).map_err(wrong)
    }

    /// Reads what Jackson reads: behind a byte order mark, and whatever follows the object.
    pub(super) fn of_jackson(value: &[u8]) -> Result<Self, Reason> {
        let text = std::str::from_utf8(value).map_err(|_| Reason::new("it is no UTF-8"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.is_empty() {
            return Err(Reason::new("it is empty"));
        }
        let text = without_halves(text);
        let mut json = serde_json::Deserializer::from_str(&text);
        Self::deserialize(&mut json).map_err(wrong)
    }

    /// The members of a value that is an object, each once.
    pub(super) fn of_value(value: &Value) -> Option<Self> {
        let members = value.as_object()?.iter().map(|(name, value)| (name.clone(), value.clone()));
        Some(Self(members.collect()))
    }

    /// The member that Go takes: the last one of this name, whatever its case. Null changes nothing.
    pub(super) fn of_any_case(&self, name: &str) -> Option<&Value> {
        let is_it = |(key, value): &&(String, Value)| !value.is_null() && is_alike(key, name);
        self.0.iter().rfind(is_it).map(|(_, value)| value)
    }

    /// The member that Jackson takes: the last one of exactly this name. None for null.
    pub(super) fn of_name(&self, name: &str) -> Option<&Value> {
        self.0.iter().rfind(|(key, _)| key == name).map(|(_, value)| value).filter(|value| !value.is_null())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// Text, or a number or a truth as text; none for null, lists and objects.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Any value as text: text as it is, all else as JSON.
pub(super) fn any_text(value: &Value) -> String {
    text(value).unwrap_or_else(|| Style::Plain.value(value))
}

/// A whole number, 0 or more, as such or in digits.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            let whole = |number: f64| {
                (number.fract() == 0.0 && (0.0..=9e15).contains(&number)).then_some(number as u64)
            };
            number.as_u64().or_else(|| number.as_f64().and_then(whole))
        }
        Value::String(text) => {
            let digits = text.strip_prefix('+').unwrap_or(text);
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse().ok().filter(|_| is_number)
        }
        _ => None,
    }
}

/// How a system writes JSON: without spaces, members sorted, and
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    /// nothing else.
    Plain,
    /// as Go does, which escapes `<`, `>`, `&`, U+2028 and U+2029.
    Go,
    /// as Jackson does, which writes escapes in upper case.
    Jackson,
}

impl Style {
    /// A value.
    pub(super) fn value(self, value: &Value) -> String {
        let mut out = String::new();
        self.write(&mut out, value);
        out
    }

    /// A text in quotes.
    pub(super) fn quoted(self, text: &str) -> String {
        let mut out = String::new();
        self.write_text(&mut out, text);
        out
    }

    /// An object of these members, in this order.
    pub(super) fn object<'a>(self, members: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
        let mut out = String::new();
        self.write_object(&mut out, members);
        out
    }

    /// An object of texts, in this order.
    pub(super) fn texts<'a>(self, members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let members =
            members.into_iter().map(|(key, text)| format!("{}:{}", self.quoted(key), self.quoted(text)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    fn write(self, out: &mut String, value: &Value) {
        match value {
            Value::String(text) => self.write_text(out, text),
            Value::Array(values) => {
                out.push('[');
                for (i, value) in values.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    self.write(out, value);
                }
                out.push(']');
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().map(|(key, value)| (key.as_str(), value)).collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                self.write_object(out, members);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        }
    }

    fn write_object<'a>(self, out: &mut String, members: impl IntoIterator<Item = (&'a str, &'a Value)>) {
        out.push('{');
        for (i, (key, value)) in members.into_iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            self.write_text(out, key);
            out.push(':');
            self.write(out, value);
        }
        out.push('}');
    }

    fn write_text(self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' && self == Self::Jackson => out.push_str(&format!("\\u{:04X}", u32::from(c))),
                c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if self == Self::Go => {
                    out.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Whether Go takes a member's name for that of a field: it folds ASCII, and the two others that fold to ASCII.
fn is_alike(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

/// Escapes of half a character, which Go and Java take and Rust's strings cannot hold, become U+FFFD.
fn without_halves(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    let mut done = 0;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let used = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                let start = text.len() - escape.len();
                out.push_str(&text[done..start]);
                out.push_str("\\ufffd");
                done = start + 6;
                6
            }
            // The escape's letter is skipped with it, such as a second `\`.
            _ => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        rest = &escape[used..];
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The number in `\uXXXX`.
fn unit(escape: &str) -> Option<u32> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

fn wrong(error: serde_json::Error) -> Reason {
    Reason::new(format!("it is not of the form of its layout: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn go_takes_names_of_any_case_the_last_and_no_null() {
        let members = Members::of_go(br#"{"addr":"1","ADDR":"2","Addr":null,"\u017fecret":3}"#).unwrap();
        assert_eq!(members.of_any_case("Addr"), Some(&json!("2")));
        assert_eq!(members.of_any_case("secret"), Some(&json!(3)));
        assert_eq!(members.of_any_case("op"), None);
        for text in ["", "null", "[]", "{} x", "\u{feff}{}", "{\"a\":1,}", "{\"a"] {
            assert!(Members::of_go(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Members::of_go(b"{\"a\":\"\xff\"}").is_ok());
    }

    #[test]
    fn jackson_takes_what_is_before_and_behind() {
        let members =
            Members::of_jackson("\u{feff} {\"port\":1,\"Port\":2,\"port\":3} {".as_bytes()).unwrap();
        assert_eq!(members.of_name("port"), Some(&json!(3)));
        assert_eq!(members.of_name("PORT"), None);
        assert!(Members::of_jackson(b"null").is_err() && Members::of_jackson(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{{\"a\":{}}}", "[".repeat(100_000));
        assert!(Members::of_go(deep.as_bytes()).is_err() && Members::of_jackson(deep.as_bytes()).is_err());
    }

    #[test]
    fn halves_of_characters_are_replaced() {
        let members = Members::of_go(br#"{"a":"\ud83d\ude00 \ud83d \\ud83d \udc00"}"#).unwrap();
        assert_eq!(members.of_name("a"), Some(&json!("\u{1f600} \u{fffd} \\ud83d \u{fffd}")));
        assert!(matches!(without_halves("{\"a\":\"\\n\"}"), Cow::Borrowed(_)));
        for text in ["\\", "\\u", "\\ud800", "\\ud800\\", "\\ud800\\u", "x\\ué"] {
            without_halves(text);
        }
    }

    #[test]
    fn texts_are_escaped_in_each_style() {
        let text = "<&>\u{2028}é\u{1f}\u{7f}\"\\\n";
        assert_eq!(Style::Go.quoted(text), "\"\\u003c\\u0026\\u003e\\u2028é\\u001f\u{7f}\\\"\\\\\\n\"");
        assert_eq!(Style::Jackson.quoted(text), "\"<&>\u{2028}é\\u001F\u{7f}\\\"\\\\\\n\"");
        for style in [Style::Plain, Style::Go, Style::Jackson] {
            let value = json!({"b": [text, null, 1.5, true], "a": {text: {}}});
            assert_eq!(serde_json::from_str::<Value>(&style.value(&value)).unwrap(), value);
        }
    }

    #[test]
    fn numbers_are_read_as_text_too() {
        for (value, expected) in [
            (json!(10), Some(10)),
            (json!("10"), Some(10)),
            (json!("+10"), Some(10)),
            (json!(10.0), Some(10)),
            (json!(0), Some(0)),
            (json!(-1), None),
            (json!(2.5), None),
            (json!("-1"), None),
            (json!(" 1"), None),
            (json!(""), None),
            (json!("18446744073709551616"), None),
            (json!(null), None),
            (json!(true), None),
        ] {
            assert_eq!(number(&value), expected, "{value}");
        }
    }
}
