//! go-micro: `/micro/registry/{service}/{node}` in etcd, `/micro-registry/{service}/{node}` in ZooKeeper →
//! `{"name","version","metadata","endpoints","nodes":[{"metadata","id","address"}]}`.

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

/// A node's protocol is its scheme.
const PROTOCOL: &str = "protocol";
pub(super) const RULES: Rules =
    Rules { typed: false, reserved: &[PROTOCOL], hidden: &[], added: &[PROTOCOL] };

/// In etcd.
pub(super) static ETCD: Format = Format {
    directory: |service, _| {
        Ok(Directory { path: join(prefix(service, "/micro/registry"), service.name()), is_deep: true })
    },
    name: |record, _, options| id(record, options),
    encode: Some(encode),
    decode: Some(decode),
    update: Update::InPlace,
    default_prefix: Some("/micro/registry"),
    looks_like: |_, value| {
        Members::of_go(value).is_ok_and(|members| members.of_any_case("nodes").is_some_and(Value::is_array))
    },
};

/// In ZooKeeper. Nodes there are persistent, so that discox only reads them.
pub(super) static ZOOKEEPER: Format = Format {
    directory: |service, _| {
        Ok(Directory { path: node(prefix(service, "/micro-registry"), service.name()), is_deep: false })
    },
    encode: None,
    default_prefix: Some("/micro-registry"),
    ..ETCD
};

/// A node's ID, which begins with the service's name unless it is configured.
pub(super) fn id(record: &Record, options: &LayoutOptions) -> Result<String> {
    let id = identity::of(record, options)?;
    Ok(if options.instance_id.is_some() { id } else { format!("{}-{id}", record.service.name()) })
}

fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let id = id(record, options)?;
    let (version, metadata) = metadata(record, attr, &id, options)?;
    let quoted = |text: &str| Style::Go.quoted(text);
    let metadata = match metadata.is_empty() {
        true => "null".to_owned(),
        false => Style::Go.texts(metadata.iter().map(|(name, text)| (name.as_str(), text.as_str()))),
    };
    let (name, version, id) = (quoted(record.service.name()), quoted(&version), quoted(&id));
    let address = quoted(record.endpoint.as_str());
    Ok(format!(
        "{{\"name\":{name},\"version\":{version},\"metadata\":null,\"endpoints\":null,\
         \"nodes\":[{{\"metadata\":{metadata},\"id\":{id},\"address\":{address}}}]}}"
    ))
}

/// Version and metadata of a record.
pub(super) fn metadata(
    record: &Record,
    attr: &str,
    id: &str,
    options: &LayoutOptions,
) -> Result<(String, std::collections::BTreeMap<String, String>)> {
    let scheme = options.scheme.as_deref().map(|scheme| {
        address::scheme(scheme).ok_or_else(|| Error::config("scheme", scheme, "not a scheme, such as `grpc`"))
    });
    let scheme = scheme.transpose()?;
    let own = Own { endpoint: record.endpoint.as_str(), id: Some(id), scheme: scheme.as_deref() };
    let mut written =
        Written::of(attr, &RULES, &own).in_service("go-micro")?.weight_and_zone_as_others(false);
    let version = written.version.take().unwrap_or_default();
    let mut metadata = written.texts();
    if let Some(scheme) = scheme {
        metadata.insert(PROTOCOL.to_owned(), scheme);
    }
    Ok((version, metadata))
}

fn decode(name: &str, value: &[u8], _: &Service, options: &LayoutOptions) -> Result<Decoded, Reason> {
    let members = Members::of_go(value)?;
    let version = members.of_any_case("version").and_then(json::text);
    let Some(Value::Array(nodes)) = members.of_any_case("nodes") else {
        return Err(Reason::new("it has no nodes"));
    };
    let mut decoded = Decoded::default();
    for node in nodes {
        if decoded.is_full() {
            decoded.complain(Reason::new("it has more than 16 nodes"));
            break;
        }
        match self::node_of(name, node, version.as_deref()) {
            Err(reason) => decoded.complain(reason),
            Ok((endpoint, read)) if is_wanted(&read, options) => decoded.add(read.found(endpoint, &RULES)),
            Ok(_) => {}
        }
    }
    if decoded.found.is_empty()
        && let Some(reason) = decoded.complaint
    {
        return Err(reason);
    }
    Ok(decoded)
}

/// A node that does not say what it speaks is taken.
fn is_wanted(read: &Read, options: &LayoutOptions) -> bool {
    let scheme = read.scheme.as_ref().zip(options.scheme.as_ref());
    scheme.is_none_or(|(scheme, wanted)| scheme.eq_ignore_ascii_case(wanted))
}

fn node_of(name: &str, node: &Value, version: Option<&str>) -> Result<(String, Read), Reason> {
    let members = Members::of_value(node).ok_or_else(|| Reason::new("one of its nodes is no object"))?;
    let address = members.of_any_case("address").and_then(Value::as_str).unwrap_or_default();
    let endpoint = address::parse(address).ok_or_else(|| Reason::new("a node's address is not host:port"))?;
    let metadata = match members.of_any_case("metadata") {
        Some(Value::Object(metadata)) => metadata.clone(),
        _ => Map::new(),
    };
    let id = members.of_any_case("id").and_then(json::text).unwrap_or_else(|| name.to_owned());
    Ok((endpoint, read(id, version, metadata)))
}

/// What a node's metadata says.
pub(super) fn read(id: String, version: Option<&str>, metadata: Map<String, Value>) -> Read {
    let scheme = metadata.get(PROTOCOL).and_then(json::text).and_then(|text| address::scheme(&text));
    Read { id: Some(id), scheme, version: version.map(str::to_owned), metadata, ..Read::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{read, record};

    #[test]
    fn writes_what_go_micro_writes() {
        let options = LayoutOptions { scheme: Some("grpc".into()), ..Default::default() };
        assert_eq!(
            encode(&record(), r#"{"version":"v1","weight":10,"zone":"a"}"#, &options).unwrap(),
            concat!(
                r#"{"name":"orders","version":"v1","metadata":null,"endpoints":null,"nodes":[{"metadata":"#,
                r#"{"protocol":"grpc","weight":"10","zone":"a"},"id":"orders-10.1.2.3:8080","address":"10.1.2.3:8080"}]}"#
            )
        );
        let plain = encode(&record(), "", &LayoutOptions::default()).unwrap();
        assert!(plain.contains(r#""nodes":[{"metadata":null,"#), "{plain}");
    }

    #[test]
    fn reads_what_go_micro_reads() {
        let read = |value: &str| read(&ETCD, "k", value, &LayoutOptions::default());
        for (value, expected) in [
            (
                r#"{"name":"other","version":"v1","nodes":[{"id":"n","address":"a:1"},{"ID":"m","Address":"a:2"}]}"#,
                r#"a:1 {"id":"n","version":"v1"}, a:2 {"id":"m","version":"v1"}"#,
            ),
            (
                r#"{"nodes":[{"address":"a:1","metadata":{"protocol":"grpc","weight":3}},{"address":"x"},5]}"#,
                r#"a:1 {"id":"k","protocol":"grpc","scheme":"grpc","weight":3} (a node's address is not host:port)"#,
            ),
            (r#"{"nodes":[]}"#, ""),
        ] {
            assert_eq!(read(value), expected);
        }
        for value in ["10.1.2.3:8080", "null", "{}", r#"{"nodes":{}}"#, r#"{"nodes":[{}]}"#] {
            assert!(read(value).starts_with("skipped: "), "{value}");
        }
    }
}
