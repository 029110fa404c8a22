//! gRPC's naming with etcd: `{target}/{anything}` → `{"Op":0,"Addr":"10.1.2.3:8080","Metadata":null}`.

use serde_json::{Map, Value};

use super::{
    Decoded, Directory, Format, LayoutOptions, Reason, Update, address,
    attr::{Own, Read, Rules, Written},
    identity, join, json,
    json::{Members, Style},
};
use crate::{
    Result,
    record::{Record, Service},
};

const RULES: Rules = Rules { typed: true, reserved: &[], hidden: &[], added: &[] };

/// In etcd.
pub(super) static ETCD: Format = Format {
    directory,
    name,
    encode: Some(encode),
    decode: Some(decode),
    update: Update::InPlace,
    default_prefix: Some(""),
    looks_like,
};

fn directory(service: &Service, _: &LayoutOptions) -> Result<Directory> {
    Ok(Directory { path: join(service.prefix(), service.name()), is_deep: true })
}

fn name(record: &Record, _: &str, options: &LayoutOptions) -> Result<String> {
    identity::of(record, options)
}

fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let id = identity::of(record, options)?;
    let endpoint = record.endpoint.as_str();
    let own = Own { endpoint, id: Some(&id), scheme: None };
    let written = Written::of(attr, &RULES, &own).in_service("gRPC")?.all_as_others(true);
    let metadata = match written.others.is_empty() {
        true => "null".to_owned(),
        false => Style::Go.object(written.others.iter().map(|(name, value)| (name.as_str(), value))),
    };
    Ok(format!("{{\"Op\":0,\"Addr\":{},\"Metadata\":{metadata}}}", Style::Go.quoted(endpoint)))
}

fn decode(name: &str, value: &[u8], _: &Service, _: &LayoutOptions) -> Result<Decoded, Reason> {
    let members = Members::of_go(value)?;
    let Some(Value::String(addr)) = members.of_any_case("Addr") else {
        return Err(Reason::new("it has no Addr"));
    };
    let endpoint = address::parse(addr).ok_or_else(|| Reason::new("its Addr is not host:port"))?;
    let metadata = match members.of_any_case("Metadata") {
        None => Map::new(),
        Some(Value::Object(metadata)) => metadata.clone(),
        Some(other) => Map::from_iter([(String::new(), other.clone())]),
    };
    let read = Read { id: Some(name.to_owned()), metadata, ..Read::default() };
    let (found, complaint) = read.found(endpoint, &RULES);
    Ok(Decoded { found: vec![found], complaint })
}

fn looks_like(_: &str, value: &[u8]) -> bool {
    let Ok(members) = Members::of_go(value) else { return false };
    members.of_any_case("Addr").and_then(json::text).is_some_and(|addr| address::parse(&addr).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RegisterConfig, layout::InstanceId};

    fn record() -> Record {
        let config = RegisterConfig {
            service_name: "orders".into(),
            service_endpoint: "10.1.2.3:8080".into(),
            ..Default::default()
        };
        Record::parse(&config).unwrap()
    }

    fn read(value: &str) -> Result<String, Reason> {
        let service = Service::parse("", "orders").unwrap();
        let decoded = decode("x", value.as_bytes(), &service, &LayoutOptions::default())?;
        let [found] = &*decoded.found else { panic!("{decoded:?}") };
        Ok(format!("{} {}", found.endpoint, std::str::from_utf8(&found.attr).unwrap()))
    }

    #[test]
    fn writes_what_etcds_own_code_writes() {
        let options = LayoutOptions::default();
        let record = record();
        assert_eq!(name(&record, "", &options).unwrap(), "10.1.2.3:8080");
        for (attr, metadata) in [
            ("", "null"),
            ("{}", "null"),
            (
                "{\"weight\":10,\"zone\":\"a\",\"version\":\"v1.2.0\",\"env\":\"<prod&>\u{2028}\"}",
                r#"{"env":"\u003cprod\u0026\u003e\u2028","version":"v1.2.0","weight":10,"zone":"a"}"#,
            ),
            ("text", r#"{"discox-attr":"text"}"#),
            (r#"{"a":{"b":[1]}}"#, r#"{"a":{"b":[1]},"discox-attr":"{\"a\":{\"b\":[1]}}"}"#),
            (r#"{"n":1.5,"t":true}"#, r#"{"n":1.5,"t":true}"#),
        ] {
            let expected = format!(r#"{{"Op":0,"Addr":"10.1.2.3:8080","Metadata":{metadata}}}"#);
            assert_eq!(encode(&record, attr, &options).unwrap(), expected);
        }
        assert_eq!(encode(&record, r#"{"enabled":false}"#, &options).unwrap_err().field(), Some("attr"));
        let named = LayoutOptions { instance_id: Some(InstanceId::from("a/b")), ..options };
        assert!(encode(&record, "", &named).is_err());
    }

    #[test]
    fn reads_what_go_reads() {
        for (value, expected) in [
            (r#"{"Op":1,"Addr":"10.1.2.8:1","Metadata":null}"#, r#"10.1.2.8:1 {"id":"x"}"#),
            (r#"{"addr":"fd00::3:1","extra":[{}]}"#, r#"[fd00::3]:1 {"id":"x"}"#),
            (r#"{"Addr":"a:1","addr":"b:2"}"#, r#"b:2 {"id":"x"}"#),
            (r#"{"Addr":"a:1","Metadata":"t"}"#, r#"a:1 {"":"t","id":"x"}"#),
            (
                r#"{"Addr":"a:1","Metadata":{"weight":"7","n":1,"o":{"a":1},"z":null}}"#,
                r#"a:1 {"id":"x","n":1,"o":"{\"a\":1}","weight":7}"#,
            ),
            (r#"{"Addr":"a:1","Metadata":{"weight":-1}}"#, r#"a:1 {"id":"x"}"#),
        ] {
            assert_eq!(read(value).as_deref(), Ok(expected));
        }
        for value in
            ["", "null", "{\"weight\":1}", "{\"Addr\":\"\"}", "{\"Addr\":5}", "{\"Addr\":\"a\"}", "{} {}"]
        {
            assert!(read(value).is_err(), "{value}");
        }
    }
}
