//! Apache Curator's service discovery and Spring Cloud ZooKeeper: `{base}/{service}/{id}` → JSON by Jackson.

use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::{
    Decoded, Directory, Format, LayoutOptions, Payload, Reason, Update, address,
    attr::{Own, Read, Written},
    identity, json,
    json::{Members, Style},
    node, prefix,
    stored::{STATUS, Stored, TEXTS, TYPED, metadata},
};
use crate::{Error, Result, record::Record};

const SPRING_CLASS: &str = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance";
const MAP_CLASS: &str = "java.util.LinkedHashMap";
/// Curator's, with the payload that is configured.
pub(super) static CURATOR: Format = Format {
    directory: |service, _| match service.prefix() {
        "" => Err(Error::config("discover_prefix", "", "layout `curator` needs the base path of its fleet")),
        prefix => Ok(Directory { path: node(prefix, service.name()), is_deep: false }),
    },
    name,
    encode: Some(|record, attr, options| encode(record, attr, &options.payload, options)),
    decode: Some(|name, value, _, options| decode(name, value, options)),
    update: Update::InPlace,
    default_prefix: None,
    looks_like: |_, value| matches!(class_of(value), Some(class) if !class.ends_with(".ZookeeperInstance")),
};

/// Spring Cloud's.
pub(super) static SPRING: Format = Format {
    directory: |service, _| {
        Ok(Directory { path: node(prefix(service, "/services"), service.name()), is_deep: false })
    },
    encode: Some(|record, attr, options| encode(record, attr, &Payload::Spring, options)),
    default_prefix: Some("/services"),
    looks_like: |_, value| class_of(value).as_deref() == Some(SPRING_CLASS),
    ..CURATOR
};

/// The payload's class, if it is one of these records; empty where there is none.
pub(super) fn class_of(value: &[u8]) -> Option<String> {
    let members = Members::of_jackson(value).ok()?;
    members.of_name("address").and(members.of_name("port"))?;
    let class = members.of_name("payload").and_then(|payload| payload.get("@class")).and_then(json::text);
    Some(class.unwrap_or_default())
}

fn name(record: &Record, _: &str, options: &LayoutOptions) -> Result<String> {
    identity::of(record, options)
}

fn encode(record: &Record, attr: &str, payload: &Payload, options: &LayoutOptions) -> Result<String> {
    let id = identity::of(record, options)?;
    let scheme = scheme(options)?;
    let rules = if *payload == Payload::Spring { TEXTS } else { TYPED };
    let own = Own { endpoint: record.endpoint.as_str(), id: Some(&id), scheme: Some(&scheme) };
    let written = Written::of(attr, &rules, &own);
    let enabled = written.enabled;
    if !enabled && !options.enabled && *payload != Payload::Spring {
        let reason = "a Curator record says so only with the layout option `enabled`";
        return Err(Error::config("attr", "\"enabled\":false", reason));
    }
    let uri_spec = uri_spec(&scheme, *payload == Payload::Spring);
    let payload = match payload {
        Payload::None if options.lossy => "null".to_owned(),
        Payload::None => written.nothing(attr, "Curator without a payload").map(|()| "null".to_owned())?,
        Payload::Text => Style::Jackson.quoted(attr),
        Payload::Json => object(MAP_CLASS, written),
        Payload::Class(class) => object(class, written),
        Payload::Spring => spring(record, &id, written),
    };
    let quoted = |text: &str| Style::Jackson.quoted(text);
    let (name, id, port) = (quoted(record.service.name()), quoted(&id), record.endpoint.port());
    let address = quoted(address::host(record.endpoint.as_str()));
    let ssl_port = if scheme == "https" { port.to_string() } else { "null".to_owned() };
    let began = record.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let enabled = if options.enabled { format!(",\"enabled\":{enabled}") } else { String::new() };
    Ok(format!(
        "{{\"name\":{name},\"id\":{id},\"address\":{address},\"port\":{port},\"sslPort\":{ssl_port},\
         \"payload\":{payload},\"registrationTimeUTC\":{began},\"serviceType\":\"DYNAMIC\",\"uriSpec\":{uri_spec}{enabled}}}"
    ))
}

fn scheme(options: &LayoutOptions) -> Result<String> {
    let scheme = options.scheme.as_deref().unwrap_or("http");
    address::scheme(scheme).ok_or_else(|| Error::config("scheme", scheme, "not a scheme, such as `https`"))
}

/// A payload of a class: the attr's members behind the class's name.
fn object(class: &str, written: Written) -> String {
    let written = written.all_as_others(true);
    let class = Value::from(class);
    let members = written.others.iter().map(|(name, value)| (name.as_str(), value));
    Style::Jackson.object(std::iter::once(("@class", &class)).chain(members))
}

