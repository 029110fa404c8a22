//! The typed view of an entry.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{attr::weight, json};
use crate::Entry;

/// What an entry says of its instance, whatever the layout: the members of its attr, typed.
///
/// ```
/// use discox_core::{Entry, Instance};
///
/// let entry = Entry::new("10.1.2.3:8080", r#"{"weight":10,"zone":"a","env":"prod"}"#);
/// let instance = Instance::of(&entry);
/// assert_eq!((instance.weight, instance.zone.as_deref()), (Some(10), Some("a")));
/// assert_eq!(instance.metadata["env"], "prod");
/// assert!(instance.enabled && instance.id == "10.1.2.3:8080");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Instance {
    /// Where it can be reached: `host:port`.
    pub endpoint: String,
    /// Its ID: the endpoint where the record says nothing else.
    pub id: String,
    /// What it speaks, such as `http` or `grpc`.
    pub scheme: Option<String>,
    /// Its share of requests. Systems differ in what they take where there is none: 1, 10 or 100.
    pub weight: Option<u32>,
    /// Its version.
    pub version: Option<String>,
    /// Where it runs.
    pub zone: Option<String>,
    /// Whether it is in service. Those that are not are served only on demand.
    pub enabled: bool,
    /// All other members, as text. An attr that is no JSON object is the value of the empty name.
    pub metadata: BTreeMap<String, String>,
}

impl Instance {
    /// Reads an entry's attr. Never fails: what is not of its type is left out. Parses at each call; for a hot path
    /// keep the result, as by `Watching::derive`.
    pub fn of(entry: &Entry) -> Self {
        Self::parse(entry.endpoint(), entry.attr())
    }

    /// As [`Instance::of`], of an endpoint and an attr.
    pub fn parse(endpoint: &str, attr: &[u8]) -> Self {
        let object: Option<Map<String, Value>> = serde_json::from_slice(attr).ok();
        let whole = || String::from_utf8_lossy(attr).into_owned().into();
        let object = object.unwrap_or_else(|| match attr.is_empty() {
            true => Map::new(),
            false => Map::from_iter([(String::new(), whole())]),
        });
        let mut instance = Self {
            endpoint: endpoint.to_owned(),
            id: endpoint.to_owned(),
            scheme: None,
            weight: None,
            version: None,
            zone: None,
            enabled: true,
            metadata: BTreeMap::new(),
        };
        for (name, value) in object.into_iter().filter(|(_, value)| !value.is_null()) {
            instance.take(name, &value);
        }
        instance
    }

    fn take(&mut self, name: String, value: &Value) {
        let text = json::any_text(value);
        match (name.as_str(), value) {
            ("id", _) => self.id = text,
            ("scheme", _) => self.scheme = Some(text),
            ("weight", _) => self.weight = weight(value),
            ("version", _) => self.version = Some(text),
            ("zone", _) => self.zone = Some(text),
            ("enabled", Value::Bool(enabled)) => self.enabled = *enabled,
            _ => drop(self.metadata.insert(name, text)),
        }
    }
}

impl From<&Entry> for Instance {
    fn from(entry: &Entry) -> Self {
        Self::of(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_survives_what_is_not() {
        let instance = Instance::parse(
            "a:1",
            br#"{"id":"x","scheme":"grpc","weight":"7","version":1,"enabled":false,"n":null,"o":{"a":[1]},"":"p"}"#,
        );
        assert_eq!(
            (&*instance.id, instance.scheme.as_deref(), instance.weight),
            ("x", Some("grpc"), Some(7))
        );
        assert_eq!((instance.version.as_deref(), instance.zone, instance.enabled), (Some("1"), None, false));
        let others = [("o".to_owned(), r#"{"a":[1]}"#.to_owned()), (String::new(), "p".to_owned())];
        assert_eq!(instance.metadata, BTreeMap::from(others));

        for attr in [&b""[..], b"{}", br#"{"weight":-1}"#, br#"{"weight":2.5}"#, br#"{"weight":4294967296}"#]
        {
            let instance = Instance::parse("a:1", attr);
            assert_eq!((instance.weight, instance.enabled, instance.metadata.len()), (None, true, 0));
        }
        for attr in [&b"text"[..], b"[1]", b"\xff"] {
            assert_eq!(Instance::parse("a:1", attr).metadata[""], String::from_utf8_lossy(attr));
        }
    }
}
