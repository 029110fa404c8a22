//! Views as JSON. `docs/serve.openapi.json` describes it.

use std::{collections::BTreeMap, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use discox::{Entry, HistoryEvent, Update};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::view::{Subject, View};

/// What all views have.
#[derive(Serialize)]
struct Head<'a> {
    index: u64,
    freshness: String,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Names<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    services: Vec<&'a str>,
}

#[derive(Serialize)]
struct Service<'a> {
    service: &'a str,
    #[serde(flatten)]
    head: Head<'a>,
    held: usize,
    instances: Vec<Instance<'a>>,
}

#[derive(Serialize)]
struct NamesChange<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    follows: u64,
    put: Vec<&'a str>,
    delete: Vec<&'a str>,
}

#[derive(Serialize)]
struct ServiceChange<'a> {
    service: &'a str,
    #[serde(flatten)]
    head: Head<'a>,
    follows: u64,
    held: usize,
    put: Vec<Instance<'a>>,
    delete: Vec<&'a str>,
}

/// An endpoint and its attr, and what the attr says where it is a JSON object.
#[derive(Serialize)]
struct Instance<'a> {
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attr_base64: Option<String>,
    #[serde(flatten)]
    said: Said,
}

/// What people look for.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Said {
    #[serde(skip_serializing_if = "Value::is_null")]
    weight: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    version: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    zone: Value,
}

/// The whole view.
pub(super) fn list(view: &View) -> Vec<u8> {
    let mut entries: Vec<_> = view.snapshot.iter().collect();
    entries.sort_unstable_by_key(|entry| entry.endpoint());
    let head = Head::of(view);
    match &view.subject {
        Subject::Names => {
            bytes(&Names { head, services: entries.into_iter().map(Entry::endpoint).collect() })
        }
        Subject::Service(service) => {
            let instances =
                entries.into_iter().map(|entry| Instance::new(entry.endpoint(), entry.attr())).collect();
            bytes(&Service { service, head, held: view.held, instances })
        }
    }
}

/// The difference to the view before.
pub(super) fn change(view: &View) -> Vec<u8> {
    let updates = view.snapshot.changes_since(&view.before);
    let (mut puts, mut delete) = (Vec::new(), Vec::new());
    for update in &updates {
        match update {
            Update::Put(endpoint, attr) => puts.push((&**endpoint, attr)),
            Update::Delete(endpoint) => delete.push(&**endpoint),
            _ => {}
        }
    }
    let (head, follows) = (Head::of(view), view.follows);
    match &view.subject {
        Subject::Names => {
            let put = puts.into_iter().map(|(name, _)| name).collect();
            bytes(&NamesChange { head, follows, put, delete })
        }
        Subject::Service(service) => {
            let put = puts.into_iter().map(|(endpoint, attr)| Instance::new(endpoint, attr)).collect();
            bytes(&ServiceChange { service, head, follows, held: view.held, put, delete })
        }
    }
}

/// What happened, and why, the oldest first.
pub(super) fn events(events: &[HistoryEvent]) -> Vec<u8> {
    bytes(&events)
}

/// The string, number and boolean members of an attr that is a JSON object.
pub(super) fn members(attr: &[u8]) -> BTreeMap<String, String> {
    let members: BTreeMap<String, Value> = serde_json::from_slice(attr).unwrap_or_default();
    let text = |value| match value {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    members.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect()
}

impl<'a> Head<'a> {
    fn of(view: &'a View) -> Self {
        let (freshness, error) = (view.state.to_string(), view.error.as_deref());
        Self { index: view.index, freshness, since: time(view.since), error }
    }
}

impl<'a> Instance<'a> {
    fn new(endpoint: &'a str, attr: &'a [u8]) -> Self {
        let said = serde_json::from_slice(attr).unwrap_or_default();
        match std::str::from_utf8(attr) {
            Ok(attr) => Self { endpoint, attr: Some(attr), attr_base64: None, said },
            Err(_) => Self { endpoint, attr: None, attr_base64: Some(BASE64_STANDARD.encode(attr)), said },
        }
    }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Nothing here fails to be written.
fn bytes(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_says_what_its_attr_says() {
        let json = |attr: &[u8]| serde_json::to_string(&Instance::new("a:1", attr)).unwrap();
        assert_eq!(
            json(br#"{"weight":2,"zone":"a","x":[1]}"#),
            r#"{"endpoint":"a:1","attr":"{\"weight\":2,\"zone\":\"a\",\"x\":[1]}","weight":2,"zone":"a"}"#
        );
        assert_eq!(json(b"plain"), r#"{"endpoint":"a:1","attr":"plain"}"#);
        assert_eq!(json(b"\xff"), r#"{"endpoint":"a:1","attr_base64":"/w=="}"#);
    }

    #[test]
    fn members_are_plain_text() {
        let members = members(br#"{"a":"x","b":2.5,"c":true,"d":null,"e":{"f":1}}"#);
        let members: Vec<_> = members.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(members, [("a", "x"), ("b", "2.5"), ("c", "true")]);
    }
}
