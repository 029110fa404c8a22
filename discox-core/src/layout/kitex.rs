//! Kitex and Hertz: `{prefix}/{service}/{address}` → `{"network","address","weight","tags"}` in etcd, and
//! `/{service}/{address}` → `{"Weight","Tags"}` in ZooKeeper.

use serde_json::{Map, Value};

use super::{
    Decoded, Directory, Format, LayoutOptions, Reason, Update, address,
    attr::{Own, Read, Rules, Written},
    identity, join, json,
    json::{Members, Style},
    node, prefix,
};
use crate::{
    Error, Result,
    record::{Record, Service},
};

/// A record always has a weight.
pub(super) const RULES: Rules = Rules { typed: false, reserved: &[], hidden: &[], added: &["weight"] };
const KITEX: &str = "kitex/registry-etcd";
const HERTZ: &str = "hertz/registry-etcd";
/// What a reader takes for none, and for 0.
pub(super) const WEIGHT: u32 = 10;
const NETWORK: &str = "tcp";

/// Kitex in etcd.
pub(super) static KITEX_ETCD: Format = Format {
    directory: |service, _| etcd(service, KITEX),
    name: |record, _, options| identity::of(record, options),
    encode: Some(encode_etcd),
    decode: Some(decode_etcd),
    update: Update::InPlace,
    default_prefix: Some(KITEX),
    looks_like: |_, value| Members::of_go(value).is_ok_and(|members| address_of(&members).is_some()),
};

/// Hertz in etcd.
pub(super) static HERTZ_ETCD: Format =
    Format { directory: |service, _| etcd(service, HERTZ), default_prefix: Some(HERTZ), ..KITEX_ETCD };

/// Both in ZooKeeper.
pub(super) static ZOOKEEPER: Format = Format {
    directory: |service, _| Ok(Directory { path: node(service.prefix(), service.name()), is_deep: false }),
    name: |record, _, _| Ok(record.endpoint.to_string()),
    encode: Some(encode_zookeeper),
    decode: Some(decode_zookeeper),
    default_prefix: Some(""),
    looks_like: |name, value| {
        let members = Members::of_go(value);
        address::parse(name).is_some() && members.is_ok_and(|members| members.of_any_case("tags").is_some())
    },
    ..KITEX_ETCD
};

fn etcd(service: &Service, default: &'static str) -> Result<Directory> {
    Ok(Directory { path: join(prefix(service, default), service.name()), is_deep: true })
}

fn encode_etcd(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let id = identity::of(record, options)?;
    let (weight, tags) = written(record, attr, Some(&id), options)?;
    let address = Style::Go.quoted(record.endpoint.as_str());
    Ok(format!("{{\"network\":\"{NETWORK}\",\"address\":{address},\"weight\":{weight},\"tags\":{tags}}}"))
}

fn encode_zookeeper(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let (weight, tags) = written(record, attr, None, options)?;
    Ok(format!("{{\"Weight\":{weight},\"Tags\":{tags}}}"))
}

fn written(record: &Record, attr: &str, id: Option<&str>, options: &LayoutOptions) -> Result<(u32, String)> {
    let (weight, tags) = tags(record, attr, id, options)?;
    if tags.is_empty() {
        return Ok((weight, "null".to_owned()));
    }
    Ok((weight, Style::Go.texts(tags.iter().map(|(name, text)| (name.as_str(), text.as_str())))))
}

/// Weight and tags of a record.
pub(super) fn tags(
    record: &Record,
    attr: &str,
    id: Option<&str>,
    options: &LayoutOptions,
) -> Result<(u32, std::collections::BTreeMap<String, String>)> {
    let own = Own { endpoint: record.endpoint.as_str(), id, scheme: Some(NETWORK) };
    let mut written = Written::of(attr, &RULES, &own).in_service("Kitex")?;
    let weight = match written.weight.take() {
        Some(0) if !options.lossy => {
            let reason = "Kitex takes 0 for 10: use 1, stop the registration, or set `lossy` to write 1";
            return Err(Error::config("attr", "\"weight\":0", reason));
        }
        weight => weight.unwrap_or(WEIGHT).max(1),
    };
    Ok((weight, written.all_as_others(false).texts()))
}

fn address_of(members: &Members) -> Option<String> {
    members.of_any_case("network").or(members.of_any_case("weight"))?;
    members.of_any_case("address").and_then(Value::as_str).and_then(address::parse)
}

