//! What Curator stores, as Jackson reads it.

use serde_json::{Map, Value};

use super::{Reason, address, attr::Rules, json, json::Members};

/// Where Spring says whether an instance is in service.
pub(super) const STATUS: &str = "instance_status";

pub(super) const TYPED: Rules = Rules { typed: true, reserved: &["@class"], hidden: &["@class"], added: &[] };
pub(super) const TEXTS: Rules = Rules { typed: false, reserved: &[STATUS], hidden: &[STATUS], added: &[] };

/// A record as it is, without its name.
pub(super) struct Stored {
    pub(super) address: String,
    pub(super) port: Option<u16>,
    ssl_port: Option<u16>,
    /// The scheme that its URI has as text.
    scheme: Option<String>,
    pub(super) payload: Value,
    pub(super) id: Option<String>,
    pub(super) enabled: bool,
}

impl Stored {
    pub(super) fn parse(value: &[u8]) -> Result<Self, Reason> {
        let members = Members::of_jackson(value)?;
        let text = |name: &str| members.of_name(name).and_then(json::text).filter(|text| !text.is_empty());
        let port = |name: &str| -> Result<_, Reason> {
            let Some(value) = members.of_name(name) else { return Ok(None) };
            let port = match value.as_str().map(str::trim) {
                Some("") => return Ok(None),
                Some(text) => json::number(&text.into()),
                None => json::number(value),
            };
            let port = port.and_then(|port| u16::try_from(port).ok());
            port.map(Some).ok_or_else(|| Reason::new(format!("its {name} is none")))
        };
        Ok(Self {
            address: text("address").ok_or_else(|| Reason::new("it has no address"))?,
            port: port("port")?.filter(|port| *port > 0),
            ssl_port: port("sslPort")?.filter(|port| *port > 0),
            scheme: members.of_name("uriSpec").and_then(scheme_of),
            payload: members.of_name("payload").cloned().unwrap_or_default(),
            id: text("id"),
            enabled: !text("enabled")
                .is_some_and(|text| text == "0" || text.trim().eq_ignore_ascii_case("false")),
        })
    }

    /// Scheme and port: of the secure one, if there is one; or those that are wanted.
    pub(super) fn reach(&self, wanted: Option<&str>) -> Result<Option<(String, u16)>, Reason> {
        let secure = self.ssl_port.map(|port| ("https", port));
        let plain = self.port.map(|port| ("http", port));
        if let Some(scheme) = &self.scheme {
            let (_, port) = secure.or(plain).ok_or_else(no_port)?;
            let is_wanted = wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(scheme));
            return Ok(is_wanted.then(|| (scheme.clone(), port)));
        }
        let first = secure.or(plain).ok_or_else(no_port)?;
        let reach = match wanted.map(str::to_ascii_lowercase).as_deref() {
            Some("http") => plain,
            Some("https") => secure,
            // The record does not say what it speaks.
            _ => Some(first),
        };
        Ok(reach.map(|(scheme, port)| (scheme.to_owned(), port)))
    }
}

fn no_port() -> Reason {
    Reason::new("it has no port")
}

/// The text before `://` in the parts of a URI, if there are no variables in it.
fn scheme_of(uri_spec: &Value) -> Option<String> {
    let mut text = String::new();
    for part in uri_spec.get("parts")?.as_array()? {
        if part.get("variable").and_then(Value::as_bool) == Some(true) {
            return None;
        }
        text.push_str(part.get("value")?.as_str()?);
        if let Some((scheme, _)) = text.split_once("://") {
            return address::scheme(scheme);
        }
    }
    None
}

/// What a payload says: the metadata of an instance of Spring or Dubbo, the members of any other object.
pub(super) fn metadata(payload: Value) -> (Map<String, Value>, Rules) {
    match payload {
        Value::Null => (Map::new(), TYPED),
        Value::Object(mut payload) => {
            let class = payload.get("@class").and_then(Value::as_str).unwrap_or_default();
            if !class.ends_with(".ZookeeperInstance") {
                return (payload, TYPED);
            }
            match payload.remove("metadata") {
                Some(Value::Object(metadata)) => (metadata, TEXTS),
                _ => (Map::new(), TEXTS),
            }
        }
        other => (Map::from_iter([(String::new(), other)]), TYPED),
    }
}