fn spring(record: &Record, id: &str, written: Written) -> String {
    let status = if written.enabled { "UP" } else { "OUT_OF_SERVICE" };
    let mut metadata = written.all_as_others(false).texts();
    metadata.insert(STATUS.to_owned(), status.to_owned());
    let metadata = Style::Jackson.texts(metadata.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let (id, name) = (Style::Jackson.quoted(id), Style::Jackson.quoted(record.service.name()));
    format!("{{\"@class\":\"{SPRING_CLASS}\",\"id\":{id},\"name\":{name},\"metadata\":{metadata}}}")
}

/// `{scheme}://{address}:{port}`; a scheme that Curator does not know is in it as text.
fn uri_spec(scheme: &str, is_spring: bool) -> String {
    let is_known = matches!(scheme, "http" | "https");
    if is_known && !is_spring {
        return "null".to_owned();
    }
    let part = |value: &str, variable: bool| {
        format!("{{\"value\":{},\"variable\":{variable}}}", Style::Jackson.quoted(value))
    };
    let scheme = if is_known { part("scheme", true) } else { part(scheme, false) };
    let parts = [scheme, part("://", false), part("address", true), part(":", false), part("port", true)];
    format!("{{\"parts\":[{}]}}", parts.join(","))
}

fn decode(name: &str, value: &[u8], options: &LayoutOptions) -> Result<Decoded, Reason> {
    let stored = Stored::parse(value)?;
    let Some((scheme, port)) = stored.reach(options.scheme.as_deref())? else {
        return Ok(Decoded::default());
    };
    let endpoint =
        address::join(&stored.address, port).ok_or_else(|| Reason::new("its address is no host"))?;
    if let (Payload::Text, Value::String(attr)) = (&options.payload, &stored.payload) {
        return Ok(Decoded::of_text(endpoint, attr.clone(), stored.enabled));
    }
    let (metadata, rules) = metadata(stored.payload);
    let status = metadata.get(STATUS).and_then(json::text).unwrap_or_default();
    let is_up = rules.typed || status.trim().is_empty() || status.eq_ignore_ascii_case("UP");
    let read = Read {
        id: Some(stored.id.unwrap_or_else(|| name.to_owned())),
        scheme: Some(scheme),
        disabled: !(stored.enabled && is_up),
        metadata,
        ..Read::default()
    };
    let (found, complaint) = read.found(endpoint, &rules);
    Ok(Decoded { found: vec![found], complaint })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::layout::tests::{read, record};

    fn written(attr: &str, options: &LayoutOptions) -> String {
        let mut record = record();
        record.began = UNIX_EPOCH + Duration::from_millis(1_767_225_600_000);
        (CURATOR.encode.unwrap())(&record, attr, options).unwrap()
    }

    fn options(payload: Payload) -> LayoutOptions {
        LayoutOptions { instance_id: Some("i1".into()), payload, ..Default::default() }
    }

    fn with_payload(payload: &str) -> String {
        format!(
            r#"{{"name":"orders","id":"i1","address":"10.1.2.3","port":8080,"sslPort":null,"payload":{payload},"registrationTimeUTC":1767225600000,"serviceType":"DYNAMIC","uriSpec":null}}"#
        )
    }

    #[test]
    fn writes_what_curator_writes() {
        assert_eq!(written("", &options(Payload::None)), with_payload("null"));
        assert_eq!(written("é\"\u{2028}", &options(Payload::Text)), with_payload("\"é\\\"\u{2028}\""));
        assert_eq!(
            written(r#"{"weight":10,"n":{"a":1},"@class":"com.evil"}"#, &options(Payload::Json)),
            with_payload(
                r#"{"@class":"java.util.LinkedHashMap","discox-attr":"{\"weight\":10,\"n\":{\"a\":1},\"@class\":\"com.evil\"}","n":{"a":1},"weight":10}"#
            )
        );
        let class = options(Payload::Class("com.example.Meta".into()));
        assert_eq!(written("", &class), with_payload(r#"{"@class":"com.example.Meta"}"#));
        let enabled = LayoutOptions { enabled: true, ..options(Payload::None) };
        assert!(written(r#"{"enabled":false}"#, &enabled).ends_with(r#""uriSpec":null,"enabled":false}"#));
        let secure = LayoutOptions { scheme: Some("https".into()), ..options(Payload::None) };
        assert!(written("", &secure).contains(r#""port":8080,"sslPort":8080,"#));
    }

    #[test]
    fn what_a_record_cannot_carry_is_rejected() {
        let encode =
            |attr: &str, options: &LayoutOptions| (CURATOR.encode.unwrap())(&record(), attr, options);
        let mut none = options(Payload::None);
        for attr in ["text", r#"{"weight":1}"#, r#"{"enabled":false}"#] {
            assert_eq!(encode(attr, &none).unwrap_err().field(), Some("attr"), "{attr}");
        }
        none.lossy = true;
        assert!(encode("text", &none).is_ok());
        assert!((CURATOR.directory)(&crate::record::Service::parse("", "orders").unwrap(), &none).is_err());
    }

    #[test]
    fn writes_an_instance_of_spring() {
        let options = LayoutOptions { instance_id: Some("i1".into()), ..Default::default() };
        let written =
            (SPRING.encode.unwrap())(&record(), r#"{"weight":10,"enabled":false}"#, &options).unwrap();
        assert!(
            written.contains(concat!(
                r#""payload":{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"i1","#,
                r#""name":"orders","metadata":{"instance_status":"OUT_OF_SERVICE","weight":"10"}},"#
            )),
            "{written}"
        );
        assert!(written.ends_with(
            r#""uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},{"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true}]}}"#
        ));
        assert_eq!(
            read(&SPRING, "i1", &written, &options),
            r#"10.1.2.3:8080 {"enabled":false,"id":"i1","scheme":"http","weight":10} off"#
        );
    }

    #[test]
    fn reads_what_jackson_reads() {
        let at = |more: &str| format!(r#"{{"address":"10.1.2.3"{more}}}"#);
        let read = |more: &str| read(&CURATOR, "n", &at(more), &LayoutOptions::default());
        for (more, expected) in [
            (r#","port":"8080""#, r#"10.1.2.3:8080 {"id":"n","scheme":"http"}"#),
            (r#","port":8080.0,"Port":1,"enabled":null"#, r#"10.1.2.3:8080 {"id":"n","scheme":"http"}"#),
            (r#","port":1,"port":2,"sslPort":"","id":"x""#, r#"10.1.2.3:2 {"id":"x","scheme":"http"}"#),
            (r#","port":1,"sslPort":2,"payload":[1]"#, r#"10.1.2.3:2 {"":"[1]","id":"n","scheme":"https"}"#),
            (
                r#","port":1,"enabled":"false""#,
                r#"10.1.2.3:1 {"enabled":false,"id":"n","scheme":"http"} off"#,
            ),
            (
                r#","port":1,"payload":{"@class":"x.Y","metadata":{"a":1}}"#,
                r#"10.1.2.3:1 {"id":"n","metadata":"{\"a\":1}","scheme":"http"}"#,
            ),
            (
                r#","port":1,"payload":{"@class":"o.ZookeeperInstance","metadata":{"n":null,"num":3,"instance_status":"up"}}"#,
                r#"10.1.2.3:1 {"id":"n","num":"3","scheme":"http"}"#,
            ),
            (
                r#","port":1,"uriSpec":{"parts":[{"value":"grpc","variable":false},{"value":"://","variable":false}]}"#,
                r#"10.1.2.3:1 {"id":"n","scheme":"grpc"}"#,
            ),
        ] {
            assert_eq!(read(more), expected, "{more}");
        }
        for more in
            ["", r#","port":null"#, r#","port":0"#, r#","port":65536"#, r#","port":-1"#, r#","port":"x""#]
        {
            assert!(read(more).starts_with("skipped: "), "{more}");
        }
        for value in [r#"{"port":1}"#, r#"{"address":"","port":1}"#, r#"{"address":"a b","port":1}"#] {
            assert!(
                super::tests::read(&CURATOR, "n", value, &LayoutOptions::default()).starts_with("skipped: ")
            );
        }
    }

    #[test]
    fn the_wanted_scheme_chooses_the_port() {
        let value = r#"{"address":"h","port":1,"sslPort":2}"#;
        let at = |scheme: &str| {
            let options = LayoutOptions { scheme: Some(scheme.into()), ..Default::default() };
            read(&CURATOR, "n", value, &options).split(' ').next().unwrap_or_default().to_owned()
        };
        assert_eq!((at("http"), at("HTTPS"), at("grpc")), ("h:1".into(), "h:2".into(), "h:2".into()));
    }

    #[test]
    fn a_text_is_the_attr_for_those_who_write_text() {
        let value = with_payload(r#""{\"weight\":10}""#);
        assert_eq!(read(&CURATOR, "n", &value, &options(Payload::Text)), r#"10.1.2.3:8080 {"weight":10}"#);
        assert_eq!(
            read(&CURATOR, "n", &value, &options(Payload::None)),
            r#"10.1.2.3:8080 {"":"{\"weight\":10}","id":"i1","scheme":"http"}"#
        );
    }
}