fn decode_etcd(name: &str, value: &[u8], _: &Service, _: &LayoutOptions) -> Result<Decoded, Reason> {
    let members = Members::of_go(value)?;
    let address = members.of_any_case("address").and_then(Value::as_str).unwrap_or_default();
    let endpoint = address::parse(address).ok_or_else(|| Reason::new("its address is not host:port"))?;
    let network = members.of_any_case("network").and_then(json::text);
    let weight = members.of_any_case("weight").cloned().unwrap_or(0.into());
    let is_none =
        weight.as_i64().is_some_and(|weight| weight <= 0) || weight.as_str().is_some_and(is_nothing);
    let weight = if is_none { WEIGHT.into() } else { weight };
    Ok(decoded(name, endpoint, network, Some(weight), members.of_any_case("tags")))
}

fn is_nothing(weight: &str) -> bool {
    weight.parse().is_ok_and(|weight: i64| weight <= 0)
}

fn decode_zookeeper(name: &str, value: &[u8], _: &Service, _: &LayoutOptions) -> Result<Decoded, Reason> {
    let endpoint = address::parse(name).ok_or_else(|| Reason::new("its name is not host:port"))?;
    let network = Some(NETWORK.to_owned());
    if value.is_empty() {
        return Ok(decoded(name, endpoint, network, None, None));
    }
    let members = Members::of_go(value)?;
    let weight = members.of_any_case("weight").cloned();
    Ok(decoded(name, endpoint, network, weight, members.of_any_case("tags")))
}

fn decoded(
    name: &str,
    endpoint: String,
    network: Option<String>,
    weight: Option<Value>,
    tags: Option<&Value>,
) -> Decoded {
    let mut decoded = Decoded::default();
    let metadata = match tags {
        None => Map::new(),
        Some(Value::Object(tags)) => tags.clone(),
        Some(_) => {
            decoded.complain(Reason::new("its tags are no object"));
            Map::new()
        }
    };
    let scheme = network.filter(|network| !network.is_empty());
    let read = Read { id: Some(name.to_owned()), scheme, weight, metadata, ..Read::default() };
    decoded.add(read.found(endpoint, &RULES));
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{read, record};

    #[test]
    fn writes_what_kitex_writes() {
        let options = LayoutOptions::default();
        let attr = r#"{"weight":10,"version":"v1.2.0","zone":"a","env":"prod"}"#;
        assert_eq!(
            encode_etcd(&record(), attr, &options).unwrap(),
            r#"{"network":"tcp","address":"10.1.2.3:8080","weight":10,"tags":{"env":"prod","version":"v1.2.0","zone":"a"}}"#
        );
        assert_eq!(
            encode_zookeeper(&record(), attr, &options).unwrap(),
            r#"{"Weight":10,"Tags":{"env":"prod","version":"v1.2.0","zone":"a"}}"#
        );
        assert_eq!(encode_zookeeper(&record(), "", &options).unwrap(), r#"{"Weight":10,"Tags":null}"#);
        assert_eq!(encode_etcd(&record(), r#"{"weight":0}"#, &options).unwrap_err().field(), Some("attr"));
    }

    #[test]
    fn reads_what_kitex_reads() {
        let options = LayoutOptions::default();
        for (value, expected) in [
            (r#"{"address":"a:1"}"#, r#"a:1 {"id":"k","weight":10}"#),
            (
                r#"{"network":"tcp","address":"a:1","weight":-2}"#,
                r#"a:1 {"id":"k","scheme":"tcp","weight":10}"#,
            ),
            (r#"{"Address":"a:1","WEIGHT":"7","tags":{"a":1}}"#, r#"a:1 {"a":"1","id":"k","weight":7}"#),
            (r#"{"address":"fd00::3:80","weight":0,"tags":null}"#, r#"[fd00::3]:80 {"id":"k","weight":10}"#),
            (
                r#"{"address":"a:1","weight":5,"tags":[]}"#,
                r#"a:1 {"id":"k","weight":5} (its tags are no object)"#,
            ),
        ] {
            assert_eq!(read(&KITEX_ETCD, "k", value, &options), expected);
        }
        for value in ["", "null", r#"{"weight":1}"#, r#"{"address":""}"#, r#"{"address":"a:0"}"#] {
            assert!(read(&KITEX_ETCD, "k", value, &options).starts_with("skipped: "), "{value}");
        }
        let zookeeper = |name: &str, value: &str| read(&ZOOKEEPER, name, value, &options);
        assert_eq!(
            zookeeper("fd00::3:1", r#"{"weight":1}"#),
            r#"[fd00::3]:1 {"id":"fd00::3:1","scheme":"tcp","weight":1}"#
        );
        assert_eq!(zookeeper("a:1", ""), r#"a:1 {"scheme":"tcp"}"#);
        for (name, value) in [("a", "{}"), ("a:1", "{"), ("a:1", "null")] {
            assert!(zookeeper(name, value).starts_with("skipped: "), "{name}");
        }
    }
}
